"""Reading every image once before training: unreadable ones, hashes, and what is converted."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .array_record_files import DAMAGED
from .decoding import Decoding
from .image_data import Split
from .index import FileIndex
from .listing import printable
from .reading import Say, digest, problem_of, read_files, read_one
from .reading import reason as reason
from .sources import TOGETHER, ArraySource, FileSource, RecordSource, Source, StreamSource
from .walk import counted

FEWER_RECORDS = "has fewer records than"
"""In the error about a record file, which names the file."""

_CONVERSIONS = {
    "grey": "are grey and get three equal channels",
    "transparency": "have transparency, which is dropped",
    "16 bits": "have 16 bits, of which the upper 8 are kept",
    "CMYK": "are CMYK and become RGB",
    "frames": "have several frames or pages, of which the first is used",
    "turned": "are turned as their EXIF orientation says",
}


def read_all(
    sources: Mapping[Split, FileSource],
    channels: int,
    *,
    skip: bool,
    index: FileIndex | None = None,
    say: Say | None = None,
) -> tuple[dict[Split, FileSource], list[str]]:
    """Decodes every image once, to find unreadable ones before training.

    Images that an index knows, of the same size and time, are not read again.

    Args:
        sources: The files of each split.
        channels: Number of channels to decode.
        skip: Whether unreadable images are left out, with a note, instead of refused.
        index: What earlier starts have read; is updated and written.
        say: Is called with the progress.

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
        found = read_files(source, channels, index, say)
        pairs = zip(source.paths, found, strict=True)
        bad = [f"{printable(path)} ({read.problem})" for path, read in pairs if read.problem]
        good = np.flatnonzero([not read.problem for read in found])
        if skip and len(source) and not len(good):
            raise ValueError(f"None of the {len(source)} images is readable: {bad[0]}")
        if skip and bad:
            shown = ", ".join(bad[:5]) + (" ..." if len(bad) > 5 else "")
            notes.append(f"{len(bad)} unreadable {split} images skipped: {shown}")
        refused += bad
        readable_ones = [read.notable for read in found if not read.problem]
        notes += conversions(readable_ones, f"{split} images", channels, source.decoding)
        source = dataclasses.replace(source, digests=tuple(read.digest for read in found))
        readable[split] = source.take(good)
    if index is not None:
        index.write()
        notes += index.notes
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
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.UnknownError,
        tf.errors.NotFoundError,
        tf.errors.DataLossError,
        UnicodeDecodeError,  # an error of TensorFlow that quotes a record
    ) as e:
        if FEWER_RECORDS in str(e):  # it names the file
            raise ValueError(f"{reason(e)}. Prepare the data set again") from e
        if DAMAGED in str(e):  # it names the file
            raise ValueError(_named_record(str(e))) from e
        for source in sources:
            first = None if source is None else first_unreadable(source)
            if first:
                raise ValueError(
                    f"{first}. Repair or remove it, or read all images beforehand: "
                    "--on-bad-image fail or skip"
                ) from e
        raise


def _named_record(message: str) -> str:
    """Returns the line of TensorFlow's message that names a damaged record."""
    line = next(line for line in message.splitlines() if DAMAGED in line)
    return (
        f"{line[line.index('number ') :]}. Give the `keras-resnet shards` command of its folder "
        "again, which writes damaged shards anew"
    )


def first_unreadable(source: Source) -> str:
    """Returns the first file that cannot be decoded, and why; "" if there is none."""
    if isinstance(source, ArraySource):
        return ""
    if not isinstance(source, FileSource):
        return _first_of_stream(source)
    for path in source.paths:
        problem = read_one(path, source, 3).problem
        if problem:
            return f"{printable(path)} is unreadable: {problem}"
    return ""


def _first_of_stream(source: RecordSource | StreamSource) -> str:
    import tensorflow as tf

    number = -1
    try:
        for number, (content, _) in enumerate(source.open(None).as_numpy_iterator()):
            problem = problem_of(content, 3, source.decoding)
            if problem:
                return f"Example {number} is unreadable: {problem}"
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # a damaged record
        if isinstance(source, RecordSource):
            return _first_of_group(source, number + 1) or reason(error)
        return f"Example {number + 1} is unreadable: {reason(error)}"
    return ""


def _first_of_group(source: RecordSource, start: int) -> str:
    """Returns the first record from a number on that cannot be read; several are read at once."""
    import tensorflow as tf

    for number in range(start, min(start + TOGETHER, len(source))):
        one = tf.data.Dataset.from_tensors(tf.constant([number], tf.int64))
        try:
            next(iter(one.map(source.gather)))
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            return f"Example {number} is unreadable: {reason(error)}"
    return ""


def digest_of(source: FileSource, path: str) -> str:
    """Returns the hash of an image's content that listings have; "" if it cannot be read."""
    try:
        return digest(source.content(path))
    except OSError:
        return ""


def conversions(
    notable: Sequence[tuple[str, ...]], images: str, channels: int, decoding: Decoding
) -> Iterator[str]:
    """Yields a sentence for each kind of conversion, with the number of images.

    Args:
        notable: What `headers.notable` names of each image.
        images: What the images are called.
        channels: Channels that are decoded.
        decoding: How the files become pixels.
    """
    counts = collections.Counter(what for each in notable for what in each)
    texts = dict(_CONVERSIONS)
    if channels == 1:
        del texts["grey"], texts["CMYK"]
        counts["colour"] = sum("grey" not in each for each in notable)
        texts["colour"] = "are not stored as grey and become grey"
    if channels not in (1, 3):  # they must have the channels that are needed
        texts = {"turned": texts["turned"]}
    if not decoding.oriented:
        del texts["turned"]
    for what, text in texts.items():
        if counts[what]:
            yield f"{counts[what]:,} of {len(notable):,} {images} {text}"
