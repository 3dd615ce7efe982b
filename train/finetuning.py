"""The configuration of a run that starts from trained weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config import ModelConfig, RunConfig, load_config, with_changes
from .recipes import Recipe, get_recipe

# What decides how weights are opened.
_OWN = ("model.", "data.", "quantize.")
# Fields of the configuration that the weights determine.
_OF_WEIGHTS = ("data.mean", "data.std", "data.crop_fraction", "data.image_size")


def finetuning(
    model: str, recipe: str | None, changes: Mapping[str, Any], output: Path | None
) -> RunConfig:
    """Returns the configuration of a run that starts from `model.weights`.

    The net and its preprocessing are those of the weights. What follows the number of images is
    taken from the run in `output`, if it is there already.

    Args:
        model: Name of the net, or `auto` for that of the weights.
        recipe: Name of the recipe; None for `finetune`, or `quantize` for a quantise-aware run.
            The recipe `quantize` makes a run quantise-aware.
        changes: Dotted fields that the user sets, `model.weights` and `data.dataset` among them.
        output: Directory of the run, which may be new.

    Raises:
        ValueError: If weights, data and recipe do not fit.
    """
    from .pretrained import open_pretrained, with_pretrained

    if changes.get("data.dataset") is None:
        raise ValueError(
            "Give the data to fine-tune on: --dataset with a TFDS name or a folder of class folders"
        )
    if recipe == "quantize":
        changes = {"quantize.scheme": "int8", **changes}
    aware = changes.get("quantize.scheme", "none") != "none"
    chosen = get_recipe(recipe or ("quantize" if aware else "finetune"))
    own = {path: value for path, value in changes.items() if path.startswith(_OWN)}
    start = ModelConfig(name=model, weights=changes["model.weights"])
    asked = with_changes(RunConfig(model=start, epochs=1), own)
    pretrained = open_pretrained(asked, output or Path())
    resolved = with_pretrained(asked, pretrained)
    of_weights: dict[str, Any] = {"model.spec": resolved.model.spec}
    if pretrained is not None and pretrained.preprocess is not None:
        of_weights |= {path: _value(resolved, path) for path in _OF_WEIGHTS}
    given = {**of_weights, **{p: v for p, v in changes.items() if not p.startswith("model.spec.")}}
    sized = _sized(chosen, resolved, changes, output)
    return chosen.configure(resolved.model.name, given, sized)


def training_images(config: RunConfig) -> int:
    """Returns the number of training images of a configuration, without reading images."""
    from .data import load_data
    from .rundir import spec_of

    # Folds of a TFDS data set need its images in memory; their order does not change the number.
    cache = config.data.cache if config.data.folds else "none"
    listed = dataclasses.replace(config.data, on_bad_image="trust", cache=cache, sampling="uniform")
    return len(load_data(listed, spec_of(config)).train)


def _sized(
    recipe: Recipe, config: RunConfig, changes: Mapping[str, Any], output: Path | None
) -> Mapping[str, Any] | None:
    """Returns the settings that follow the number of images, or None.

    The warm-up keeps its share of a run whose length the user sets.
    """
    if recipe.by_images is None:
        return None
    file = output and output / "config.json"
    if file and file.is_file():
        stored = load_config(file)
        sized = recipe.by_images(1, stored)
        if stored.recipe == recipe.name:
            values = {path: _value(stored, path) for path in sized}
            return {path: value for path, value in values.items() if value is not None}
    images = training_images(config)
    sized = dict(recipe.by_images(images, config))
    epochs = changes.get("epochs")
    if changes.get("steps") is not None:
        epochs = changes["steps"] * changes.get("batch_size", sized["batch_size"]) / images
    if epochs is not None:
        rest = max(0.0, epochs - changes.get("head_epochs", 0.0))
        sized["schedule.warmup_epochs"] *= rest / sized["epochs"]
    return sized


def _value(config: RunConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value
