"""The sections with pictures: sample predictions and augmented training images."""

from __future__ import annotations

import base64
import io

import numpy as np

from ..presentation.formats import percent
from ..presentation.markup import Html, element, join, shorten
from ..presentation.page import note, section
from .data import Augmented, ReportData, Sample

_SAMPLES = 40
_THUMBNAIL = 96  # pixels
# Characters of all images of a section, so that a report stays below 1.5 MB.
_SAMPLE_BUDGET, _AUGMENTED_BUDGET = 700_000, 300_000
_NAMED_LABELS = 3


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
        if spent > _SAMPLE_BUDGET:
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


def augmented(data: ReportData) -> Html:
    """Returns training images as the net saw them, with their labels."""
    items: list[Html] = []
    spent = 0
    for example in data.augmented:
        address = png_address(example.image, _THUMBNAIL)
        spent += len(address)
        if spent > _AUGMENTED_BUDGET:
            break
        items.append(_augmented(data, example, address))
    if not items:
        return section("augmented", "Training images", note("No training images were kept."))
    text = f"The first {len(items)} images of the run, augmented as in training."
    mixed = any(len(each.labels) > 1 for each in data.augmented)
    shares = " The percentages are the classes' shares of the label." if mixed else ""
    return section(
        "augmented",
        "Training images",
        note(text, shares),
        element("ul", join(items, "\n"), class_="samples plain"),
    )


def _augmented(data: ReportData, example: Augmented, address: str) -> Html:
    names = [data.class_names[index] for index, _ in example.labels[:_NAMED_LABELS]]
    one = len(example.labels) == 1 and example.labels[0][1] > 0.99
    texts = [
        class_name(name, 32) if one else join([class_name(name, 32), f" {percent(share, 0)}"])
        for name, (_, share) in zip(names, example.labels, strict=False)
    ]
    if len(example.labels) > _NAMED_LABELS:
        texts.append(Html(f"{len(example.labels) - _NAMED_LABELS} more"))
    alt = f"Training image of class {', '.join(map(shorten, names)) or 'none'}"
    return element(
        "li",
        element("img", src=address, alt=alt, width=_THUMBNAIL, height=_THUMBNAIL),
        element("span", join(texts, ", ") if texts else "no label"),
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
