"""What a command is, and the options and checks that several share."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .data import ImageData, at_size, load_data, raw_images
from .evaluation.classes import check_channels, check_classes
from .rundir import Run


class Command(NamedTuple):
    """A subcommand: its parser's arguments and what it does with them."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds the positional run directory and which of its weights to take."""
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a training run")
    parser.add_argument(
        "--checkpoint",
        choices=("auto", "best", "last"),
        default="auto",
        help="weights to take: of the finished model (auto), or of a checkpoint",
    )


def add_data_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds the options that point a run at other data than it was trained on."""
    parser.add_argument("--dataset", help="another data set with the same classes")
    parser.add_argument("--data-dir", help="where TFDS data sets lie now")


def comma_separated(text: str) -> list[str]:
    """Splits an option's value."""
    return [part.strip() for part in text.split(",") if part.strip()]


def run_data(run: Run, args: argparse.Namespace) -> ImageData:
    """Opens the data of a run, or the other data that the options name, at the net's size.

    Raises:
        ValueError: If the data's classes or channels are not the run's.
    """
    changes = {
        key: value
        for key, value in (("dataset", args.dataset), ("data_dir", args.data_dir))
        if value is not None
    }
    config = dataclasses.replace(run.config.data, **changes)
    data = load_data(config, run.spec)
    net, outputs = str(run.directory.path), len(run.class_names)
    check_classes(data.class_names, run.class_names, outputs=outputs, data=config.dataset, net=net)
    check_channels(data.channels, run.model.inputs[0].shape[-1], data=config.dataset, net=net)
    return at_size(data, run.preprocess, run.config.augment, config.cache)


def split_images(
    run: Run, data: ImageData, split: str, limit: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns raw images and labels of a split at the net's size."""
    return raw_images(data.split(split), run.preprocess, data.channels, limit)


def parse_settings(pairs: Sequence[str]) -> Mapping[str, Any]:
    """Reads `--set KEY=VALUE` options; values are JSON, or plain text where they are not.

    Raises:
        ValueError: If there is no `=`.
    """
    settings = {}
    for pair in pairs:
        key, found, text = pair.partition("=")
        if not found:
            raise ValueError(f"`--set` takes KEY=VALUE. Received: {pair!r}")
        try:
            settings[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            settings[key.strip()] = text
    return settings
