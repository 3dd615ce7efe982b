"""`keras-resnet study responses`: do residual nets have smaller layer responses than plain ones?

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
from ..presentation import Findings, Line, Plot, Table, publish
from ..rundir import open_run
from .comparison import provenance
from .options import add_output


@dataclasses.dataclass(frozen=True)
class RunResponses:
    """The layer responses of a run.

    Attributes:
        label: Name in figures and tables.
        spec: The net.
        weights: The file of its weights.
        data: Name of the data.
        images: Number of images.
        layers: The 3x3 layers, in order.
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


def measure_run(path: Path, label: str, args: argparse.Namespace) -> RunResponses:
    """Measures a run on images that are evenly spaced over a split.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights yet.
        ValueError: If the data does not fit the run, or has no such split.
    """
    run = open_run(path, args.checkpoint)
    data = run_data(run, args)
    images, _ = split_images(run, data, args.split, args.limit)
    found = layer_responses(run.model, run.preprocess.normalize(images), batch_size=args.batch_size)
    return RunResponses(label, run.spec, run.weights, data.name, len(images), tuple(found))


def findings(measured: Sequence[RunResponses], facts: dict[str, object]) -> Findings:
    """Returns the responses by layer and by rank, and comparisons between runs."""
    order = Plot(
        "responses",
        "Responses of the 3x3 layers, from input to output",
        "layer",
        "standard deviation",
        tuple(_line(run, in_order=True) for run in measured),
    )
    size = Plot(
        "responses-sorted",
        "Responses of the 3x3 layers, in descending order",
        "rank of the layer",
        "standard deviation",
        tuple(_line(run, in_order=False) for run in measured),
    )
    words = [_of_one(run) for run in measured] + _comparisons(measured)
    return Findings("Layer responses", tuple(words), (order, size), (_table(measured),), facts)


def _line(run: RunResponses, *, in_order: bool) -> Line:
    values = [layer.std for layer in run.layers]
    values = values if in_order else sorted(values, reverse=True)
    return Line(run.label, list(range(1, len(values) + 1)), values, dashed=run.spec.merge == "none")


def _table(measured: Sequence[RunResponses]) -> Table:
    records = []
    for run in measured:
        values = [layer.std for layer in run.layers]
        records.append(
            {
                "run": run.label,
                "net": run.spec.name,
                "weights": run.weights,
                "layers": len(values),
                "with norm": sum(layer.normed for layer in run.layers),
                "median": run.median,
                "mean": float(np.mean(values)),
                "smallest": min(values),
                "largest": max(values),
            }
        )
    return Table.of(
        "responses-by-run",
        "Standard deviation of the responses of the 3x3 layers, after the norm if there is one, "
        "otherwise after the convolution",
        records,
    )


def _of_one(run: RunResponses) -> str:
    values = [layer.std for layer in run.layers]
    third = max(1, len(values) // 3)
    return (
        f"{run.label} ({run.spec.name}): the median standard deviation of a layer's responses is "
        f"{run.median:.3g}; {np.median(values[:third]):.3g} in the first third of the layers, "
        f"{np.median(values[-third:]):.3g} in the last."
    )


def _comparisons(measured: Sequence[RunResponses]) -> list[str]:
    """Compares plain with residual nets of one depth, and residual nets of several depths."""
    words = []
    plain = [run for run in measured if run.spec.merge == "none"]
    residual = [run for run in measured if run.spec.merge != "none"]
    for one in plain:
        for other in (run for run in residual if run.spec.layers == one.spec.layers):
            if [a.normed for a in one.layers] == [b.normed for b in other.layers]:
                smaller = sum(b.std < a.std for a, b in zip(one.layers, other.layers, strict=True))
                words.append(
                    f"{smaller} of {len(one.layers)} layers have smaller responses in "
                    f"{other.label} than in {one.label}; the ratio of the medians is "
                    f"{other.median / one.median:.3g}."
                )
    residual.sort(key=lambda run: run.spec.layers)
    if len({run.spec.layers for run in residual}) > 1:
        shallow, deep = residual[0], residual[-1]
        words.append(
            f"The median response of {deep.label} ({deep.spec.layers} layers) is "
            f"{deep.median / shallow.median:.3g} times that of {shallow.label} "
            f"({shallow.spec.layers} layers)."
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
    parser.add_argument("--batch-size", type=int, default=128, help="images per batch")
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
    """Returns the last parts of the paths, as many as are needed to distinguish them."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError("Give each run once. Received: one of them twice")
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(own[-length:]) for own in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


COMMAND = Command(_add_arguments, _run)
