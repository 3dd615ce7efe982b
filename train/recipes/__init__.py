"""Training recipes from papers, as data: each module holds one `RECIPE`."""

from __future__ import annotations

from collections.abc import Mapping

from keras_resnet.nets.catalog import nearest

from . import digits, goyal2017, he2015_cifar, he2015_imagenet
from .recipe import Recipe as Recipe

RECIPES: Mapping[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (digits, he2015_cifar, he2015_imagenet, goyal2017)
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
