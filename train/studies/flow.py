"""Nets measured as they start: a batch of real images, gradients by unit, a Jacobian's spectrum."""

from __future__ import annotations

import dataclasses
import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet import build
from keras_resnet.analysis import Chain, Gradients, UnitGradient, gradient_flow
from keras_resnet.analysis.jacobian import Spectrum, jacobian_singular_values

from ..config import RunConfig
from ..files import read_json, write_json
from ..rundir import spec_of
from .plan import Trial


class Batch(NamedTuple):
    """Images as the net takes them, normalised, and what the net must be built for."""

    images: np.ndarray
    labels: np.ndarray
    classes: int


@dataclasses.dataclass(frozen=True)
class Start:
    """A new net, measured.

    Attributes:
        trial: The net and the seed of its weights.
        gradients: By unit.
        spectrum: Of the Jacobian, or None.
    """

    trial: Trial
    gradients: Gradients
    spectrum: Spectrum | None


def training_batch(config: RunConfig, count: int) -> Batch:
    """Returns training images, drawn evenly over the split, at the net's size and not augmented.

    Raises:
        ValueError: If the data does not fit the net, or has no training images.
    """
    from ..data import raw_images
    from ..session import resolve_data

    data, preprocess = resolve_data(config, spec_of(config))
    images, labels = raw_images(data.split("train"), preprocess, data.channels, count)
    return Batch(preprocess.normalize(images), labels, len(data.class_names))


def new_net(config: RunConfig, batch: Batch) -> Any:
    """Builds the very net that training would start from."""
    return build(
        spec_of(config), classes=batch.classes, input_shape=batch.images.shape[1:], seed=config.seed
    )


def measure_starts(
    trials: Sequence[Trial],
    images: int,
    output: Path,
    *,
    spectra: bool = False,
    say: Callable[[str], None] = print,
) -> list[Start]:
    """Measures each net as it starts, or reads what an earlier session measured.

    Args:
        trials: Nets and seeds.
        images: Size of the batch.
        output: Directory of the study; a file for each net and seed lies below `starts`.
        spectra: Whether to find the singular values of the Jacobian too, of a batch of 8.
        say: Told of what is measured.
    """
    starts = []
    for number, trial in enumerate(trials, start=1):
        file = output / "starts" / f"{trial.name}.json"
        query = {
            "config": json.loads(trial.config.to_json()),
            "images": images,
            "spectrum": spectra,
        }
        kept = read_json(file) if file.is_file() else {}
        if kept.get("query") != query:
            started = time.monotonic()
            kept = {"query": query, **_measure(trial.config, images, spectra)}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, kept)
            say(
                f"[{number}/{len(trials)}] {trial.arm.label}, seed {trial.seed}: measured in "
                f"{time.monotonic() - started:.1f} s"
            )
            keras.backend.clear_session()
            gc.collect()
        parts = tuple(UnitGradient(**part) for part in kept["gradients"]["parts"])
        values = kept["values"] and Spectrum(
            **{**kept["values"], "values": tuple(kept["values"]["values"])}
        )
        starts.append(Start(trial, Gradients(kept["gradients"]["loss"], parts), values))
    return starts


def _measure(config: RunConfig, images: int, spectra: bool) -> dict[str, Any]:
    batch = training_batch(config, images)
    chain = Chain(new_net(config, batch))
    found = gradient_flow(chain, batch.images, batch.labels)
    spectrum = jacobian_singular_values(chain, batch.images[:8]) if spectra else None
    return {
        "gradients": dataclasses.asdict(found),
        "values": None if spectrum is None else dataclasses.asdict(spectrum),
    }
