"""Stored images of examples by their numbers: one by one, or several in a call of Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .batches import fetch, label_of
from .on_host import on_host
from .sources import TOGETHER, ArraySource, Contained, FileSource, RecordSource


def stored_examples(
    keys: Any, source: ArraySource | FileSource | RecordSource, then: Callable[..., Any]
) -> Any:
    """Yields `then(stored image, label, row)` of each example.

    Args:
        keys: A `tf.data.Dataset` of several example numbers, int64 `(count,)`, and their rows.
        source: The images. Those of containers and records are read several in a call. Others are
            read in the function that goes on with them: one more map costs 10 us per image.
        then: What is done with each example, in a graph.
    """
    import tensorflow as tf

    options = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    read: Callable[[Any], tuple[Any, Any]]
    if isinstance(source, RecordSource):
        read = source.gather
    elif isinstance(source, ArraySource) or source.container is None:
        one = fetch(source)
        return keys.unbatch().map(lambda example, row: then(*one(example, row)), **options)
    else:
        read = _contained(source, source.container)
    together = keys.unbatch().batch(TOGETHER)
    stored = together.map(lambda examples, rows: (*read(examples), rows), **options).unbatch()
    return stored.map(then, **options)


def _contained(source: FileSource, container: Contained) -> Callable[[Any], tuple[Any, Any]]:
    """Returns a function of example numbers to images and labels, in a graph."""
    import tensorflow as tf

    label, paths = label_of(source), on_host(source.encoded_paths)
    return lambda numbers: (container.gather(tf.gather(paths, numbers)), label(numbers))
