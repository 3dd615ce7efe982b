"""Images read and resized in parallel, in their order, in memory that does not grow."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_resnet import PreprocessSpec

from ..data.decoding import STANDARD, Decoding
from ..data.headers import notable
from ..data.pixel_budget import excess
from ..data.readable import reason
from ..data.scaled import decode_and_fit
from .found import Picture

# Batches that are read ahead of the one that is predicted.
_AHEAD = 2


class Pixels(NamedTuple):
    """An image that was read.

    Attributes:
        image: uint8 `(height, width, channels)`; None if it could not be read.
        problem: Why it could not be read; "" if it could.
        notable: What of the file is converted, as `headers.notable` names it.
    """

    image: np.ndarray | None = None
    problem: str = ""
    notable: tuple[str, ...] = ()


def read_batches(
    pictures: Iterable[Picture],
    channels: int,
    preprocess: PreprocessSpec,
    size: int,
    decoding: Decoding = STANDARD,
) -> Iterator[list[tuple[Picture, Pixels]]]:
    """Yields images at the net's size, as evaluation resizes them.

    Args:
        pictures: The images.
        channels: Channels to decode.
        preprocess: The size, crop fraction and interpolation.
        size: Images in a batch; the last one may have fewer.
        decoding: How the files become pixels.

    Yields:
        Each image with its pixels.
    """
    read = _reader(channels, preprocess, decoding)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ahead: collections.deque[tuple[Picture, concurrent.futures.Future[Pixels]]]
        ahead = collections.deque()
        remaining = iter(pictures)
        try:
            while True:
                room = _AHEAD * size - len(ahead)
                ahead.extend(
                    (picture, pool.submit(read, picture))
                    for picture in itertools.islice(remaining, room)
                )
                if not ahead:
                    return
                batch = [ahead.popleft() for _ in range(min(size, len(ahead)))]
                yield [(picture, future.result()) for picture, future in batch]
        finally:
            pool.shutdown(cancel_futures=True)


def _reader(
    channels: int, preprocess: PreprocessSpec, decoding: Decoding
) -> Callable[[Picture], Pixels]:
    """Returns the function that reads one image."""
    import tensorflow as tf

    def resized(encoded: Any) -> Any:
        return decode_and_fit(encoded, channels, preprocess, decoding, complete=True)

    # Traced here, as threads that find no trace would each begin one.
    resize = tf.function(resized).get_concrete_function(tf.TensorSpec((), tf.string))

    def read(picture: Picture) -> Pixels:
        try:
            content = picture.read()
            against = (
                excess(content, frames=not decoding.accurate) if content else "the file is empty"
            )
            if against:
                return Pixels(problem=against)
            return Pixels(np.asarray(resize(tf.constant(content))), notable=notable(content))
        except OSError as error:
            return Pixels(problem=error.strerror or str(error))
        except tf.errors.OpError as error:
            return Pixels(problem=reason(error))

    return read
