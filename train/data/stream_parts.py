"""The plan of a stream in fixed parts: which records each row of a batch has. No TensorFlow.

The rows of a batch are divided among a fixed number of parts, and the parts among the workers. What
a part reads, and in which order, depends on the seed, the batch and the data, never on the workers:
any number of them gives the same batches, and each reads the records of its own parts only.

In each epoch the files are permuted by seed and epoch, and their records numbered through. A part
has a range of these numbers, as long as its share of the epoch's positions, and begins at a random
place of it, so that files of one length do not meet in step again. The ranges of all parts are the
epoch: every record comes once, also where an epoch ends within a batch. Within a part the records
of a block of steps are shuffled; the blocks of all parts together are the window. Blocks of
different parts begin at different steps, so that reading is spread evenly over the steps.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

MOST_PARTS = 512
"""More parts than this need more open files than many systems allow a process."""

FEWEST_PARTS = 64

_TURN, _BLOCK, _FILES = 1, 2, 3  # keys of what is drawn


def number_of_parts(examples: int, batch: int, window: int) -> int:
    """Returns the number of parts of a stream.

    Records of a part that are within the window of each other meet again in later batches
    `examples / (parts * window)` times more often than by chance, at most. Eight parts for each
    window of the examples keep this at one in eight.

    Args:
        examples: Number of examples of an epoch.
        batch: Different images in a global batch; each part has one of them at least.
        window: Number of examples that are shuffled together.
    """
    parts = FEWEST_PARTS
    while parts < MOST_PARTS and parts * window < 8 * examples:
        parts *= 2
    return min(parts, batch)


def pieces_between(ends: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Returns what a range of records has of each file.

    Args:
        ends: For each file, the number of records up to its end.
        begin: The first record.
        end: The record after the last one.

    Returns:
        int64 `(pieces, 3)`: the file, its first record and the number of records. Files of which
        there are none do not appear.
    """
    few = slice(np.searchsorted(ends, begin, "right"), np.searchsorted(ends, end, "left") + 1)
    starts = np.concatenate([[0], ends[:-1]])[few]
    first, last = np.maximum(starts, begin), np.minimum(ends[few], end)
    files = np.arange(len(ends))[few]
    pieces = np.stack([files, first - starts, last - first], axis=1).astype("int64")
    return pieces[last > first]


