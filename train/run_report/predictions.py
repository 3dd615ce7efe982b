"""The sections on predictions: confusion, recall by class and sample images."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..evaluation.classes import class_table
from ..presentation import Table
from ..presentation.formats import percent
from ..presentation.markup import Html, element, join, shorten
from ..presentation.page import folded, note, scrollable, section
from .data import ReportData, Sample, confused_pairs

COUNTED_CLASSES = 20  # up to so many classes, the matrix shows counts and no table is folded away
MATRIX_CLASSES = 50  # beyond so many classes, the matrix gives way to its most frequent mistakes
_PAIRS = 20
_CLASS_ROWS = 1000
_SAMPLES = 40
_THUMBNAIL = 96  # pixels
_IMAGE_BUDGET = 900_000  # characters of all sample images, so that a report stays below 1.5 MB


def confusion(data: ReportData) -> Html:
    """Returns the confusion matrix, if legible, beside the most confused pairs."""
    classes = len(data.class_names)
    if not data.confusion.sum():
        return section("confusion", "Confusion", note("No predictions were counted."))
    pairs = element("div", element("h3", "Most confused pairs"), _pairs(data))
    if classes > MATRIX_CLASSES:
        reason = note(f"The matrix of {classes:,} classes is too large to show.")
        return section("confusion", "Confusion", reason, pairs)
    both = element("div", element("div", _matrix(data)), pairs, class_="beside")
    return section("confusion", "Confusion", _legend(data), both)


def _legend(data: ReportData) -> Html:
    dense = len(data.class_names) > COUNTED_CLASSES
    return note(
        "Rows are true classes, columns are predictions. Blue: correct, by share of the row. "
        "Orange: mistakes, relative to the most frequent one. ",
        "Point at a cell for its count." if dense else "",
    )


def _pairs(data: ReportData) -> Html:
    limit = _PAIRS if len(data.class_names) > COUNTED_CLASSES else _PAIRS // 2
    pairs = confused_pairs(data.confusion, limit)
    if not pairs:
        return note("None: every prediction is correct.")
    mistakes = int(data.confusion.sum() - np.trace(data.confusion))
    shown = sum(count for _, _, count in pairs)
    records = (
        {
            "True class": class_name(data.class_names[true]),
            "Predicted as": class_name(data.class_names[predicted]),
            "Count": count,
            "Share of class": float(count / data.confusion[true].sum()),
        }
        for true, predicted, count in pairs
    )
    caption = f"These {len(pairs)} make up {shown:,} of {mistakes:,} mistakes"
    formats = {"Share of class": partial(percent, digits=1)}
    return Table.of("pairs", caption, records, formats=formats).html()


def _matrix(data: ReportData) -> Html:
    names = data.class_names
    dense = len(names) > COUNTED_CLASSES
    tall = dense or max(len(shorten(name, 20)) for name in names) > 4
    heads = (
        element("th", class_name(name, 20), scope="col", class_="tall" if tall else None)
        for name in names
    )
    corner = element("td", class_="corner", style="background:none")
    axis = element("th", "predicted →", class_="axis", colspan=len(names))
    shares = data.confusion / np.maximum(data.confusion.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    worst = float(shares.max())
    rows = []
    for true, name in enumerate(names):
        cells = (_cell(data, true, predicted, worst) for predicted in range(len(names)))
        rows.append(element("tr", element("th", class_name(name, 20), scope="row"), *cells))
    table = element(
        "table",
        element(
            "thead", element("tr", corner, axis), element("tr", element("th", "true ↓"), *heads)
        ),
        element("tbody", join(rows, "\n")),
        class_="matrix dense" if dense else "matrix",
    )
    return scrollable(table, "Confusion matrix")


def _cell(data: ReportData, true: int, predicted: int, worst: float) -> Html:
    """Returns one cell; `worst` is the largest share of a row that went to one wrong class."""
    dense = len(data.class_names) > COUNTED_CLASSES
    count = int(data.confusion[true, predicted])
    kind = "d" if true == predicted else None
    if not count:
        return element("td", "" if dense else "0", class_="z")
    share = count / float(data.confusion[true].sum())
    # Mistakes have their own scale, and the square root makes rare ones visible.
    strength = share if kind else 0.12 + 0.88 * math.sqrt(share / worst)
    pair = f"{data.class_names[true]} → {data.class_names[predicted]}: {count:,}"
    return element(
        "td",
        "" if dense else f"{count:,}",
        class_=kind,
        style=f"--p:{strength:.2f}",
        title=shorten(pair, 120) if dense else None,
    )


def per_class(data: ReportData) -> Html:
    """Returns recall and precision of each class, the lowest recall first."""
    if not data.confusion.sum():
        return section("classes", "Recall by class", note("No predictions were counted."))
    scores = class_table(data.confusion, data.class_names)
    scores.sort(key=lambda score: (score["recall"] is None, score["recall"] or 0))
    records = [
        {
            "Class": class_name(score["name"]),
            "Examples": score["support"],
            "Correct": int(data.confusion[score["class"], score["class"]]),
            "Recall": score["recall"],
            "Precision": score["precision"],
        }
        for score in scores[:_CLASS_ROWS]
    ]
    cut = f"; {len(records):,} of {len(scores):,} classes" if len(records) < len(scores) else ""
    formats: dict[str, Callable[[Any], str]] = {"Recall": _bar, "Precision": percent}
    table = Table.of("classes", f"Lowest recall first{cut}", records, formats=formats).html()
    if len(scores) <= COUNTED_CLASSES:
        return section("classes", "Recall by class", table)
    recalls = [score["recall"] for score in scores if score["recall"] is not None]
    middle = note(
        f"Median recall {percent(np.median(recalls))}, lowest {percent(min(recalls))}, "
        f"highest {percent(max(recalls))}."
    )
    return section(
        "classes", "Recall by class", middle, folded(f"All {len(scores):,} classes", table)
    )


def _bar(share: float | None) -> Html:
    """Returns a share as a bar and in percent."""
    fill = element("i", style=f"width:{100 * (share or 0):.1f}%")
    return join([element("span", fill, class_="bar", aria_hidden="true"), percent(share)])


def class_name(name: object, length: int = 48) -> Html:
    """Returns a class name, cut to a length; `bdi` isolates its writing direction."""
    short = shorten(name, length)
    return element("bdi", short, title=None if short == str(name) else str(name))


def samples(data: ReportData) -> Html:
    """Returns images with their true and predicted classes."""
    items: list[Html] = []
    spent = 0
    for sample in data.samples[:_SAMPLES]:
        address = png_address(sample.image, _THUMBNAIL)
        spent += len(address)
        if spent > _IMAGE_BUDGET:
            break
        items.append(_sample(data, sample, address))
    if not items:
        return section("samples", "Sample predictions", note("No samples were kept."))
    wrong = sum(sample.true != sample.predicted for sample in data.samples[: len(items)])
    text = f"{len(items)} examples of the {data.split} split, {wrong} of them wrong "
    left = len(data.samples) - len(items)
    rest = f" {left} more are left out to keep this page small." if left else ""
    legend = "(✗, dashed frame). The percentage is the probability of the predicted class."
    return section(
        "samples",
        "Sample predictions",
        note(text, legend, rest),
        element("ul", join(items, "\n"), class_="samples"),
    )


def _sample(data: ReportData, sample: Sample, address: str) -> Html:
    true, predicted = data.class_names[sample.true], data.class_names[sample.predicted]
    right = sample.true == sample.predicted
    alt = f"Example of class {shorten(true)}, predicted as {shorten(predicted)}"
    mark = join(["✓ " if right else "✗ ", class_name(predicted, 32)])
    verdict = "correct" if right else join(["true: ", class_name(true, 32)])
    details = element("span", verdict, " · ", percent(sample.probability, 1))
    return element(
        "li",
        element("img", src=address, alt=alt, width=_THUMBNAIL, height=_THUMBNAIL),
        element("strong", mark),
        details,
        class_="right" if right else "wrong",
    )


def png_address(image: np.ndarray, longest: int) -> str:
    """Returns the image as a `data:image/png;base64,` address.

    Args:
        image: uint8 of shape (height, width, channels) with 1 or 3 channels.
        longest: A longer side than this (pixels) is scaled down to it; never up.
    """
    from PIL import Image

    picture = Image.fromarray(
        np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
    )
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
