"""Options of `keras-resnet export` for precisions and the automatic choice of a file."""

from __future__ import annotations

import argparse
import re
import sys

from keras_resnet.export import Wanted
from keras_resnet.export.checks import PRECISIONS, Format, Precision
from keras_resnet.export.limits import SIGNAL_TO_NOISE, Limits

# Option by field of `Limits`.
LIMIT_OPTIONS = {
    field: "--min-signal-to-noise" + ("" if precision == "int8" else f"-{precision}")
    for precision, field in SIGNAL_TO_NOISE.items()
}
_UNITS = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "kib": 1024.0, "mib": 1024.0**2}
_TIMES = {"": 1.0, "ms": 1.0, "us": 1e-3, "s": 1e3}
# Below, a number was probably meant as a share, as earlier versions took it.
_SMALL_POINTS = 0.1


def add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "--auto",
        action="store_true",
        help="write every precision of --formats (or those of --precision), measure accuracy, "
        "latency and size, and keep the fastest file within --max-accuracy-drop, --max-latency and "
        "--max-size, with a table and a plot",
    )
    parser.add_argument(
        "--max-latency",
        type=milliseconds,
        metavar="TIME",
        help="with --auto: largest median time for one image on this machine, such as 5ms",
    )
    parser.add_argument(
        "--max-size", type=size, metavar="SIZE", help="with --auto: largest file, such as 300KB"
    )
    parser.add_argument(
        "--keep-all", action="store_true", help="with --auto: keep all candidates that are right"
    )
    for precision, field in SIGNAL_TO_NOISE.items():
        if precision != "int8":
            parser.add_argument(
                LIMIT_OPTIONS[field],
                type=float,
                metavar="DB",
                help=f"smallest signal-to-noise ratio of {precision} logits, in dB "
                f"({getattr(Limits, field):g})",
            )


def check_choice_arguments(args: argparse.Namespace) -> None:
    """Checks the options.

    Raises:
        ValueError: If an option applies to nothing.
    """
    for option in ("max_latency", "max_size", "keep_all"):
        if getattr(args, option) and not args.auto:
            raise ValueError(f"`--{option.replace('_', '-')}` applies to --auto")
    for precision, field in SIGNAL_TO_NOISE.items():
        option = LIMIT_OPTIONS[field]
        given = getattr(args, option[2:].replace("-", "_"))
        if given is not None and precision not in args.precision:
            raise ValueError(
                f"`{option}` applies to {precision} files. "
                f"Received: --precision {','.join(args.precision)}"
            )


def candidates(formats: list[Format]) -> list[Precision]:
    """Returns the precisions that `--auto` tries, those of the formats."""
    names: list[Precision] = [name for each in formats for name in PRECISIONS[each]]
    return list(dict.fromkeys(names))


def wanted(args: argparse.Namespace) -> Wanted:
    """Returns the limits of the choice."""
    drop = Wanted.accuracy_drop if args.max_accuracy_drop is None else args.max_accuracy_drop
    return Wanted(accuracy_drop=drop, latency_ms=args.max_latency, bytes=args.max_size)


def points(text: str) -> float:
    """Returns the share of percentage points: 0.005 for `0.5`, `0.5%` and `0.5 points`."""
    match = re.fullmatch(r"([0-9.]+)\s*(%|points?)?", text.strip())
    value = _number(match and match[1], text, "percentage points, such as 0.5 or 0.5%")
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must lie in 0 to 100 points, not {text!r}")
    if match and not match[2] and 0 < value < _SMALL_POINTS:
        print(
            f"Note: --max-accuracy-drop {text} is {value:g} percentage points; "
            f"for a share of {value:g} give {100 * value:g}%",
            file=sys.stderr,
        )
    return value / 100


def milliseconds(text: str) -> float:
    """Returns milliseconds for a time such as `5ms`, `800us` or `0.01s`."""
    return _with_unit(text, _TIMES, "a time such as 5ms")


def size(text: str) -> int:
    """Returns bytes for a size such as `300KB` (300,000) or `1MiB`."""
    return int(_with_unit(text, _UNITS, "a size such as 300KB"))


def _with_unit(text: str, units: dict[str, float], wanted: str) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].lower() not in units:
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
    value = _number(match[1], text, wanted) * units[match[2].lower()]
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text!r}")
    return value


def _number(digits: str | None, text: str, wanted: str) -> float:
    try:
        return float(digits or "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}") from None