class StreamParts:
    """The plan of a stream in parts.

    Args:
        lengths: Number of records of each file.
        batch: Different images in a global batch.
        seed: The run's seed.
        window: Number of records that are shuffled together, of all parts.
        parts: Number of parts; `number_of_parts` by default.

    Attributes:
        size: Number of records of an epoch.
        block: Number of steps of which a part shuffles the records.
        shares: Rows of each part in a batch; they follow one another.

    Raises:
        ValueError: If there are no records, or more parts than rows.

    Example:
        >>> plan = StreamParts((1000, 1000, 1000), batch=256, seed=0)
        >>> plan.parts, plan.shares[0]
        (64, 4)
        >>> plan.records(0, 0, 2).shape
        (2, 4)
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch: int,
        seed: int,
        window: int = 16_384,
        parts: int | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths, "int64")
        self.size = int(self.lengths.sum())
        if not self.size:
            raise ValueError("`lengths` needs a file with records. Received: none")
        self.batch, self.seed = batch, seed % 2**64
        self.parts = number_of_parts(self.size, batch, window) if parts is None else parts
        if not 1 <= self.parts <= batch:
            raise ValueError(
                f"`parts` must be 1 to `batch` ({batch}), so that each has a row. "
                f"Received: parts={parts}"
            )
        borders = np.arange(self.parts + 1) * batch // self.parts
        self._first_rows, self.shares = borders[:-1], np.diff(borders)
        self.block = max(1, min(window, self.size) // batch)
        self._leads = np.arange(self.parts) * self.block // self.parts
        self._files = functools.lru_cache(maxsize=4)(self._permuted)

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what a worker reads.

        Args:
            rows: The worker's rows of the batch.

        Returns:
            The parts that have these rows, and the place of each row among the rows of these parts.
        """
        part_of = np.searchsorted(self._first_rows, rows, side="right") - 1
        parts = np.unique(part_of)
        shares = self.shares[parts]
        before = np.cumsum(shares) - shares
        index = np.searchsorted(parts, part_of)
        return parts, before[index] + rows - self._first_rows[part_of]

    def block_of(self, part: int, step: int) -> int:
        """Returns the number of a part's block of steps that has a step."""
        return int((step + self._leads[part]) // self.block)

    def first_step(self, part: int, number: int) -> int:
        """Returns the first step of a block; below 0 for the first blocks of most parts."""
        return int(number * self.block - self._leads[part])

    def start(self, part: int, step: int) -> tuple[int, int]:
        """Returns the epoch of a part's first record of a step, and how many of it precede that."""
        position = step * self.batch + int(self._first_rows[part])
        epoch = position // self.size
        return epoch, int(step * self.shares[part] - self._before(epoch)[part])

    def pieces(self, part: int, epoch: int, skip: int = 0) -> np.ndarray:
        """Returns what a part reads in an epoch.

        Args:
            part: The part.
            epoch: The epoch.
            skip: Number of records to leave out. Files of which all are left out do not appear.

        Returns:
            int64 `(pieces, 3)`: the file, its first record and the number of records.
        """
        lengths = self._before(epoch + 1) - self._before(epoch)
        begin, length = int(lengths[:part].sum()), int(lengths[part])
        if skip >= length:
            return np.zeros((0, 3), "int64")
        turn = int(self._bits(_TURN, part, epoch, 1)[0] % length)
        first = begin + (turn + skip) % length
        if turn + skip >= length:
            return self._range(epoch, first, begin + turn)
        later = self._range(epoch, begin, begin + turn)
        return np.concatenate([self._range(epoch, first, begin + length), later])

    def order(self, part: int, number: int) -> np.ndarray:
        """Returns the shuffled order of the records of a part's block.

        Records of different epochs are not mixed. Places of steps before 0 come first.

        Returns:
            int64 `(block * share,)`: for each place in the batches, the place in reading.
        """
        share = int(self.shares[part])
        places = self.first_step(part, number) * share + np.arange(self.block * share)
        steps, rows = places // share, places % share
        epochs = (steps * self.batch + self._first_rows[part] + rows) // self.size
        epochs[steps < 0] = -1
        return np.lexsort((self._bits(_BLOCK, part, number, len(places)), epochs))

    def records(self, part: int, start: int, stop: int) -> np.ndarray:
        """Returns the records of a part's rows in steps, numbered through in the stored order.

        Returns:
            int64 `(stop - start, share)`.
        """
        share, first = int(self.shares[part]), self.block_of(part, start)
        last = self.block_of(part, stop - 1)
        begin = self.first_step(part, first)
        epoch, skip = self.start(part, max(begin, 0))
        wanted = (last + 1 - first) * self.block * share
        found = [np.full(max(-begin, 0) * share, -1)]
        starts = np.cumsum(self.lengths) - self.lengths
        while sum(map(len, found)) < wanted:
            pieces = self.pieces(part, epoch, skip)
            found += [starts[file] + each + np.arange(count) for file, each, count in pieces]
            epoch, skip = epoch + 1, 0
        blocks = np.concatenate(found)[:wanted].reshape(last + 1 - first, -1)
        orders = [self.order(part, number) for number in range(first, last + 1)]
        shuffled = np.take_along_axis(blocks, np.stack(orders), axis=1).reshape(-1, share)
        return shuffled[start - begin : stop - begin]

    def _before(self, epoch: int) -> np.ndarray:
        """Returns how many positions of each part precede an epoch."""
        whole, rest = divmod(epoch * self.size, self.batch)
        return whole * self.shares + np.clip(rest - self._first_rows, 0, self.shares)

    def _permuted(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the files in the order of an epoch, and the end of each in its numbering."""
        files = np.argsort(self._bits(_FILES, 0, epoch, len(self.lengths)), kind="stable")
        return files, np.cumsum(self.lengths[files])

    def _range(self, epoch: int, begin: int, end: int) -> np.ndarray:
        """Returns the pieces of a range of an epoch's records."""
        files, ends = self._files(epoch)
        pieces = pieces_between(ends, begin, end)
        pieces[:, 0] = files[pieces[:, 0]]
        return pieces

    def _bits(self, purpose: int, part: int, number: int, count: int) -> np.ndarray:
        """Returns random bits; of the bit generator alone, whose values NumPy does not change."""
        generator = np.random.Philox(
            key=np.array([self.seed, number], "uint64"),
            counter=np.array([0, 0, part, purpose], "uint64"),
        )
        return generator.random_raw(count)
