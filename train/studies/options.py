"""The options that studies share, and the presets of their budgets."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..command import add_settings, comma_separated, parse_settings
from ..strategies import NAMES, check_name
from .plan import Budget


@dataclasses.dataclass(frozen=True)
class Preset:
    """A budget by name.

    Attributes:
        steps: Length of each run, steps.
        seeds: Number of runs per arm.
        dataset: Default data set.
        batch_size: Global batch size.
        depths: Depths to compare.
        warmup: Whether every arm's learning rate rises over the first tenth of a run.
        settings: Dotted fields of the configuration that differ from the recipe's.
    """

    steps: int
    seeds: int
    dataset: str
    batch_size: int
    depths: tuple[int, ...]
    warmup: bool = True
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# With images of 16 pixels and batches of 64 a step needs an eighth of the recipe's multiply-adds,
# so that an hour has enough steps; the learning rate is the recipe's 0.1 for 128 images, scaled.
# After 1,000 steps of the recipe itself (32 pixels, 128 images) ResNet-56 had not caught up with
# ResNet-20's faster start (training loss 1.03 against 0.97 around step 800, one seed).
_SHORT: Mapping[str, Any] = {
    "schedule.kind": "cosine",
    "schedule.learning_rate": 0.05,
    "data.image_size": 16,
    "augment.pad": 2,
}

# The training loss on the digits is comparable with other data only without label smoothing.
_DIGITS: Mapping[str, Any] = {"optimizer.label_smoothing": 0.0}


def presets(
    smoke: int,
    short: int,
    *,
    paper_seeds: int,
    depths: tuple[int, ...],
    paper_depths: tuple[int, ...],
) -> dict[str, Preset]:
    """Returns the presets of a study: `smoke` on digits, `short` on CIFAR-10, and the paper's.

    Args:
        smoke: Steps of the shortest runs.
        short: Steps of runs that take about an hour in all.
        paper_seeds: Seeds of the paper's budget of 64k steps, with the paper's own warm-up.
        depths: Depths to compare.
        paper_depths: Depths to compare with the paper's budget.
    """
    return {
        "smoke": Preset(smoke, 1, "digits", 64, depths),
        "short": Preset(short, 2, "cifar10", 64, depths, settings=_SHORT),
        "paper": Preset(64_000, paper_seeds, "cifar10", 128, paper_depths, warmup=False),
    }


def add_budget(parser: argparse.ArgumentParser, presets: Mapping[str, Preset]) -> None:
    """Adds the options of a study's budget; each overrides the preset's value."""
    values = "; ".join(
        f"{name}: {', '.join(map(str, p.depths))} layers, {p.seeds} seed(s), {p.steps} steps on "
        f"{p.dataset}"
        for name, p in presets.items()
    )
    parser.add_argument("--preset", choices=tuple(presets), default="smoke", help=values)
    parser.add_argument("--dataset", help="digits, synthetic, a TFDS name or a folder of classes")
    parser.add_argument("--data-dir", help="directory of TFDS data sets")
    parser.add_argument("--recipe", help="recipe of every run; fits the data by default")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each net, seeds 0 to N-1")
    parser.add_argument("--epochs", type=float, help="length of each run in epochs")
    parser.add_argument("--steps", type=int, help="length of each run in steps")
    parser.add_argument("--batch-size", type=int, help="images per step")
    parser.add_argument("--strategy", help=NAMES)
    add_settings(
        parser, "any other field of the runs' configuration, such as schedule.learning_rate=0.05"
    )
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the study's directory."""
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="directory of the study, which is resumed",
    )


def add_depths(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Adds the depths of a study's nets."""
    parser.add_argument("--depths", help=help_text)


def check_at_least_one(args: argparse.Namespace, *options: str) -> None:
    """Checks that options, where given, are at least 1.

    Raises:
        ValueError: If one is not.
    """
    for option in options:
        value = getattr(args, option)
        if value is not None and value < 1:
            raise ValueError(f"`--{option}` must be at least 1. Received: {value}")


def budget_of(args: argparse.Namespace, presets: Mapping[str, Preset]) -> Budget:
    """Returns the budget that the options describe.

    Raises:
        ValueError: If an option is invalid.
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
        ValueError: If one is not a number, or is repeated.
    """
    if text is None:
        return default
    parts = comma_separated(text)
    if not parts or not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ValueError(
            f"`--depths` takes numbers of layers, each once, such as 20,56,110. Received: {text!r}"
        )
    return tuple(sorted(map(int, parts)))
