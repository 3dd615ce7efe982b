"""Reading every image once before training: unreadable ones, hashes, and what is converted."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..errors import cause
from .decoding import Decoding
from .headers import format_of, notable
from .listing import printable
from .other_formats import read_pixels
from .sources import ArraySource, FileSource, Source, Split
from .walk import counted

_CONVERSIONS = {
    "grey": "are grey and get three equal channels",
    "transparency": "have transparency, which is dropped",
    "16 bits": "have 16 bits, of which the upper 8 are kept",
    "CMYK": "are CMYK and become RGB",
    "frames": "have several frames or pages, of which the first is used",
    "turned": "are turned as their EXIF orientation says",
}


class _Read(NamedTuple):
    problem: str
    digest: str
    notable: tuple[str, ...]


def read_all(
    sources: Mapping[Split, FileSource], channels: int, *, skip: bool
) -> tuple[dict[Split, FileSource], list[str]]:
    """Decodes every image once, to find unreadable ones before training.

    Args:
        sources: The files of each split.
        channels: Number of channels to decode.
        skip: Whether unreadable images are left out, with a note, instead of refused.

    Returns:
        The readable images with hashes of their content, and notes: images that were left out, and
        numbers of images that are converted.

    Raises:
        ValueError: If an image is unreadable and `skip` is false, or if no image of a split is
            readable.
    """
    readable: dict[Split, FileSource] = {}
    notes: list[str] = []
    refused: list[str] = []
    for split, source in sources.items():
        with concurrent.futures.ThreadPoolExecutor() as pool:
            read = functools.partial(_read, source=source, channels=channels)
            found = list(pool.map(read, source.paths))
        pairs = zip(source.paths, found, strict=True)
        bad = [f"{printable(path)} ({read.problem})" for path, read in pairs if read.problem]
        good = np.flatnonzero([not read.problem for read in found])
        if skip and len(source) and not len(good):
            raise ValueError(f"None of the {len(source)} images is readable: {bad[0]}")
        if skip and bad:
            shown = ", ".join(bad[:5]) + (" ..." if len(bad) > 5 else "")
            notes.append(f"{len(bad)} unreadable {split} images skipped: {shown}")
        refused += bad
        notes += _conversions(found, split, channels, source.decoding)
        source = dataclasses.replace(source, digests=tuple(read.digest for read in found))
        readable[split] = source.take(good)
    if refused and not skip:
        shown = "; ".join(refused[:5])
        shown += f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        total = sum(map(len, sources.values()))
        raise ValueError(
            f"{len(refused)} of {total} images are unreadable: {shown}. "
            "Repair or remove them, or pass --on-bad-image skip"
        )
    return readable, notes


def duplicates(train: Source, held: Source, split: str) -> list[str]:
    """Returns a note if images of a split are training images too, by their content."""
    if not isinstance(train, FileSource) or not isinstance(held, FileSource):
        return []
    known = dict(zip(train.digests, train.names or train.paths, strict=False))
    pairs = [
        (name, known[digest])
        for name, digest in zip(held.names or held.paths, held.digests, strict=False)
        if digest in known
    ]
    if not pairs:
        return []
    name, other = (printable(each) for each in pairs[0])
    return [
        f"{counted(len(pairs), f'{split} image')} of {len(held)} also among the training images "
        f"(the same content): {name} is {other}, for example"
    ]


@contextlib.contextmanager
def naming_files(*sources: Source | None) -> Iterator[None]:
    """Names the file where decoding an image fails while the block runs.

    TensorFlow's errors of decoders name no file. The files are then decoded one by one until the
    first that fails, which takes time only after the failure.

    Raises:
        ValueError: Naming the file and the reason, in place of TensorFlow's error.

    Example:
        >>> with naming_files(data.train):
        ...     images, labels = raw_images(data.train, preprocess, 3)
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError, tf.errors.NotFoundError) as e:
        for source in sources:
            first = None if source is None else first_unreadable(source)
            if first:
                raise ValueError(
                    f"{first}. Repair or remove it, or read all images beforehand: "
                    "--on-bad-image fail or skip"
                ) from e
        raise


def first_unreadable(source: Source) -> str:
    """Returns the first file that cannot be decoded, and why; "" if there is none."""
    if isinstance(source, ArraySource):
        return ""
    if not isinstance(source, FileSource):
        for number, (content, _) in enumerate(source.open(None).as_numpy_iterator()):
            problem = _problem(content, 3, source.decoding)
            if problem:
                return f"Example {number} is unreadable: {problem}"
        return ""
    for path in source.paths:
        problem = _read(path, source, 3).problem
        if problem:
            return f"{printable(path)} is unreadable: {problem}"
    return ""


def reason(error: Exception) -> str:
    """Returns the cause that an error of TensorFlow states, without nodes and Python's traceback.

    Example:
        >>> reason(ValueError("{{function_node a_device_/b}} Bad PNG [Op:DecodeImage]"))
        'Bad PNG'
    """
    line = cause(str(getattr(error, "message", error))) or type(error).__name__
    return line.removeprefix("ValueError: ")


def _read(path: str, source: FileSource, channels: int) -> _Read:
    try:
        content = source.content(path)
    except OSError as error:
        return _Read(error.strerror or type(error).__name__, "", ())
    return _Read(_problem(content, channels, source.decoding), _digest(content), notable(content))


def digest_of(source: FileSource, path: str) -> str:
    """Returns the hash of an image's content that listings have; "" if it cannot be read."""
    try:
        return _digest(source.content(path))
    except OSError:
        return ""


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _problem(content: bytes, channels: int, decoding: Decoding) -> str:
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


def _conversions(
    found: list[_Read], split: str, channels: int, decoding: Decoding
) -> Iterator[str]:
    """Yields a sentence for each kind of conversion, with the number of images."""
    readable = [read for read in found if not read.problem]
    counts = collections.Counter(what for read in readable for what in read.notable)
    texts = dict(_CONVERSIONS)
    if channels == 1:
        del texts["grey"], texts["CMYK"]
        counts["colour"] = sum("grey" not in read.notable for read in readable)
        texts["colour"] = "are not stored as grey and become grey"
    if channels not in (1, 3):  # they must have the channels that are needed
        texts = {"turned": texts["turned"]}
    if not decoding.oriented:
        del texts["turned"]
    for what, text in texts.items():
        if counts[what]:
            yield f"{counts[what]:,} of {len(readable):,} {split} images {text}"
