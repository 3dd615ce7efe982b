"""Measurements of new nets: a batch of images, gradients by unit, the spectrum of a Jacobian."""

from __future__ import annotations

import dataclasses
import gc
import json
import time
from collections.abc import Sequence
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
    """Normalized images, their labels, and the number of classes."""

    images: np.ndarray
    labels: np.ndarray
    classes: int


@dataclasses.dataclass(frozen=True)
class InitialFlow:
    """The gradients of a new net.

    Attributes:
        trial: The net and the seed of its weights.
        gradients: Gradients by unit.
        spectrum: Singular values of the Jacobian, or None.
    """

    trial: Trial
    gradients: Gradients
    spectrum: Spectrum | None


def training_batch(config: RunConfig, count: int) -> Batch:
    """Returns training images, evenly spaced over the split, at the net's size, not augmented.

    Raises:
        ValueError: If the data does not fit the net, or has no training images.
    """
    from ..data import raw_images, resolve_data

    data, preprocess = resolve_data(config, spec_of(config))
    images, labels = raw_images(data.split("train"), preprocess, data.channels, count)
    return Batch(preprocess.normalize(images), labels, len(data.class_names))


def new_net(config: RunConfig, batch: Batch) -> Any:
    """Builds the net with the weights that training would start from."""
    return build(
        spec_of(config), classes=batch.classes, input_shape=batch.images.shape[1:], seed=config.seed
    )


def measure_new_nets(
    trials: Sequence[Trial], images: int, output: Path, *, spectra: bool = False
) -> list[InitialFlow]:
    """Measures each new net, or reads the measurement of an earlier session.

    Args:
        trials: Nets and seeds.
        images: Number of images.
        output: Directory of the study; there is a file for each net and seed below `starts`.
        spectra: Whether to compute the singular values of the Jacobian too, on 8 images.
    """
    flows = []
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
            print(
                f"[{number}/{len(trials)}] {trial.arm.label}, seed {trial.seed}: measured in "
                f"{time.monotonic() - started:.1f} s"
            )
            keras.backend.clear_session()
            gc.collect()
        parts = tuple(UnitGradient(**part) for part in kept["gradients"]["parts"])
        spectrum = kept["values"] and Spectrum(
            **{**kept["values"], "values": tuple(kept["values"]["values"])}
        )
        flows.append(InitialFlow(trial, Gradients(kept["gradients"]["loss"], parts), spectrum))
    return flows


def _measure(config: RunConfig, images: int, spectra: bool) -> dict[str, Any]:
    batch = training_batch(config, images)
    chain = Chain(new_net(config, batch))
    gradients = gradient_flow(chain, batch.images, batch.labels)
    spectrum = jacobian_singular_values(chain, batch.images[:8]) if spectra else None
    return {
        "gradients": dataclasses.asdict(gradients),
        "values": None if spectrum is None else dataclasses.asdict(spectrum),
    }
