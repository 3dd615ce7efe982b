"""Training recipes, as data: each module of a recipe holds one `RECIPE`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_resnet import get_spec
from keras_resnet.nets.catalog import nearest

from ..config import RunConfig, ScheduleConfig
from . import (
    bag_of_tricks,
    digits,
    fast_cifar,
    finetune,
    goyal2017,
    he2015_cifar,
    he2015_imagenet,
    he2016_cifar,
    quantize,
    resnet_rs,
    rsb_a1,
    rsb_a2,
    rsb_a3,
    torchvision_v2,
    wrn_cifar,
)
from .recipe import Recipe as Recipe

RECIPES: Mapping[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        digits,
        finetune,
        quantize,
        fast_cifar,
        he2015_cifar,
        he2016_cifar,
        wrn_cifar,
        he2015_imagenet,
        goyal2017,
        bag_of_tricks,
        resnet_rs,
        torchvision_v2,
        rsb_a1,
        rsb_a2,
        rsb_a3,
    )
}


def get_recipe(name: str) -> Recipe:
    """Returns a recipe by name.

    Raises:
        ValueError: If the name is unknown; lists the nearest names.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise ValueError(f"Unknown recipe {name!r}. {nearest(name, RECIPES)}") from None


def describe_choice(config: RunConfig) -> str:
    """Returns one line that states what a recipe chose by the data; "" for other recipes."""
    return finetune.describe(config) if config.recipe == finetune.RECIPE.name else ""


def fit_warmup(
    config: RunConfig, *, total_steps: int, steps_per_epoch: float
) -> tuple[ScheduleConfig, str]:
    """Shortens a recipe's own warm-up to a tenth of a run that is not longer than the warm-up.

    Args:
        config: The run.
        total_steps: Length of the run in steps.
        steps_per_epoch: Steps per pass over the training images.

    Returns:
        The schedule, and a note of the change; an empty note if the schedule is unchanged. A
        warm-up that the user set is not changed.
    """
    schedule, recipe = config.schedule, RECIPES.get(config.recipe)
    warmup = schedule.warmup_steps + round(schedule.warmup_epochs * steps_per_epoch)
    if warmup < total_steps or recipe is None:
        return schedule, ""
    settings = {**recipe.settings, **recipe.adapt(get_spec(config.model.name))}
    for name in ("warmup_steps", "warmup_epochs"):
        if getattr(schedule, name) != settings.get(f"schedule.{name}", 0):
            return schedule, ""
    shorter = total_steps // 10
    note = (
        f"The warm-up of recipe {recipe.name}, {warmup} steps, is not shorter than the run of "
        f"{total_steps} steps: it is shortened to {shorter} steps"
    )
    return dataclasses.replace(schedule, warmup_steps=shorter, warmup_epochs=0.0), note
