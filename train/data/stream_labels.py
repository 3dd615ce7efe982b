"""Labels of records, which are checked as they are read: nobody has seen all of them before."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from .sources import RecordSource, StreamSource

_Source = TypeVar("_Source", RecordSource, StreamSource)


def labels_checked(source: _Source, classes: int) -> _Source:
    """Returns a source that fails, in a graph, at a label that is not the index of a class.

    TensorFlow's loss of such a label is NaN or 0, by the device.

    Args:
        source: The images.
        classes: Number of classes.
    """

    def checked(image: Any, label: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        right = tf.reduce_all((label >= 0) & (label < classes))
        rule = f"the label of an example must be 0 to {classes - 1}. Received: "
        with tf.control_dependencies([tf.debugging.Assert(right, [rule, label])]):
            return image, tf.identity(label)

    if isinstance(source, RecordSource):
        read = source.read
        return dataclasses.replace(source, read=lambda numbers: checked(*read(numbers)))
    opened, parted = source.open, source.parted
    if parted is not None:
        parse = parted.parse
        parted = dataclasses.replace(parted, parse=lambda record: checked(*parse(record)))
    return dataclasses.replace(source, open=lambda seed: opened(seed).map(checked), parted=parted)
