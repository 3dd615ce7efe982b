"""`keras-resnet prune`: make a run's net smaller, and fine-tune it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..command import (
    Command,
    add_data_overrides,
    add_run,
    add_settings,
    parse_settings,
    run_data,
)
from ..remote.address import remote_url


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_data_overrides(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="directory of the new run, also in an object store; the net before fine-tuning is the "
        "run OUTPUT-pruned",
    )
    parser.add_argument(
        "--macs",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of the multiply-adds to keep (%(default)s)",
    )
    parser.add_argument(
        "--method",
        choices=("channels", "depth", "both"),
        default="channels",
        help="remove channels inside units, whole residual units, or both (%(default)s)",
    )
    parser.add_argument(
        "--criterion",
        choices=("norm", "l1"),
        default="norm",
        help="channels are judged by the factors of their batch norm, or by the sum of the "
        "absolute weights of their filters (%(default)s)",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=512,
        help="validation images (training images without any) that units are judged on "
        "(%(default)s)",
    )
    parser.add_argument(
        "--no-finetune", action="store_true", help="write the pruned net as OUTPUT, untrained"
    )
    parser.add_argument(
        "--epochs", type=float, help="length of the fine-tuning (a quarter of the run's)"
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="rate at its start (a tenth of the run's); it falls to zero as a cosine",
    )
    add_settings(parser, "any other field of the fine-tuning's configuration")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _run(args: argparse.Namespace) -> int:
    _check(args)
    from ..pruning import Pruning, finetune_pruned, finetuned_config, prune_run
    from ..remote.mirror import run_output
    from ..rundir import open_run

    def say(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    run = open_run(args.run, args.checkpoint)
    data = run_data(run, args)
    pruning = Pruning(args.macs, args.method, args.criterion, args.images)
    name = args.shown.get(str(args.run), str(args.run.resolve()))
    output: str | Path = remote_url(args.output) or args.output
    pruned = output
    if not args.no_finetune:
        pruned = remote_url(f"{output}-pruned") or Path(f"{output}-pruned")
    with run_output(pruned, say=say) as (path, mirror):
        assert path is not None
        record = prune_run(run, path, pruning, data=data, say=say, name=name)
        if mirror is not None:
            mirror.start()
        config = None
        if not args.no_finetune:
            config = finetuned_config(run, path, _changes(args), str(pruned))
    if config is not None:
        with (
            contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout),
            run_output(output, say=say) as (path, mirror),
        ):
            assert path is not None
            directory, record = finetune_pruned(config, path, record, mirror)
        if not directory.model.is_file():
            return 1
    if args.json:
        print(json.dumps(record))
        return 0
    _show(record)
    return 0


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    changes: dict[str, Any] = dict(parse_settings(args.settings))
    for option in ("dataset", "data_dir", "on_bad_image"):
        if getattr(args, option) is not None:
            changes[f"data.{option}"] = getattr(args, option)
    if args.epochs is not None:
        changes["epochs"] = args.epochs
    if args.learning_rate is not None:
        changes["schedule.learning_rate"] = args.learning_rate
    return changes


def _check(args: argparse.Namespace) -> None:
    """Checks the options before anything is opened."""
    if not 0 < args.macs < 1:
        raise ValueError(
            f"`--macs` must be above 0 and below 1, a share of the multiply-adds. "
            f"Received: {args.macs}"
        )
    if args.images < 1:
        raise ValueError(f"`--images` must be at least 1. Received: {args.images}")
    given = {"--epochs": args.epochs, "--learning-rate": args.learning_rate}
    for option, value in given.items():
        if value is not None and not value > 0:
            raise ValueError(f"`{option}` must be above 0. Received: {value}")
        if value is not None and args.no_finetune:
            raise ValueError(f"`{option}` applies to the fine-tuning: leave out --no-finetune")
    if args.settings and args.no_finetune:
        raise ValueError("`--set` applies to the fine-tuning: leave out --no-finetune")
    place = args.shown.get(str(args.run), str(args.run.resolve()))
    if place == (remote_url(args.output) or str(args.output.resolve())):
        raise ValueError(f"`--output` must be another directory than RUN. Received: {place}")


def _show(record: Mapping[str, Any]) -> None:
    from ..presentation.findings import Findings, Table, print_findings
    from ..presentation.formats import percent

    names = {"before": "trained", "pruned": "pruned", "finetuned": "fine-tuned"}
    whole = record["before"]["multiply_adds"]
    rows = [
        {
            "Net": name,
            "Multiply-adds": figures["multiply_adds"],
            "Share": figures["multiply_adds"] / whole,
            "Parameters": figures["parameters"],
            "Units": ", ".join(map(str, figures["depths"])),
            "Inner channels": ", ".join(map(str, figures["inner_widths"])),
            f"Accuracy ({record['split']})": percent(figures["accuracy"]),
        }
        for key, name in names.items()
        if (figures := record.get(key)) is not None
    ]
    table = Table.of("pruning", "", rows, formats={"Share": "{:.3f}".format})
    print_findings(Findings("Pruning", (), tables=(table,)))


COMMAND = Command(_add_arguments, _run)
