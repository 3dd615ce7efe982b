"""Options that describe a run, derived from the configuration's fields, and what they describe."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from keras_resnet import get_spec

from .command import add_settings, parse_settings
from .config import (
    DataConfig,
    Field,
    RunConfig,
    all_fields,
    as_begun,
    load_config,
    with_changes,
)
from .finetuning import finetuning
from .recipes import RECIPES, get_recipe

_NO_HELPS: Mapping[str, str] = {}
_NO_DATA = (
    "Give the data: --dataset digits, a TFDS name, a folder of class folders, or a CSV file of "
    "images and labels"
)


def add_run_options(parser: argparse.ArgumentParser, helps: Mapping[str, str] = _NO_HELPS) -> None:
    """Adds the options that `configuration` reads.

    Args:
        parser: The command's parser.
        helps: Help text by dotted field, where the command's differs from the field's own.
    """
    parser.add_argument("--model", help="a net of `keras-resnet list`")
    parser.add_argument(
        "--recipe", help=f"one of {', '.join(RECIPES)}; by default the one that fits the net"
    )
    parser.add_argument("--config", type=Path, help="start from another run's config.json")
    add_field_options(parser, None, helps)
    add_settings(
        parser,
        "any other field of config.json, such as optimizer.momentum=0.95 or model.spec.shortcut=C",
    )


def add_field_options(
    parser: argparse.ArgumentParser,
    paths: Collection[str] | None,
    helps: Mapping[str, str] = _NO_HELPS,
) -> None:
    """Adds the options of fields of the configuration, each stored under its dotted path.

    Args:
        parser: The command's parser.
        paths: Dotted paths of the fields; all that have an option where None.
        helps: Help text by dotted path, where the command's differs from the field's own.
    """
    for field in all_fields(RunConfig):
        setting = field.setting
        if setting.option and (paths is None or field.path in paths):
            text = _option_help(helps.get(field.path, setting.help))
            # The default None tells an option that was not given from one that was.
            parser.add_argument(setting.option, dest=field.path, help=text, **_keywords(field))


def given_fields(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of the options of `add_field_options` that were given, by dotted path."""
    values = {field.path: getattr(args, field.path, None) for field in all_fields(RunConfig)}
    return {path: value for path, value in values.items() if value is not None}


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns all settings that were given, as options and by `--set`, by dotted path."""
    return {**given_fields(args), **parse_settings(args.settings)}


def configuration(args: argparse.Namespace, length: str = "--epochs 90") -> RunConfig:
    """Returns the run's configuration as the options describe it.

    Args:
        args: The options of `add_run_options`.
        length: How the command is given a length, for the error of a missing one.

    Raises:
        ValueError: If an option names something unknown or has a wrong value.
    """
    changes = given_settings(args)
    if args.config is not None:
        return _from_file(args, changes)
    if changes.get("model.weights") is not None:
        return finetuning(args.model or "auto", args.recipe, changes, getattr(args, "output", None))
    from .data import check_dataset

    model = args.model or "cifar_resnet20"
    spec = get_spec(model)
    dataset = changes.get("data.dataset")
    if dataset is None:
        raise ValueError(_NO_DATA)
    fitting = "he2015-imagenet" if spec.stem == "imagenet" else "he2015-cifar"
    recipe = get_recipe(args.recipe or ("digits" if dataset == "digits" else fitting))
    if recipe.by_images is not None:
        raise ValueError(f"Recipe {recipe.name} starts from trained weights: give --weights")
    papers = dataset == "digits" or dataset.startswith(("cifar", "imagenet"))
    given = changes.keys() & {"epochs", "steps"} or _needs_weights(changes)
    if args.recipe is None and not papers and not given:
        # A wrong name is said before a length is asked for.
        check_dataset(DataConfig(dataset=dataset, data_dir=changes.get("data.data_dir")))
        raise ValueError(
            f"Give the length of the run on {dataset!r}: {length}, for instance. The recipe that "
            f"fits the net, {recipe.name}, has a length for other data; --recipe {recipe.name} "
            "uses it all the same"
        )
    return recipe.configure(model, changes)


def _needs_weights(changes: Mapping[str, Any]) -> bool:
    """Returns whether `RunConfig` refuses the settings without weights to fine-tune."""
    return (
        changes.get("quantize.scheme", "none") != "none"
        or changes.get("model.freeze") is not None
        or changes.get("head_epochs", 0) != 0
    )


def resumed(config: RunConfig, args: argparse.Namespace, output: Path | None) -> RunConfig:
    """Returns the configuration, or what it means for a run of an earlier version in `output`.

    Prints the settings that are the run's and not today's.

    Args:
        config: What `configuration` returned for `args`.
        args: The options of `add_run_options`.
        output: Directory of the run, which may be new.

    Raises:
        ValueError: If the run's `config.json` is damaged.
    """
    file = output and output / "config.json"
    if not file or not file.is_file():
        return config
    given = given_settings(args)
    config, kept = as_begun(config, file, given)
    if kept:
        print(
            f"Note: {output} was begun by an earlier version and goes on as then: {', '.join(kept)}"
        )
    return config


def _from_file(args: argparse.Namespace, changes: dict[str, Any]) -> RunConfig:
    if args.recipe is not None:
        raise ValueError("Give --config or --recipe, one of the two: a config holds its recipe")
    config = load_config(args.config)
    if args.model is not None:
        get_spec(args.model)
        changes["model.name"] = args.model
    if "epochs" in changes or "steps" in changes:
        changes = {"epochs": None, "steps": None, **changes}
    return with_changes(config, changes)


def _option_help(text: str) -> str:
    """Returns a field's help text in the style of argparse: lower case, no final full stop."""
    text = text.replace("`", "").replace("%", "%%").removesuffix(".")
    return text[0].lower() + text[1:]


def _keywords(field: Field) -> dict[str, Any]:
    """Returns what argparse needs to know of a field's type."""
    if field.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if field.choices:
        return {"choices": field.choices}
    metavar = field.setting.metavar or {int: "N", float: "NUMBER", str: "TEXT"}[field.type]
    return {"type": field.type, "metavar": metavar}
