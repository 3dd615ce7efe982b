"""`keras-resnet study NAME`: comparisons of nets, and analyses of single ones."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

from keras_resnet.nets.catalog import nearest

from ..command import Command

# Study -> module below `studies` and what the overview says; imported when it is given.
STUDIES = {
    "degradation": ("degradation", "plain against residual nets at several depths"),
    "shortcuts": ("shortcuts", "kinds of shortcuts and places of the activation, at one depth"),
    "alternatives": ("alternatives", "shortcut against what might replace it, at equal cost"),
    "bottleneck": ("bottleneck", "basic against bottleneck units at equal depth and equal cost"),
    "gradient-flow": ("gradient_flow", "gradients by unit, at the start and along training"),
    "responses": ("responses", "how strongly the layers of trained runs respond"),
    "identity": ("identity", "how far a unit is from the identity"),
    "depth-cost": ("depth_cost", "build, first step, step and memory against depth"),
}


class _Dispatch(argparse.Action):
    """Hands what follows a study's name to that study's own parser."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if not values:
            parser.error(f"which study? One of {', '.join(STUDIES)}")
        name, *words = list(values)
        if name not in STUDIES:
            parser.error(f"unknown study {name!r}. {nearest(name, list(STUDIES))}")
        module = importlib.import_module(f"..studies.{STUDIES[name][0]}", __package__)
        study: Command = module.STUDY
        own = argparse.ArgumentParser(prog=f"{parser.prog} {name}", description=study.help)
        study.add_arguments(own)
        namespace.run_study = study.run
        namespace.options = own.parse_args([word for word in words if word != "--debug"])


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["studies:", *(f"  {name:<16}{text}" for name, (_, text) in STUDIES.items())]
    )
    parser.add_argument(
        "study",
        nargs=argparse.REMAINDER,
        action=_Dispatch,
        metavar="STUDY ...",
        help="a study and its options; `STUDY --help` lists them",
    )


def _run(args: argparse.Namespace) -> int:
    return int(args.run_study(args.options))


COMMAND = Command("study", "compare nets, and see why deep ones train", _add_arguments, _run)
