"""`keras-resnet list`: list the nets."""

from __future__ import annotations

import argparse

import keras_resnet
from keras_resnet.analysis import count_spec
from keras_resnet.nets.catalog import nearest

from ..command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="names to list, such as 'cifar*'")
    parser.add_argument("--table", action="store_true", help="add parameters and multiply-adds")


def _run(args: argparse.Namespace) -> int:
    names = keras_resnet.list_variants(args.pattern)
    if not names:
        raise ValueError(
            f"No net matches {args.pattern!r}. {nearest(args.pattern, keras_resnet.variants)}"
        )
    if not args.table:
        print("\n".join(names))
        return 0
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    table = Table()
    table.add_column("net", no_wrap=True)
    for title in ("input", "parameters", "10^9 multiply-adds", "layers"):
        table.add_column(title, justify="right")
    for name in track(names, description="counting"):
        spec = keras_resnet.get_spec(name)
        counts = count_spec(spec)
        size = f"{spec.input_size} x {spec.input_size}"
        adds = f"{counts.multiply_adds / 1e9:.3f}"
        table.add_row(name, size, f"{counts.parameters:,}", adds, str(counts.layers))
    Console().print(table)
    return 0


COMMAND = Command(_add_arguments, _run)
