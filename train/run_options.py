"""The options that describe a run, and the configuration that they come to."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet import get_spec

from .command import parse_settings
from .config import RunConfig, load_config, with_changes
from .recipes import RECIPES, get_recipe
from .strategies import NAMES

# Option -> field of the configuration, with argparse's keywords.
_FIELDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "--stacked",
        "model.stacked",
        {
            "action": argparse.BooleanOptionalAction,
            "help": "trace units that are alike once; by default from 300 layers on",
        },
    ),
    (
        "--dataset",
        "data.dataset",
        {"help": "digits, synthetic, a TFDS name or a folder of classes"},
    ),
    ("--data-dir", "data.data_dir", {"help": "where TFDS data sets lie or are put"}),
    (
        "--validation",
        "data.validation",
        {
            "type": float,
            "metavar": "FRACTION",
            "help": "share of training images to hold out and choose the weights by",
        },
    ),
    (
        "--image-size",
        "data.image_size",
        {"type": int, "metavar": "PIXELS", "help": "height and width that the net is given"},
    ),
    ("--classes", "data.classes", {"type": int, "help": "number of classes the data must have"}),
    (
        "--on-bad-image",
        "data.on_bad_image",
        {
            "choices": ("fail", "skip", "trust"),
            "help": "what to do about unreadable images of a folder",
        },
    ),
    ("--epochs", "epochs", {"type": float, "help": "length of the run in passes over the data"}),
    ("--steps", "steps", {"type": int, "help": "length of the run in steps"}),
    (
        "--batch-size",
        "batch_size",
        {"type": int, "help": "global batch: images a step over all replicas"},
    ),
    ("--learning-rate", "schedule.learning_rate", {"type": float, "help": "after warm-up"}),
    ("--label-smoothing", "optimizer.label_smoothing", {"type": float}),
    (
        "--ema",
        "optimizer.ema",
        {"type": float, "metavar": "MOMENTUM", "help": "evaluate an average of the weights"},
    ),
    ("--seed", "seed", {"type": int, "help": "of weights, order and augmentation"}),
    ("--strategy", "runtime.strategy", {"metavar": "NAME", "help": NAMES}),
    (
        "--sync-batch-norm",
        "runtime.sync_batch_norm",
        {
            "action": argparse.BooleanOptionalAction,
            "help": "average batch-norm statistics over replicas",
        },
    ),
    (
        "--precision",
        "runtime.precision",
        {"choices": ("float32", "mixed_bfloat16", "mixed_float16")},
    ),
    (
        "--xla",
        "runtime.xla",
        {"action": argparse.BooleanOptionalAction, "help": "compile the step with XLA"},
    ),
    (
        "--remat",
        "runtime.remat",
        {
            "choices": ("none", "unit", "stage"),
            "help": "compute activations twice rather than keep them: less memory, more time",
        },
    ),
    (
        "--steps-per-call",
        "runtime.steps_per_call",
        {"type": int, "help": "steps in one call of the graph"},
    ),
    (
        "--deterministic",
        "runtime.deterministic",
        {
            "action": argparse.BooleanOptionalAction,
            "help": "only operations that repeat to the last bit",
        },
    ),
    (
        "--checkpoint-steps",
        "checkpoint.every_steps",
        {"type": int, "metavar": "N", "help": "steps between checkpoints"},
    ),
    (
        "--checkpoint-minutes",
        "checkpoint.every_minutes",
        {"type": float, "metavar": "N", "help": "minutes between checkpoints"},
    ),
)


def add_run_options(parser: argparse.ArgumentParser, helps: Mapping[str, str]) -> None:
    """Adds the options that `configuration` reads.

    Args:
        parser: Of the command.
        helps: Option to another help text than `train` has for it.
    """
    parser.add_argument("--model", help="a net of `keras-resnet list`")
    parser.add_argument("--recipe", help=f"one of {', '.join(RECIPES)}; fits the net by default")
    parser.add_argument("--config", type=Path, help="start from another run's config.json")
    parser.set_defaults(length_example="--epochs 90, for instance")
    for option, field, keywords in _FIELDS:
        if option in helps:
            keywords = {**keywords, "help": helps[option]}
        # None tells an option that was not given from one that was.
        if not keywords.keys() & {"metavar", "choices", "action"}:
            keywords = {"metavar": option.strip("-").replace("-", "_").upper(), **keywords}
        parser.add_argument(option, dest=field, default=None, **keywords)
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other field of config.json, such as optimizer.momentum=0.95 or "
        "model.spec.shortcut=C",
    )


def configuration(args: argparse.Namespace) -> RunConfig:
    """Returns the run's configuration as the options describe it.

    Raises:
        ValueError: If an option names something unknown or has a wrong value.
    """
    values = vars(args)
    changes: dict[str, Any] = {
        field: values[field] for _, field, _ in _FIELDS if values[field] is not None
    }
    changes |= parse_settings(args.settings)
    if args.config is not None:
        return _from_file(args, changes)
    model = args.model or "cifar_resnet20"
    spec = get_spec(model)
    dataset = changes.get("data.dataset")
    if dataset is None:
        raise ValueError(
            "Give the data: --dataset digits, a TFDS name or a folder of class folders"
        )
    fitting = "he2015-imagenet" if spec.stem == "imagenet" else "he2015-cifar"
    recipe = get_recipe(args.recipe or ("digits" if dataset == "digits" else fitting))
    papers = dataset == "digits" or dataset.startswith(("cifar", "imagenet"))
    if args.recipe is None and not papers and not changes.keys() & {"epochs", "steps"}:
        raise ValueError(
            f"Say how long to train on {dataset!r}: {args.length_example}. The length of the "
            f"recipe that fits the net, {recipe.name}, is meant for other data; "
            f"--recipe {recipe.name} takes it all the same"
        )
    return recipe.configure(model, changes)


def _from_file(args: argparse.Namespace, changes: Mapping[str, Any]) -> RunConfig:
    if args.recipe is not None:
        raise ValueError("Give --config or --recipe, one of the two: a config holds its recipe")
    config = load_config(args.config)
    changes = dict(changes)
    if args.model is not None:
        get_spec(args.model)
        changes["model.name"] = args.model
    if "epochs" in changes or "steps" in changes:
        changes = {"epochs": None, "steps": None, **changes}
    return with_changes(config, changes)
