"""The options that studies which train have in common, and their presets."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..command import comma_separated, parse_settings
from ..strategies import NAMES, check_name
from .plan import Budget


@dataclasses.dataclass(frozen=True)
class Preset:
    """A budget by name.

    Attributes:
        steps: Length of each run, steps.
        seeds: Runs of each arm.
        dataset: Data set where none is given.
        batch_size: Images a step.
        depths: Depths that are compared.
        warmup: Whether the rate grows over the first tenth of a run, in every arm alike.
        settings: Dotted fields of the configuration that differ from the recipe's.
    """

    steps: int
    seeds: int
    dataset: str
    batch_size: int
    depths: tuple[int, ...]
    warmup: bool = True
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# Images of 16 pixels and batches of 64 leave a step an eighth of the recipe's multiply-adds, at the
# rate that its 0.1 for 128 is in proportion, decaying throughout: an hour then holds enough steps.
# In 1,000 of the recipe's own (32 pixels, 128 images) ResNet-56 had not caught up with ResNet-20's
# faster start (training loss 1.03 against 0.97 around step 800, one seed).
SHORT: Mapping[str, Any] = {
    "schedule.kind": "cosine",
    "schedule.learning_rate": 0.05,
    "data.image_size": 16,
    "augment.pad": 2,
}

# What the digits need to be comparable: plain cross-entropy.
_DIGITS: Mapping[str, Any] = {"optimizer.label_smoothing": 0.0}


def add_budget(parser: argparse.ArgumentParser, presets: Mapping[str, Preset]) -> None:
    """Adds the options of a study's budget; each wins over the preset's value."""
    told = "; ".join(
        f"{name}: {', '.join(map(str, p.depths))} layers, {p.seeds} seed(s), {p.steps} steps on "
        f"{p.dataset}"
        for name, p in presets.items()
    )
    parser.add_argument("--preset", choices=tuple(presets), default="smoke", help=told)
    parser.add_argument("--dataset", help="digits, synthetic, a TFDS name or a folder of classes")
    parser.add_argument("--data-dir", help="where TFDS data sets lie or are put")
    parser.add_argument("--recipe", help="recipe of every run; fits the data by default")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each net, seeds 0 to N-1")
    parser.add_argument("--epochs", type=float, help="length of each run in passes over the data")
    parser.add_argument("--steps", type=int, help="length of each run in steps")
    parser.add_argument("--batch-size", type=int, help="images a step")
    parser.add_argument("--strategy", help=NAMES)
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other field of the runs' configuration, such as schedule.learning_rate=0.05",
    )
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the directory of the study."""
    parser.add_argument(
        "--output", type=Path, required=True, help="directory of the study; a study in it goes on"
    )


def budget_of(args: argparse.Namespace, presets: Mapping[str, Preset]) -> Budget:
    """Returns the budget that the options describe.

    Raises:
        ValueError: If an option has a wrong value.
    """
    preset = presets[args.preset]
    if args.epochs is not None and args.steps is not None:
        raise ValueError("Give the length of the runs as --epochs or as --steps, one of the two")
    seeds = preset.seeds if args.seeds is None else args.seeds
    if seeds < 1:
        raise ValueError(f"`--seeds` must be at least 1. Received: {seeds}")
    dataset = args.dataset or preset.dataset
    settings = {
        **preset.settings,
        **(_DIGITS if dataset == "digits" else {}),
        **parse_settings(args.settings),
    }
    if args.data_dir is not None:
        settings["data.data_dir"] = args.data_dir
    if args.strategy is not None:
        check_name(args.strategy)
        settings["runtime.strategy"] = args.strategy
    steps = args.steps if args.steps is not None else preset.steps
    return Budget(
        dataset=dataset,
        recipe=args.recipe or ("digits" if dataset == "digits" else "he2015-cifar"),
        seeds=tuple(range(seeds)),
        steps=None if args.epochs is not None else steps,
        epochs=args.epochs,
        batch_size=args.batch_size or preset.batch_size,
        settings=settings,
        warmup=preset.warmup,
    )


def depths_of(text: str | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """Reads `20,32,56`.

    Raises:
        ValueError: If one is no number, or stands twice.
    """
    if text is None:
        return default
    parts = comma_separated(text)
    if not parts or not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ValueError(
            f"`--depths` takes numbers of layers, each once, such as 20,56,110. Received: {text!r}"
        )
    return tuple(sorted(map(int, parts)))
