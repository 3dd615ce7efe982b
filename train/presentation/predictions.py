"""The sections on predictions: confusion, recall by class and sample pictures."""

import math

import numpy as np

from .blocks import class_name, data_table, folded, note, scrollable, section
from .data import ReportData, Sample, class_scores, confused_pairs
from .figures import png_address
from .markup import Html, element, join, percent, shorten

COUNTED_CLASSES = 20  # up to so many classes, the matrix shows counts and no table is folded away
MATRIX_CLASSES = 50  # beyond so many classes, the matrix gives way to its most frequent mistakes
_PAIRS = 20
_CLASS_ROWS = 1000
_SAMPLES = 40
_THUMBNAIL = 96  # pixels
_IMAGE_BUDGET = 900_000  # characters of all sample images, so that a report stays below 1.5 MB


def confusion(data: ReportData) -> Html:
    """The confusion matrix, where it is legible, beside the most confused pairs."""
    classes = len(data.class_names)
    if not data.confusion.sum():
        return section("confusion", "Confusion", note("No predictions were counted."))
    pairs = element("div", element("h3", "Most confused pairs"), _pairs(data))
    if classes > MATRIX_CLASSES:
        reason = note(f"A matrix of {classes:,} classes is not legible; these are its mistakes.")
        return section("confusion", "Confusion", reason, pairs)
    both = element("div", element("div", _matrix(data)), pairs, class_="beside")
    return section("confusion", "Confusion", _legend(data), both)


def _legend(data: ReportData) -> Html:
    dense = len(data.class_names) > COUNTED_CLASSES
    return note(
        "Rows are true classes, columns are predictions. Blue, on the diagonal: right, by its "
        "share of the row. Orange: mistakes, the strongest the most frequent of all. ",
        "Point at a cell for its count." if dense else "",
    )


def _pairs(data: ReportData) -> Html:
    limit = _PAIRS if len(data.class_names) > COUNTED_CLASSES else _PAIRS // 2
    pairs = confused_pairs(data.confusion, limit)
    if not pairs:
        return note("None: no example was taken for one of another class.")
    mistakes = int(data.confusion.sum() - np.trace(data.confusion))
    shown = sum(pair.count for pair in pairs)
    return data_table(
        f"These {len(pairs)} make up {shown:,} of {mistakes:,} mistakes",
        [("True class", False), ("Predicted as", False), ("Count", True), ("Of class", True)],
        [
            (
                class_name(data.class_names[pair.true]),
                class_name(data.class_names[pair.predicted]),
                f"{pair.count:,}",
                percent(pair.share, 1),
            )
            for pair in pairs
        ],
    )


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
    """One cell; `worst` is the largest share of a row that went to one wrong class."""
    dense = len(data.class_names) > COUNTED_CLASSES
    count = int(data.confusion[true, predicted])
    kind = "d" if true == predicted else None
    if not count:
        return element("td", "" if dense else "0", class_="z")
    share = count / float(data.confusion[true].sum())
    # Mistakes have a scale of their own, and the square root lifts the rare ones: they are what
    # one looks for, and beside the diagonal they would vanish.
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
    """Recall and precision of each class, the lowest recall first."""
    if not data.confusion.sum():
        return section("classes", "Recall by class", note("No predictions were counted."))
    scores = class_scores(data.confusion)
    rows = [
        (
            class_name(data.class_names[score.index]),
            f"{score.examples:,}",
            f"{score.correct:,}",
            join([_bar(score.recall), percent(score.recall)]),
            percent(score.precision),
        )
        for score in scores[:_CLASS_ROWS]
    ]
    headings = [
        ("Class", False),
        ("Examples", True),
        ("Right", True),
        ("Recall", True),
        ("Precision", True),
    ]
    cut = f"; {len(rows):,} of {len(scores):,} classes" if len(rows) < len(scores) else ""
    table = data_table(f"Lowest recall first{cut}", headings, rows)
    if len(scores) <= COUNTED_CLASSES:
        return section("classes", "Recall by class", table)
    recalls = [score.recall for score in scores if not math.isnan(score.recall)]
    parts: list[Html] = []
    if recalls:
        parts.append(
            note(
                f"Median recall {percent(np.median(recalls))}, lowest {percent(min(recalls))}, "
                f"highest {percent(max(recalls))}."
            )
        )
    parts.append(folded(f"All {len(scores):,} classes", table))
    return section("classes", "Recall by class", *parts)


def _bar(share: float) -> Html:
    width = 0.0 if math.isnan(share) else 100 * share
    return element(
        "span", element("i", style=f"width:{width:.1f}%"), class_="bar", aria_hidden="true"
    )


def samples(data: ReportData) -> Html:
    """Pictures with their true and predicted classes."""
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
    verdict = "right" if right else join(["true: ", class_name(true, 32)])
    details = element("span", verdict, " · ", percent(sample.probability, 1))
    return element(
        "li",
        element("img", src=address, alt=alt, width=_THUMBNAIL, height=_THUMBNAIL),
        element("strong", mark),
        details,
        class_="right" if right else "wrong",
    )
