"""Evaluation of one net or an ensemble, on one view of each image or the average of several.

Source: Krizhevsky et al. 2012, section 4.1 (softmax outputs are averaged over the crops);
He et al. 2015 (arXiv:1512.03385), section 4.1, Tables 4 and 5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..data import Source
from .examples import Chunk, by_shape, chunks
from .members import Member
from .multilabel import MultilabelEvaluation
from .subset import UnmaskedTally, among
from .tally import Measurement, Tally
from .views import View


def measure(
    members: Sequence[tuple[Member, View]],
    source: Source,
    *,
    batch_size: int = 256,
    error_cases: int = 0,
    subset: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> Measurement:
    """Evaluates nets on every image of a split.

    Probabilities are averaged, first over the views of an image and then over the nets; class,
    confidence and loss are those of the averages. Runs on one device.

    Args:
        members: The nets and their views; with `multi-scale` views a net must take images of any
            size.
        source: The images and labels.
        batch_size: Images per batch at the net's own size; fewer of larger images.
        error_cases: Number of the most confident mistakes to keep.
        subset: Indices of the outputs that the metrics are counted among, ascending; all where
            None. Classes are then positions in `subset`.
        progress: Called with the number of images done.

    Raises:
        ValueError: If a label is not a class, or a net's outputs are not finite.
    """
    first = members[0][0]
    tally = Tally(first.classes if subset is None else len(subset), error_cases)
    unmasked = UnmaskedTally()
    for chunk, found in _predicted(members, source, batch_size):
        labels = chunk.labels
        if subset is not None:
            unmasked.add(found, labels)
            found, labels = among(found, labels, subset)
        tally.add(found, labels, first=chunk.first, image=chunk.versions[0].__getitem__)
        if progress is not None:
            progress(chunk.first + len(labels))
    result = tally.result()
    return result if subset is None else dataclasses.replace(result, unmasked=unmasked.result())


def measure_labels(
    members: Sequence[tuple[Member, View]],
    source: Source,
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> MultilabelEvaluation:
    """Evaluates nets on images that may have several labels.

    Args:
        members: As in `measure`.
        source: The images and labels.
        batch_size: As in `measure`.
        progress: As in `measure`.

    Raises:
        ValueError: If a net's outputs are not finite.
    """
    scores, labels, loss = [], [], 0.0
    for chunk, found in _predicted(members, source, batch_size):
        if not np.isfinite(found).all():
            raise ValueError(
                f"The net's outputs must be finite numbers: they are not in the "
                f"chunk from image {chunk.first} on"
            )
        absent = np.log1p(-np.minimum(np.exp(found), 1 - 1e-15))
        loss -= float(np.where(chunk.labels > 0, found, absent).sum())
        scores.append(np.exp(found).astype("float32"))
        labels.append(chunk.labels > 0)
        if progress is not None:
            progress(chunk.first + len(chunk.labels))
    if not scores:
        raise ValueError("There are no images to measure on")
    every = np.concatenate(scores)
    return MultilabelEvaluation(every, np.concatenate(labels), loss / every.size)


def _predicted(
    members: Sequence[tuple[Member, View]], source: Source, batch_size: int
) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Yields the images in chunks, with the logarithms of their probabilities."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")
    nets = [Predictor(member, view, batch_size) for member, view in members]

    def prepare(image: Any) -> tuple[Any, ...]:
        return tuple(version for _, view in members for version in view.prepare(image))

    for chunk in chunks(source, members[0][0].channels, prepare, batch_size):
        yield chunk, _average(nets, chunk)


def _average(nets: Sequence[Predictor], chunk: Chunk) -> np.ndarray:
    """Returns the logarithms of the probabilities, averaged over the nets."""
    total, start = np.array(-np.inf), 0
    for net in nets:
        versions = chunk.versions[start : start + net.versions]
        start += net.versions
        total = _added(total, net.log_probabilities(versions, len(chunk.labels)))
    return total - math.log(len(nets))


def _added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Adds probabilities given as logarithms; `Tally` reports NaN."""
    with np.errstate(invalid="ignore"):
        return np.logaddexp(one, other)


class Predictor:
    """A net whose prediction for an image is the average over its views.

    Probabilities are kept as float64 logarithms: in float32, those of a confident net would
    underflow, and rounding would make classes equal whose logits differ.
    """

    def __init__(self, member: Member, view: View, batch_size: int) -> None:
        self.versions = max(1, len(view.scales))
        self._view = view
        self._classes = member.classes
        self._pixels = batch_size * math.prod(member.preprocess.size)
        self._run = member.compiled()

    def log_probabilities(
        self, versions: Sequence[np.ndarray | Sequence[np.ndarray]], count: int
    ) -> np.ndarray:
        """Returns float64 `(count, classes)` for a chunk that the view has prepared."""
        total = np.full((count, self._classes), -np.inf)
        for images in versions:
            for numbers, group in by_shape(images):
                step = max(1, self._pixels // math.prod(group.shape[1:3]))
                for start in range(0, len(numbers), step):
                    part = numbers[start : start + step]
                    for patch in self._view.patches(group[start : start + step]):
                        total[part] = _added(total[part], self._run(patch))
        return total - math.log(self._view.count)
