"""Image files read and resized in parallel, in their order, in memory that does not grow."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec

from ..data.decoding import STANDARD, Decoding
from ..data.pixel_budget import excess
from ..data.readable import reason
from ..data.scaled import decode_and_fit

# Batches that are read ahead of the one that is predicted.
_AHEAD = 2


def read_batches(
    paths: Sequence[str],
    channels: int,
    preprocess: PreprocessSpec,
    size: int,
    decoding: Decoding = STANDARD,
) -> Iterator[list[np.ndarray | str]]:
    """Yields the images of files at the net's size, as evaluation resizes them.

    Args:
        paths: The files.
        channels: Channels to decode.
        preprocess: The size, crop fraction and interpolation.
        size: Images in a batch; the last one may have fewer.
        decoding: How the files become pixels.

    Yields:
        For each file a uint8 image `(height, width, channels)`, or the reason why there is none.
    """
    read = _reader(channels, preprocess, decoding)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ahead: collections.deque[concurrent.futures.Future[np.ndarray | str]] = collections.deque()
        remaining = iter(paths)
        try:
            while True:
                room = _AHEAD * size - len(ahead)
                ahead.extend(pool.submit(read, path) for path in itertools.islice(remaining, room))
                if not ahead:
                    return
                yield [ahead.popleft().result() for _ in range(min(size, len(ahead)))]
        finally:
            pool.shutdown(cancel_futures=True)


def _reader(
    channels: int, preprocess: PreprocessSpec, decoding: Decoding
) -> Callable[[str], np.ndarray | str]:
    """Returns the function that reads one file."""
    import tensorflow as tf

    def resized(encoded: Any) -> Any:
        return decode_and_fit(encoded, channels, preprocess, decoding)

    # Traced here, as threads that find no trace would each begin one.
    resize = tf.function(resized).get_concrete_function(tf.TensorSpec((), tf.string))

    def read(path: str) -> np.ndarray | str:
        try:
            content = Path(path).read_bytes()
            against = (
                excess(content, frames=not decoding.accurate) if content else "the file is empty"
            )
            return against or np.asarray(resize(tf.constant(content)))
        except OSError as error:
            return error.strerror or str(error)
        except tf.errors.OpError as error:
            return reason(error)

    return read
