"""`keras-resnet quickstart`: train, evaluate, export and report on the embedded digits."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import Command

if TYPE_CHECKING:
    from ..remote.mirror import Mirror


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models/quickstart"),
        help="directory of the run (%(default)s); also in an object store",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the run (%(default)s)")
    parser.add_argument("--epochs", type=float, help="epochs to train; fewer are less accurate")


def _run(args: argparse.Namespace) -> int:
    from ..remote.mirror import run_output

    with run_output(args.output) as (args.output, mirror):
        return _run_in(args, mirror)


def _run_in(args: argparse.Namespace, mirror: Mirror | None) -> int:
    from rich.console import Console

    from ..recipes import get_recipe
    from ..run_report import export_table, write_run_report
    from ..session import run_training
    from .export import COMMAND as EXPORT
    from .export import export_run

    started = time.monotonic()
    changes: dict[str, Any] = {"seed": args.seed, "data.dataset": "digits"}
    if args.epochs is not None:
        changes |= {"epochs": args.epochs, "schedule.warmup_epochs": min(2.0, args.epochs / 10)}
    config = get_recipe("digits").configure("cifar_resnet20", changes)
    directory = run_training(config, args.output, mirror=mirror)
    parser = argparse.ArgumentParser()
    EXPORT.add_arguments(parser)
    rows, failure = export_run(parser.parse_args([str(args.output), "--precision", "float32,int8"]))
    report = write_run_report(args.output)
    training = directory.metrics["training"]
    print()
    Console().print(export_table(rows))
    print(
        f"Trained in {training['seconds']:.0f} s "
        f"({training['images_per_second']:.0f} images/s); "
        f"the whole quickstart took {time.monotonic() - started:.0f} s"
    )
    print(f"Report: {report.resolve()}")
    if failure is not None:
        raise failure
    return 0


COMMAND = Command(_add_arguments, _run)
