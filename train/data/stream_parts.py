"""Streams in fixed logical parts: which records of which files each part of a batch has.

A stream is cut into a fixed number of parts, and a batch takes an equal share from each. Rows of a
batch belong to parts, and parts to workers, so that any number of workers that divides the parts
reads the same batches, each worker its own records only. Nothing here reads data or needs
TensorFlow. The pipeline does not use the plan yet.

In each epoch the files are permuted, by seed and epoch, and their records are numbered through. A
part has a range of these numbers, as long as its share of the epoch's positions; the ranges of all
parts are the epoch. Where the epoch ends within a batch, the lengths of parts differ by at most
one share; every record comes once in every epoch.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """Records of a file that follow one another.

    Attributes:
        file: Number of the file.
        first: Number of the first record in it.
        count: Number of records.
    """

    file: int
    first: int
    count: int


@dataclasses.dataclass(frozen=True)
class StreamParts:
    """The plan of a stream in parts.

    Attributes:
        lengths: Number of records of each file.
        batch: Different images in a global batch.
        seed: The run's seed.
        parts: Number of parts; divides `batch`.
    """

    lengths: tuple[int, ...]
    batch: int
    seed: int
    parts: int = 64

    def __post_init__(self) -> None:
        """Checks that each part has the same share of a batch."""
        if self.parts < 1 or self.batch % self.parts:
            raise ValueError(
                f"`parts` must divide `batch` ({self.batch}). Received: parts={self.parts}"
            )
        if not sum(self.lengths):
            raise ValueError("`lengths` needs a file with records. Received: none")

    @property
    def share(self) -> int:
        """Images of a part in each batch."""
        return self.batch // self.parts

    def parts_of(self, worker: int, workers: int) -> range:
        """Returns the parts of a worker, whose rows of a batch follow one another.

        Raises:
            ValueError: If the number of workers does not divide that of parts.
        """
        if self.parts % workers:
            raise ValueError(
                f"`workers` must divide the {self.parts} parts of the stream. "
                f"Received: workers={workers}"
            )
        own = self.parts // workers
        return range(worker * own, (worker + 1) * own)

    def pieces(self, part: int, step: int = 0) -> Iterator[Piece]:
        """Yields what a part reads from a step on, epoch after epoch, without an end.

        Files before the first piece are not opened: their lengths are known.
        """
        size = sum(self.lengths)
        skip = step * self.share
        first = max(0, step * self.batch // size - 1)
        for epoch in itertools.count(first):
            begin = self._before(part, epoch * size)
            end = self._before(part, (epoch + 1) * size)
            if end <= skip:
                continue
            others = range(part)
            offset = sum(
                self._before(each, (epoch + 1) * size) - self._before(each, epoch * size)
                for each in others
            )
            lead = max(0, skip - begin)
            yield from self._range(epoch, offset + lead, offset + end - begin)

    def _before(self, part: int, position: int) -> int:
        """Returns how many of the positions before one belong to a part."""
        whole, rest = divmod(position, self.batch)
        return whole * self.share + min(max(rest - part * self.share, 0), self.share)

    def _range(self, epoch: int, begin: int, end: int) -> Iterator[Piece]:
        """Yields the pieces of a range of an epoch's records."""
        key = np.array([self.seed % 2**64, epoch], "uint64")
        files = np.random.Generator(np.random.Philox(key=key)).permutation(len(self.lengths))
        start = 0
        for file in files.tolist():
            length = self.lengths[file]
            first, last = max(begin, start), min(end, start + length)
            if first < last:
                yield Piece(file, first - start, last - first)
            start += length
            if start >= end:
                return
