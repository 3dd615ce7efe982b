"""Images that are read once before training: in parallel, in bounded memory, with progress."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..errors import cause
from .decoding import Decoding
from .headers import format_of, notable
from .index import FileIndex, Read, Stamp, stamp_of
from .other_formats import read_pixels
from .sources import FileSource

_CHUNK = 64
_CHUNK_BYTES = 16 * 2**20
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_WRITES = 120.0

Say = Callable[[str], None]


def read_files(
    source: FileSource, channels: int, index: FileIndex | None, say: Say | None
) -> list[Read]:
    """Returns what each image of a source is; reads those that the index does not know.

    Args:
        source: The images.
        channels: Number of channels to decode.
        index: What is known; gets what is read. It is written every two minutes.
        say: Is called with the progress every ten seconds, or None.
    """
    workers = max(2, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        stamps = _stamps(source, pool) if index is not None else [None] * len(source)
        found: list[Read | None] = [None] * len(source)
        if index is not None:
            found = [index.find(*each) for each in zip(source.paths, stamps, strict=True)]
        missing = [number for number, read in enumerate(found) if read is None]
        progress = _Progress(len(missing), len(source), say)
        written = time.monotonic()
        read = functools.partial(_read_some, source=source, channels=channels)
        chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
        paths = ([source.paths[number] for number in chunk] for chunk in chunks)
        for chunk, reads in zip(chunks, _in_order(pool, read, paths, 2 * workers), strict=True):
            for number, each in zip(chunk, reads, strict=True):
                found[number] = each
                if index is not None:
                    index.add(source.paths[number], stamps[number], each)
            progress.add(len(chunk))
            if index is not None and time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
                index.write()
                written = time.monotonic()
    return [each for each in found if each is not None]


def read_one(path: str, source: FileSource, channels: int) -> Read:
    """Reads and decodes one image."""
    return _read_some([path], source, channels)[0]


def digest(content: bytes) -> str:
    """Returns the hash of an image's content that listings and indices have."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def problem_of(content: bytes, channels: int, decoding: Decoding) -> str:
    """Returns why an image cannot be decoded, or an empty string."""
    import tensorflow as tf

    if not content:
        return "the file is empty"
    kind = format_of(content)
    try:
        # As `decode` does, but decided here: outside a graph its many small operations are slow.
        if not decoding.accurate:
            tf.io.decode_image(content, channels=channels, expand_animations=False)
        elif kind == "jpeg" and channels in (1, 3):
            tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
        elif kind == "png" and channels in (1, 3):
            tf.io.decode_png(content, channels=3)
        else:
            read_pixels(content, 3 if channels == 1 else channels)
    except (tf.errors.OpError, ValueError) as error:
        return reason(error)
    return ""


def reason(error: Exception) -> str:
    """Returns the cause that an error of TensorFlow states, without nodes and Python's traceback.

    Example:
        >>> reason(ValueError("{{function_node a_device_/b}} Bad PNG [Op:DecodeImage]"))
        'Bad PNG'
    """
    line = cause(str(getattr(error, "message", error))) or type(error).__name__
    return line.removeprefix("ValueError: ")


def _stamps(source: FileSource, pool: concurrent.futures.ThreadPoolExecutor) -> list[Stamp | None]:
    """Returns the size and time of each file, or of the shard that an image lies in."""
    stamp = stamp_of if source.container is None else source.container.stamp
    parts = [source.paths[start : start + 4096] for start in range(0, len(source), 4096)]
    found = pool.map(lambda paths: [stamp(path) for path in paths], parts)
    return [each for part in found for each in part]


def _in_order(
    pool: concurrent.futures.Executor,
    function: Callable[[Any], Any],
    values: Iterable[Any],
    ahead: int,
) -> Iterator[Any]:
    """Yields results in order, with at most `ahead` calls begun before the one that is yielded."""
    begun: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
    for value in values:
        begun.append(pool.submit(function, value))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _read_some(paths: Sequence[str], source: FileSource, channels: int) -> list[Read]:
    """Reads and decodes images; JPEGs are decoded in one call of a graph, which is faster."""
    reads: list[Read] = []
    together: dict[int, bytes] = {}
    for path in paths:
        try:
            content = source.content(path)
        except OSError as error:
            reads.append(Read(error.strerror or type(error).__name__, "", ()))
            continue
        problem = ""
        by_graph = source.decoding.accurate and channels in (1, 3) and len(paths) > 1
        if by_graph and format_of(content) == "jpeg":
            together[len(reads)] = content
        else:
            problem = problem_of(content, channels, source.decoding)
        reads.append(Read(problem, digest(content), notable(content)))
        if sum(map(len, together.values())) > _CHUNK_BYTES:
            _check_together(together, reads, channels, source.decoding)
    _check_together(together, reads, channels, source.decoding)
    return reads


def _check_together(
    contents: dict[int, bytes], reads: list[Read], channels: int, decoding: Decoding
) -> None:
    """Enters the problems of JPEGs into what is known of them, and forgets their content."""
    import tensorflow as tf

    try:
        if contents:
            _jpeg_decoder()(tf.constant(list(contents.values())))
    except tf.errors.OpError:  # one of them: which, and why
        for number, content in contents.items():
            problem = problem_of(content, channels, decoding)
            reads[number] = reads[number]._replace(problem=problem)
    contents.clear()


@functools.cache
def _jpeg_decoder() -> Any:
    """Returns a function that decodes JPEGs one after the other, without Python's lock."""
    import tensorflow as tf

    def decode(contents: Any) -> Any:
        def one(number: Any, total: Any) -> tuple[Any, Any]:
            image = tf.io.decode_jpeg(contents[number], channels=3, dct_method="INTEGER_ACCURATE")
            return number + 1, total + tf.size(image, tf.int64)

        count = tf.size(contents)
        start = (tf.constant(0), tf.constant(0, tf.int64))
        more = tf.while_loop(lambda number, _: number < count, one, start, parallel_iterations=1)
        return more[1]

    return tf.function(decode, input_signature=[tf.TensorSpec((None,), tf.string)])


class _Progress:
    """Lines on how many images are read, every ten seconds."""

    def __init__(self, missing: int, total: int, say: Say | None) -> None:
        self._missing, self._total, self._say = missing, total, say
        self._done, self._begun = 0, time.monotonic()
        self._said = self._begun

    def add(self, count: int) -> None:
        """Counts images; says how far it is, if ten seconds have passed."""
        self._done += count
        now = time.monotonic()
        if self._say is None or now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        rate = self._done / (now - self._begun)
        left = (self._missing - self._done) / rate
        known = self._total - self._missing
        self._say(
            f"reading images before training: {self._done:,} of {self._missing:,}"
            + (f" ({known:,} known from before)" if known else "")
            + f", {rate:,.0f} per second, about {left:,.0f} s left"
        )
