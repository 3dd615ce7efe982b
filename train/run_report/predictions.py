"""The sections on predictions: confusion and figures by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..presentation import Table
from ..presentation.formats import number, percent
from ..presentation.markup import Html, element, join, shorten
from ..presentation.page import folded, note, scrollable, section
from .data import Counts, ReportData
from .pictures import class_name, png_address

COUNTED_CLASSES = 20  # up to so many classes, the matrix shows counts and no table is folded away
MATRIX_CLASSES = 50  # beyond so many classes, the matrix gives way to its most frequent mistakes
_PAIRS = 20
_CLASS_ROWS = 200
_PAIR_IMAGES = 3  # pictures of one pair
_PAIR_THUMBNAIL = 48  # pixels
_PAIR_BUDGET = 250_000  # characters of all pictures of pairs


def confusion(data: ReportData) -> Html:
    """Returns the confusion matrix, if legible, beside the most confused pairs."""
    classes, counts = len(data.class_names), data.counts
    if counts is None or not counts.total:
        return section("confusion", "Confusion", note("No predictions were counted."))
    pairs = element("div", element("h3", "Most confused pairs"), _pairs(data, counts))
    if classes > MATRIX_CLASSES or counts.matrix is None:
        reason = note(f"The matrix of {classes:,} classes is too large to show.")
        return section("confusion", "Confusion", reason, pairs)
    both = element("div", element("div", _matrix(data, counts.matrix)), pairs, class_="beside")
    return section("confusion", "Confusion", _legend(data), both)


def _legend(data: ReportData) -> Html:
    dense = len(data.class_names) > COUNTED_CLASSES
    return note(
        "Rows are true classes, columns are predictions. Blue: correct, by share of the row. "
        "Orange: mistakes, relative to the most frequent one. ",
        "Point at a cell for its count." if dense else "",
    )


def _pairs(data: ReportData, counts: Counts) -> Html:
    limit = _PAIRS if len(data.class_names) > COUNTED_CLASSES else _PAIRS // 2
    pairs = counts.pairs[:limit]
    if not pairs:
        return note("None: every prediction is correct.")
    shown = sum(count for _, _, count in pairs)
    pictures = _pair_pictures(data, pairs)
    records = (
        {
            "True class": class_name(data.class_names[true]),
            "Predicted as": class_name(data.class_names[predicted]),
            "Count": count,
            "Share of class": float(count / counts.support[true]),
            **({"Examples": pictures.get((true, predicted), Html(""))} if pictures else {}),
        }
        for true, predicted, count in pairs
    )
    which = "This pair makes" if len(pairs) == 1 else f"These {len(pairs)} pairs make"
    caption = f"{which} up {shown:,} of {counts.mistakes:,} mistakes"
    formats = {"Share of class": partial(percent, digits=1)}
    return Table.of("pairs", caption, records, formats=formats).html()


def _pair_pictures(
    data: ReportData, pairs: Sequence[tuple[int, int, int]]
) -> dict[tuple[int, int], Html]:
    """Returns the pictures of each pair, as many as fit into the page."""
    pictures: dict[tuple[int, int], list[Html]] = {}
    spent = 0
    for true, predicted, _ in pairs:
        for sample in data.confused:
            found = pictures.setdefault((true, predicted), [])
            if (sample.true, sample.predicted) != (true, predicted) or len(found) >= _PAIR_IMAGES:
                continue
            address = png_address(sample.image, _PAIR_THUMBNAIL)
            spent += len(address)
            if spent > _PAIR_BUDGET:
                return {pair: join(images) for pair, images in pictures.items() if images}
            share = percent(sample.probability, 1)
            alt = f"{shorten(data.class_names[true])}, predicted as "
            alt += f"{shorten(data.class_names[predicted])} with probability {share}"
            image = element(
                "img", src=address, alt=alt, title=alt, width=_PAIR_THUMBNAIL, class_="small"
            )
            found.append(image)
    return {pair: join(images, " ") for pair, images in pictures.items() if images}


def _matrix(data: ReportData, counts: np.ndarray) -> Html:
    names = data.class_names
    dense = len(names) > COUNTED_CLASSES
    tall = dense or max(len(shorten(name, 20)) for name in names) > 4
    heads = (
        element("th", class_name(name, 20), scope="col", class_="tall" if tall else None)
        for name in names
    )
    corner = element("td", class_="corner", style="background:none")
    axis = element("th", "predicted →", class_="axis", colspan=len(names))
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    np.fill_diagonal(shares, 0)
    worst = float(shares.max())
    rows = []
    for true, name in enumerate(names):
        row = [int(count) for count in counts[true]]
        cells = (
            _cell(data, (true, predicted), count, count / max(sum(row), 1), worst)
            for predicted, count in enumerate(row)
        )
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


def _cell(data: ReportData, pair: tuple[int, int], count: int, share: float, worst: float) -> Html:
    """Returns one cell; `worst` is the largest share of a row that went to one wrong class."""
    true, predicted = pair
    dense = len(data.class_names) > COUNTED_CLASSES
    kind = "d" if true == predicted else None
    if not count:
        return element("td", "" if dense else "0", class_="z")
    # Mistakes have their own scale, and the square root makes rare ones visible.
    strength = share if kind else 0.12 + 0.88 * math.sqrt(share / worst)
    text = f"{data.class_names[true]} → {data.class_names[predicted]}: {count:,}"
    return element(
        "td",
        "" if dense else f"{count:,}",
        class_=kind,
        style=f"--p:{strength:.2f}",
        title=shorten(text, 120) if dense else None,
    )


def per_class(data: ReportData) -> Html:
    """Returns recall and precision of each class, the lowest recall first."""
    counts = data.counts
    if counts is None or not counts.total:
        return section("classes", "Recall by class", note("No predictions were counted."))
    support, taken = np.maximum(counts.support, 1), np.maximum(counts.predicted, 1)
    recall = np.where(counts.support > 0, counts.correct / support, np.nan)
    precision = np.where(counts.predicted > 0, counts.correct / taken, np.nan)
    order = np.argsort(recall, kind="stable")  # NaN comes last
    records = [
        {
            "Class": class_name(data.class_names[number]),
            "Examples": int(counts.support[number]),
            "Correct": int(counts.correct[number]),
            "Recall": float(recall[number]),
            "Precision": float(precision[number]),
        }
        for number in order[:_CLASS_ROWS]
    ]
    formats: dict[str, Callable[[Any], str]] = {"Recall": _bar, "Precision": percent}
    table = _of_classes("Lowest recall first", records, len(order), formats)
    if len(order) <= COUNTED_CLASSES:
        return section("classes", "Recall by class", table)
    known = recall[np.isfinite(recall)]
    middle = note(
        f"Median recall {percent(np.median(known))}, lowest {percent(known.min())}, "
        f"highest {percent(known.max())}."
    )
    return section("classes", "Recall by class", middle, folded(_label(len(order)), table))


def several_labels(data: ReportData) -> Html:
    """Returns average precision and F1 of each class, where an image may have several labels."""
    rows = sorted(
        data.by_class,
        key=lambda row: (row["average_precision"] is None, row["average_precision"] or 0),
    )
    records = [
        {
            "Class": class_name(row["name"]),
            "Images with it": row["support"],
            "Average precision": row["average_precision"],
            "F1": row["f1"],
            "Threshold": row["threshold"],
        }
        for row in rows[:_CLASS_ROWS]
    ]
    formats: dict[str, Callable[[Any], str]] = {
        "Average precision": _bar,
        "F1": percent,
        "Threshold": partial(number, spec=".3f"),
    }
    table = _of_classes("Lowest average precision first", records, len(rows), formats)
    if len(rows) > COUNTED_CLASSES:
        table = folded(_label(len(rows)), table)
    return section("classes", "Figures by class", table)


def _label(classes: int) -> str:
    return f"All {classes:,} classes" if classes <= _CLASS_ROWS else f"The lowest {_CLASS_ROWS}"


def _of_classes(
    caption: str,
    records: Sequence[Mapping[str, object]],
    classes: int,
    formats: Mapping[str, Callable[[Any], str]],
) -> Html:
    cut = f"; {len(records):,} of {classes:,} classes" if len(records) < classes else ""
    return Table.of("classes", f"{caption}{cut}", records, formats=formats).html()


def _bar(share: float | None) -> Html:
    """Returns a share as a bar and in percent."""
    fill = element("i", style=f"width:{100 * (share or 0):.1f}%")
    return join([element("span", fill, class_="bar", aria_hidden="true"), percent(share)])
