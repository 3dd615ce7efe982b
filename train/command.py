"""A command of the command line, and the options that several commands share.

Importing this needs Keras on any backend: `list`, `info` and `recipes` run without TensorFlow.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .config import DataConfig

if TYPE_CHECKING:
    import numpy as np

    from .data import ImageData
    from .rundir import Run


class Command(NamedTuple):
    """A command: the options it adds to its parser, and its work; `run` returns the exit status.

    Its name and help text are in the table of `commands/__init__.py`.
    """

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds the directory of a run, and the choice of its weights."""
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a training run")
    add_checkpoint(parser)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of a run's weights."""
    parser.add_argument(
        "--checkpoint",
        choices=("auto", "best", "last"),
        default="auto",
        help="weights of a run to use: the finished model's (auto), or a checkpoint's",
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a net without a run."""
    parser.add_argument(
        "--weights",
        metavar="WEIGHTS",
        help="in place of RUN: a file of weights (.keras and others), hf://owner/repository, or a "
        "published name such as torchvision/v2",
    )
    parser.add_argument(
        "--model", "--net", dest="net", metavar="NET", help="the net, for published names"
    )


def add_data_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds the options that replace the data a run was trained on."""
    parser.add_argument("--dataset", help="another data set, with the same classes or some of them")
    parser.add_argument("--data-dir", help="directory of TFDS data sets, if it has moved")
    parser.add_argument(
        "--on-bad-image",
        choices=("fail", "skip", "trust"),
        help="what to do about unreadable images, if it differs from the training",
    )


def comma_separated(text: str) -> list[str]:
    """Splits an option's value at its commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def overridden(config: DataConfig, args: argparse.Namespace) -> DataConfig:
    """Returns the data's configuration with the options of `add_data_overrides` applied."""
    given = {
        "dataset": args.dataset,
        "data_dir": args.data_dir,
        "on_bad_image": args.on_bad_image,
    }
    return dataclasses.replace(
        config, **{name: value for name, value in given.items() if value is not None}
    )


def run_data(run: Run, args: argparse.Namespace) -> ImageData:
    """Opens a run's data, or the data of `add_data_overrides`, at the net's input size.

    What is skipped or assumed of the data is written to stderr.

    Raises:
        ValueError: If the data has other classes or channels than the run.
    """
    from .data import at_size, load_data
    from .evaluation.classes import check_channels

    config = overridden(run.config.data, args)
    channels = int(run.model.inputs[0].shape[-1])  # of the run's data, whatever its spec says
    spec = run.spec.replace(input_channels=channels)
    data = load_data(config, spec, class_names=run.class_names, stored=run.directory.listing)
    check_channels(data.channels, channels, data=config.dataset, net=str(run.directory.path))
    for note in data.notes:
        print(f"Note: {note}", file=sys.stderr)
    return at_size(data, run.preprocess, run.config.augment, config.cache)


def split_images(
    run: Run, data: ImageData, split: str, limit: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns raw images and labels of a split, at the net's input size."""
    from .data import raw_images

    return raw_images(data.split(split), run.preprocess, data.channels, limit)


def add_settings(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds `--set KEY=VALUE`, which `parse_settings` reads."""
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=help
    )


def parse_settings(pairs: Sequence[str]) -> Mapping[str, Any]:
    """Reads the values of `--set KEY=VALUE`: JSON, or plain text where they are not JSON.

    Raises:
        ValueError: If there is no `=`.
    """
    settings = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"`--set` takes KEY=VALUE. Received: {pair!r}")
        try:
            settings[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            settings[key.strip()] = text
    return settings
