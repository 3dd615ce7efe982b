"""`keras-resnet list`: list the nets, or the published weights."""

from __future__ import annotations

import argparse
import fnmatch

import keras_resnet
from keras_resnet.analysis import Counts, count_spec
from keras_resnet.nets.catalog import nearest
from keras_resnet.weights import SOURCES, Source

from ..command import Command

# Size of the file (MiB) and top-5 accuracy (%) as their publishers state them, by the URL's last
# part: torchvision's `Weights.meta` (`_file_size`, `acc@5`), keras.io's table of applications.
_STATED: dict[str, tuple[float, float]] = {
    "resnet18-f37072fd.pth": (44.661, 89.078),
    "resnet34-b627a593.pth": (83.275, 91.420),
    "resnet50-0676ba61.pth": (97.781, 92.862),
    "resnet50-11ad3fa6.pth": (97.79, 95.434),
    "resnet101-63fe2227.pth": (170.511, 93.546),
    "resnet101-cd907fc2.pth": (170.53, 95.780),
    "resnet152-394f9c45.pth": (230.434, 94.046),
    "resnet152-f82ba261.pth": (230.474, 96.002),
    "resnext50_32x4d-7cdf4587.pth": (95.789, 93.698),
    "resnext50_32x4d-1a0047aa.pth": (95.833, 95.340),
    "resnext101_32x8d-8ba56ff5.pth": (339.586, 94.526),
    "resnext101_32x8d-110c445d.pth": (339.673, 96.228),
    "resnext101_64x4d-173b62eb.pth": (319.318, 96.454),
    "wide_resnet50_2-95faca4d.pth": (131.82, 94.086),
    "wide_resnet50_2-9ba9bcbe.pth": (263.124, 95.758),
    "wide_resnet101_2-32ee1156.pth": (242.896, 94.284),
    "wide_resnet101_2-d733dc28.pth": (484.747, 96.020),
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5": (98, 92.1),
    "resnet101_weights_tf_dim_ordering_tf_kernels.h5": (171, 92.8),
    "resnet152_weights_tf_dim_ordering_tf_kernels.h5": (232, 93.1),
    "resnet50v2_weights_tf_dim_ordering_tf_kernels.h5": (98, 93.0),
    "resnet101v2_weights_tf_dim_ordering_tf_kernels.h5": (171, 93.8),
    "resnet152v2_weights_tf_dim_ordering_tf_kernels.h5": (232, 94.2),
}
# Where the publishers state accuracy and size, by layout.
_PUBLISHERS = {
    "keras": "https://keras.io/api/applications/",
    "torchvision": "https://docs.pytorch.org/vision/stable/models.html",
    "akamaster": "https://github.com/akamaster/pytorch_resnet_cifar10",
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="names to list, such as 'cifar*'")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--table", action="store_true", help="add parameters and multiply-adds")
    kind.add_argument(
        "--weights",
        action="store_true",
        help="list the published weights: size, accuracy as measured by their publisher, "
        "parameters, multiply-adds, licence",
    )


def _run(args: argparse.Namespace) -> int:
    if args.weights:
        return _list_weights(args.pattern)
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


def _list_weights(pattern: str) -> int:
    """Prints one line per published file; a dash stands for what its publisher does not state."""
    sources = [source for source in SOURCES.values() if fnmatch.fnmatch(source.net, pattern)]
    if not sources:
        nets = sorted({source.net for source in SOURCES.values()})
        raise ValueError(f"No published weights for {pattern!r}. {nearest(pattern, nets)}")
    head = ("net", "weights", "MiB", "top-1 %", "top-5 %", "parameters", "10^9 m-adds", "licence")
    # Files of one net share its counts.
    counts = {spec: count_spec(spec) for spec in dict.fromkeys(each.spec for each in sources)}
    rows = [head, *(_cells(source, counts[source.spec]) for source in sources)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= column <= 6 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(
        "\nAccuracy: top-1 and top-5 in percent, one crop; on ImageNet's validation images, nets "
        "named cifar on CIFAR-10's\ntest images. -: not stated by the publisher. Sizes and "
        "accuracies were measured by the publishers:"
    )
    for layout in dict.fromkeys(source.layout for source in sources):
        if layout in _PUBLISHERS:
            names = sorted({source.name for source in sources if source.layout == layout})
            print(f"  {', '.join(names)}: {_PUBLISHERS[layout]}")
    print("Further weights: hf://owner/repository of the Hugging Face hub")
    return 0


def _cells(source: Source, counts: Counts) -> tuple[str, ...]:
    size, top5 = _STATED.get(source.url.rsplit("/", 1)[1], (None, None))
    return (
        source.net,
        source.name,
        "-" if size is None else f"{size:.4g}",
        "-" if source.top1 is None else f"{source.top1:g}",
        "-" if top5 is None else f"{top5:g}",
        f"{counts.parameters:,}",
        f"{counts.multiply_adds / 1e9:.3f}",
        source.licence,
    )


COMMAND = Command(_add_arguments, _run)
