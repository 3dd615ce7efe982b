"""Evaluation of one net or an ensemble, on one view of each image or the average of several.

Source: Krizhevsky et al. 2012, section 4.1 (softmax outputs are averaged over the crops);
He et al. 2015 (arXiv:1512.03385), section 4.1, Tables 4 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..data import Source
from .examples import Chunk, by_shape, chunks
from .members import Member
from .tally import Measurement, Tally
from .views import View


def measure(
    members: Sequence[tuple[Member, View]],
    source: Source,
    *,
    batch_size: int = 256,
    error_cases: int = 0,
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
        progress: Called with the number of images done.

    Raises:
        ValueError: If a label is not a class, or a net's outputs are not finite.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")
    nets = [_Net(member, view, batch_size) for member, view in members]
    first = members[0][0]

    def prepare(image: Any) -> tuple[Any, ...]:
        return tuple(version for _, view in members for version in view.prepare(image))

    tally = Tally(first.classes, error_cases)
    for chunk in chunks(source, first.channels, prepare, batch_size):
        tally.add(
            _average(nets, chunk),
            chunk.labels,
            first=chunk.first,
            image=chunk.versions[0].__getitem__,
        )
        if progress is not None:
            progress(chunk.first + len(chunk.labels))
    return tally.result()


def _average(nets: Sequence[_Net], chunk: Chunk) -> np.ndarray:
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


class _Net:
    """A net whose prediction for an image is the average over its views.

    Probabilities are kept as float64 logarithms: in float32, those of a confident net would
    underflow, and rounding would make classes equal whose logits differ.
    """

    def __init__(self, member: Member, view: View, batch_size: int) -> None:
        import tensorflow as tf

        self.versions = max(1, len(view.scales))
        self._view = view
        self._classes = member.classes
        self._pixels = batch_size * math.prod(member.preprocess.size)
        shape = (None, *member.model.inputs[0].shape[1:])

        def log_probabilities(images: Any) -> Any:
            logits = member.model(member.preprocess.normalize(images), training=False)
            return tf.nn.log_softmax(tf.cast(logits, tf.float64))

        self._run = tf.function(log_probabilities, input_signature=[tf.TensorSpec(shape, tf.uint8)])

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
                        total[part] = _added(total[part], self._run(patch).numpy())
        return total - math.log(self._view.count)
