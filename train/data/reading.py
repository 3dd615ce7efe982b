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
from .index import FileIndex, stamp_of
from .known import Read, Stamp
from .other_formats import read_pixels
from .pixel_budget import excess
from .sources import FileSource

_CHUNK = 64
_CHUNK_BYTES = 16 * 2**20
_SECONDS_BETWEEN_LINES = 10.0
# The index is written so often, and seldom enough to take at most a twentieth of the time.
_SECONDS_BETWEEN_WRITES, _PARTS_OF_WRITING = 10.0, 20

Say = Callable[[str], None]


def read_files(
    source: FileSource, channels: int, index: FileIndex | None, say: Say | None
) -> list[Read]:
    """Returns what each image of a source is; reads those that the index does not know.

    Args:
        source: The images.
        channels: Number of channels to decode.
        index: What is known; gets what is read. It is written every ten seconds, less often
            where that takes long, and when reading is stopped.
        say: Is called with the progress every ten seconds, or None.
    """
    with concurrent.futures.ThreadPoolExecutor(_threads()) as pool:
        stamps = _stamps(source, pool) if index is not None else [None] * len(source)
        work = _Reading(source, channels, index, say, stamps, pool)
        missing = work.look(range(len(source)))
        exchange = None if index is None else index.exchange(say)
        if exchange is not None and index is not None:
            exchange.begin(len(missing))
            own = exchange.share_of(missing)
            work.read(own, "reading this worker's share of the images", exchange.sign)
            share = (index.name(source.paths[n]) for n in exchange.share_of(range(len(source))))
            mine = {name: index.records[name] for name in share if name in index.records}
            index.merge(exchange.gather(mine, needed=len(own) < len(missing)))
            missing = work.look(number for number in missing if work.found[number] is None)
        work.read(missing, "reading images before training")
    return [each for each in work.found if each is not None]


class _Reading:
    """The images of a split, while what each of them is becomes known."""

    def __init__(
        self,
        source: FileSource,
        channels: int,
        index: FileIndex | None,
        say: Say | None,
        stamps: Sequence[Stamp | None],
        pool: concurrent.futures.Executor,
    ) -> None:
        self.found: list[Read | None] = [None] * len(source)
        self._source, self._channels, self._index = source, channels, index
        self._say, self._stamps, self._pool = say, stamps, pool

    def look(self, numbers: Iterable[int]) -> list[int]:
        """Looks images up in the container or the index; returns those that are not known."""
        source = self._source
        missing = []
        for number in numbers:
            path, stamp = source.paths[number], self._stamps[number]
            read = _known(source, path, stamp, self._channels, self._index)
            self.found[number] = read
            if read is None:
                missing.append(number)
        return missing

    def read(
        self, numbers: Sequence[int], what: str, tick: Callable[[], None] = lambda: None
    ) -> None:
        """Reads images; keeps what is read in the index if it is stopped, and from time to time.

        Args:
            numbers: The images.
            what: What this is, for the lines on progress.
            tick: Is called from time to time.
        """
        try:
            self._read(numbers, what, tick)
        except BaseException:  # a signal, a full memory: the next start goes on from here
            if self._index is not None:
                self._index.write()
            raise

    def _read(self, numbers: Sequence[int], what: str, tick: Callable[[], None]) -> None:
        index, pause = self._index, _SECONDS_BETWEEN_WRITES
        known = sum(each is not None for each in self.found)
        progress = Progress(len(numbers), known, self._say, what)
        written = time.monotonic()
        read = functools.partial(_read_some, source=self._source, channels=self._channels)
        chunks = [numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK)]
        paths = ([self._source.paths[number] for number in chunk] for chunk in chunks)
        for chunk, reads in zip(
            chunks, in_order(self._pool, read, paths, 2 * _threads()), strict=True
        ):
            for number, each in zip(chunk, reads, strict=True):
                self.found[number] = each
                if index is not None:
                    index.add(self._source.paths[number], self._stamps[number], each)
            progress.add(len(chunk))
            tick()
            if index is not None and time.monotonic() - written > pause:
                begun = time.monotonic()
                index.write()
                written = time.monotonic()
                pause = max(_SECONDS_BETWEEN_WRITES, _PARTS_OF_WRITING * (written - begun))


def _threads() -> int:
    return max(2, os.cpu_count() or 1)


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
    reason_against = excess(content, frames=not decoding.accurate)
    if reason_against:
        return reason_against
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
    if isinstance(error, UnicodeDecodeError):
        return "its record has bytes that are no example"
    line = cause(str(getattr(error, "message", error))) or type(error).__name__
    return line.removeprefix("ValueError: ")


def _stamps(source: FileSource, pool: concurrent.futures.ThreadPoolExecutor) -> list[Stamp | None]:
    """Returns the size and time of each file, or of the shard that an image lies in."""
    stamp = stamp_of if source.container is None else source.container.stamp
    parts = [source.paths[start : start + 4096] for start in range(0, len(source), 4096)]
    found = pool.map(lambda paths: [stamp(path) for path in paths], parts)
    return [each for part in found for each in part]


def in_order(
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


def _known(
    source: FileSource, path: str, stamp: Stamp | None, channels: int, index: FileIndex | None
) -> Read | None:
    """Returns what is known of an image, by the container that holds it or by the index."""
    if source.container is not None:
        read = source.container.known(path, channels, accurate=source.decoding.accurate)
        if read is not None:
            return read
    return None if index is None else index.find(path, stamp)


def _read_some(paths: Sequence[str], source: FileSource, channels: int) -> list[Read]:
    """Reads and decodes images."""

    def contents() -> Iterator[bytes | OSError]:
        for path in paths:
            try:
                yield source.content(path)
            except OSError as error:
                yield error

    return check(contents(), channels, source.decoding, several=len(paths) > 1)


def check(
    contents: Iterable[bytes | OSError], channels: int, decoding: Decoding, *, several: bool = True
) -> list[Read]:
    """Decodes images; JPEGs in one call of a graph, where there are several, which is faster.

    Args:
        contents: The encoded images, or why one could not be read. At most 16 MiB and one image
            are held.
        channels: Number of channels to decode.
        decoding: How they are decoded.
        several: Whether there are several images.
    """
    reads: list[Read] = []
    together: dict[int, bytes] = {}
    for content in contents:
        if isinstance(content, OSError):
            reads.append(Read(content.strerror or type(content).__name__, "", ()))
            continue
        problem = ""
        by_graph = decoding.accurate and channels in (1, 3) and several
        if by_graph and format_of(content) == "jpeg" and not excess(content):
            together[len(reads)] = content
        else:
            problem = problem_of(content, channels, decoding)
        reads.append(Read(problem, digest(content), notable(content)))
        if sum(map(len, together.values())) > _CHUNK_BYTES:
            _check_together(together, reads, channels, decoding)
    _check_together(together, reads, channels, decoding)
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


class Progress:
    """Lines on how many images are done, every ten seconds.

    Args:
        missing: Number of images to do.
        known: Number of images that were done before.
        say: Prints a line.
        what: What is done, for the lines.
    """

    def __init__(self, missing: int, known: int, say: Say | None, what: str) -> None:
        self._missing, self._known, self._say, self._what = missing, known, say, what
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
        self._say(
            f"{self._what}: {self._done:,} of {self._missing:,}"
            + (f" ({self._known:,} known from before)" if self._known else "")
            + f", {rate:,.0f} per second, about {left:,.0f} s left"
        )
