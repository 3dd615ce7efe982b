"""`keras-resnet study responses`: how strongly the layers of trained runs respond.

Source: He et al. 2015 (arXiv:1512.03385), section 4.2, "Analysis of Layer Responses", Figure 7.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_resnet import ResNetSpec
from keras_resnet.analysis import LayerResponse, layer_responses

from ..command import Command, add_data_overrides, run_data, split_images
from ..presentation.findings import Findings, Table, publish
from ..presentation.plots import Line, Plot
from ..rundir import open_run
from .comparison import provenance
from .options import add_output


@dataclasses.dataclass(frozen=True)
class Responses:
    """The responses of a run's net.

    Attributes:
        label: As figures and tables call it.
        spec: The net.
        weights: Which of the run's.
        data: Name of the data.
        images: How many were run.
        layers: Each 3x3 layer, in order.
    """

    label: str
    spec: ResNetSpec
    weights: str
    data: str
    images: int
    layers: tuple[LayerResponse, ...]

    @property
    def median(self) -> float:
        """The median layer's response."""
        return float(np.median([layer.std for layer in self.layers]))


def measure_run(path: Path, label: str, args: argparse.Namespace) -> Responses:
    """Measures a run on images of a split, drawn evenly over it.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights yet.
        ValueError: If the data is not the run's, or has no such split.
    """
    run = open_run(path, args.checkpoint)
    data = run_data(run, args)
    images, _ = split_images(run, data, args.split, args.limit)
    found = layer_responses(run.model, run.preprocess.normalize(images), batch_size=args.batch_size)
    return Responses(label, run.spec, run.weights, data.name, len(images), tuple(found))


def findings(measured: Sequence[Responses], facts: dict[str, object]) -> Findings:
    """Returns the responses in the order of the layers and of their size, and what they say."""
    order = Plot(
        "responses",
        "Response of each 3x3 layer, in the order of the net",
        "layer",
        "standard deviation",
        tuple(_line(run, in_order=True) for run in measured),
    )
    size = Plot(
        "responses-sorted",
        "Response of each 3x3 layer, the largest first",
        "rank of the layer",
        "standard deviation",
        tuple(_line(run, in_order=False) for run in measured),
    )
    words = [_of_one(run) for run in measured] + _comparisons(measured)
    return Findings("Layer responses", tuple(words), (order, size), (_table(measured),), facts)


def _line(run: Responses, *, in_order: bool) -> Line:
    values = [layer.std for layer in run.layers]
    values = values if in_order else sorted(values, reverse=True)
    return Line(run.label, list(range(1, len(values) + 1)), values, dashed=run.spec.merge == "none")


def _table(measured: Sequence[Responses]) -> Table:
    rows = []
    for run in measured:
        values = [layer.std for layer in run.layers]
        normed = sum(layer.normed for layer in run.layers)
        rows.append(
            (
                run.label,
                run.spec.name,
                run.weights,
                len(values),
                normed,
                run.median,
                float(np.mean(values)),
                min(values),
                max(values),
            )
        )
    return Table(
        "responses-by-run",
        "Standard deviation of the 3x3 layers' responses; behind the norm "
        "where one follows, else the convolution's own",
        (
            "run",
            "net",
            "weights",
            "layers",
            "behind a norm",
            "median",
            "mean",
            "smallest",
            "largest",
        ),
        tuple(rows),
    )


def _of_one(run: Responses) -> str:
    values = [layer.std for layer in run.layers]
    third = max(1, len(values) // 3)
    return (
        f"{run.label} ({run.spec.name}): the median layer responds with a standard deviation of "
        f"{run.median:.3g}; the first third of the layers with {np.median(values[:third]):.3g}, "
        f"the last with {np.median(values[-third:]):.3g}."
    )


def _comparisons(measured: Sequence[Responses]) -> list[str]:
    """Compares plain with residual nets of one depth, and residual nets of several depths."""
    words = []
    plain = [run for run in measured if run.spec.merge == "none"]
    residual = [run for run in measured if run.spec.merge != "none"]
    for one in plain:
        for other in (run for run in residual if run.spec.layers == one.spec.layers):
            if [a.normed for a in one.layers] == [b.normed for b in other.layers]:
                smaller = sum(b.std < a.std for a, b in zip(one.layers, other.layers, strict=True))
                words.append(
                    f"{smaller} of {len(one.layers)} layers respond less in {other.label} than "
                    f"in {one.label}; the medians' ratio is {other.median / one.median:.3g}."
                )
    residual.sort(key=lambda run: run.spec.layers)
    if len({run.spec.layers for run in residual}) > 1:
        shallow, deep = residual[0], residual[-1]
        words.append(
            f"The median layer of {deep.label} responds {deep.median / shallow.median:.3g} times "
            f"as strongly as that of {shallow.label}, which has {shallow.spec.layers} layers "
            f"in place of {deep.spec.layers}."
        )
    return words


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="directories of training runs"
    )
    parser.add_argument(
        "--checkpoint",
        choices=("auto", "best", "last"),
        default="auto",
        help="weights to take: of the finished model (auto), or of a checkpoint",
    )
    add_data_overrides(parser)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--limit", type=int, help="images of the split; all by default")
    parser.add_argument("--batch-size", type=int, default=128, help="images run at a time")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"`--limit` must be at least 1. Received: {args.limit}")
    measured = []
    for number, (path, label) in enumerate(zip(args.runs, _labels(args.runs), strict=True), 1):
        started = time.monotonic()
        measured.append(measure_run(path, label, args))
        print(
            f"[{number}/{len(args.runs)}] {label}: {len(measured[-1].layers)} layers on "
            f"{measured[-1].images} images in {time.monotonic() - started:.1f} s",
            flush=True,
        )
    names = ", ".join(sorted({f"{run.data}, {run.images} images" for run in measured}))
    facts = provenance({"Data": f"{names} ({args.split} split)"})
    return publish(args.output, findings(measured, facts))


def _labels(paths: Sequence[Path]) -> list[str]:
    """Returns the last parts of the paths, as many as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError("Each run is measured once. Received: one of them twice")
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(own[-length:]) for own in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


COMMAND = Command(_add_arguments, _run)
