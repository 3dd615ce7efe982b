"""`keras-resnet recipes`: list the training recipes, or print one as a configuration."""

from __future__ import annotations

import argparse
import json
import textwrap

from ..command import Command
from ..recipes import RECIPES, Recipe, get_recipe


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="recipe whose whole configuration to print"
    )
    parser.add_argument("--model", help="net that the recipe is configured for")


def _run(args: argparse.Namespace) -> int:
    if args.recipe is not None:
        recipe = get_recipe(args.recipe)
        config = recipe.configure(args.model or recipe.model, {"data.dataset": recipe.dataset})
        print(config.to_json(), end="")
        return 0
    if args.model is not None:
        raise ValueError(f"`--model` needs a RECIPE. Received: --model {args.model}")
    print("\n\n".join(map(_describe, RECIPES.values())))
    return 0


def _describe(recipe: Recipe) -> str:
    settings = (
        f"{path}={json.dumps(value, separators=(',', ':'))}"
        for path, value in recipe.settings.items()
    )
    lines = textwrap.wrap(" ".join(settings), 80, break_long_words=False, break_on_hyphens=False)
    return "\n".join(
        [
            recipe.name,
            f"  source    {recipe.source}",
            f"  expected  {recipe.expected}",
            "  settings  " + "\n            ".join(lines),
            *([f"  here      {recipe.here}"] if recipe.here else []),
            f"  command   {recipe.command} --output DIRECTORY",
        ]
    )


COMMAND = Command(_add_arguments, _run)
