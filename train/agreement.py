"""Agreement between the workers of a run, which have clocks, settings and data of their own."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import PeerLostError

Largest = Callable[[Sequence[int]], Sequence[int]]

_TOKEN = ".token"
_BLOCK = 64
_SECONDS_TO_HEAR = 2.0
_SECONDS_FOR_A_FILE = 10.0  # file systems of several machines show a new file late


class Agreement:
    """Decisions that all workers of a run take alike.

    All workers must call its methods at the same points of their run.

    Args:
        largest: Returns, for each of several whole numbers, the largest that any worker gives
            (`largest_of_workers`); None where the run has one worker, which decides alone.
        index: The place of this worker among all, from 0.

    Example:
        >>> agreement = Agreement(largest_of_workers(strategy))
        >>> agreement.check_equal({"batch_size": 256}, "settings")
        >>> save, stop = agreement.any(late, signalled)
    """

    def __init__(self, largest: Largest | None = None, index: int = 0) -> None:
        self._largest, self._index = largest, index

    def any(self, *votes: bool) -> tuple[bool, ...]:
        """Returns, for each of several questions, whether any worker votes yes."""
        if self._largest is None:
            return votes
        return tuple(vote > 0 for vote in self._largest([int(vote) for vote in votes]))

    def check_step(self, step: int) -> None:
        """Checks that all workers start from the same step.

        Args:
            step: The step of this worker's newest checkpoint, or 0.

        Raises:
            ValueError: If another worker found a checkpoint of another step.
        """
        if self._largest is None:
            return
        highest, lowest = self._largest([step, -step])
        if (highest, -lowest) != (step, step):
            _let_others_hear()
            raise ValueError(
                f"The workers start from different steps, {-lowest} to {highest} (this one from "
                f"{step}): --output must be one directory that all of them share"
            )

    def check_equal(self, facts: Mapping[str, Any], what: str) -> None:
        """Checks that facts are the same on all workers.

        Args:
            facts: Values by name; only their text is compared.
            what: What they are, for the message.

        Raises:
            ValueError: On all workers, if some differ; names them, with this worker's values.
        """
        if self._largest is None:
            return
        names = sorted(facts)
        if self._differ([_number(names)]):
            _let_others_hear()
            raise ValueError(
                f"The workers have {what} of different names: start the same version with the same "
                "command on all of them"
            )
        differ = self._differ([_number(facts[name]) for name in names])
        if differ:
            _let_others_hear()
            listed = [f"{names[index]} (here {str(facts[names[index]])[:80]})" for index in differ]
            more = f"; and {len(listed) - 6} more" if len(listed) > 6 else ""
            raise ValueError(
                f"The workers have different {what}: {'; '.join(listed[:6])}{more}. Start the same "
                "command on all of them"
            )

    def check_shared(self, directory: Path, *, chief: bool) -> None:
        """Checks that all workers see the same directory: the chief writes what all must read.

        Raises:
            ValueError: On all workers, if one does not see the chief's file.
        """
        if self._largest is None:
            return
        path = directory / _TOKEN
        own = secrets.randbits(62) if chief else 0
        if chief:
            path.write_text(str(own), encoding="utf-8", newline="\n")
        (token,) = self._largest([own])
        (unseen,) = self.any(not _appears(path, str(token)))
        if chief:
            path.unlink(missing_ok=True)
        if unseen:
            _let_others_hear()
            raise ValueError(
                f"--output must be one directory that all workers share: not all of them see what "
                f"the chief writes into {directory}"
            )

    def token(self) -> int:
        """Returns a random number of 62 bits, the same on all workers."""
        own = secrets.randbits(62)
        return own if self._largest is None else int(self._largest([own])[0])

    @contextlib.contextmanager
    def together(
        self, what: str, waiting: contextlib.AbstractContextManager[None] | None = None
    ) -> Iterator[None]:
        """Waits at the end of a block until all workers are there, or one of them has failed.

        Args:
            what: What the block does, as in "worker 1 could not read its data".
            waiting: States what is waited for, while it is; not while the block runs.

        Raises:
            PeerLostError: If the block failed on another worker; on that one, its own error.
        """
        failed = True
        try:
            yield
            failed = False
        finally:
            if self._largest is not None:
                with waiting or contextlib.nullcontext():
                    (last,) = self._largest([self._index + 1 if failed else 0])
                if last:
                    _let_others_hear()
                if last and not failed:
                    raise PeerLostError(f"Worker {last - 1} could not {what}: its output says why")

    def _differ(self, values: Sequence[int]) -> list[int]:
        """Returns the indices of the numbers that are not the same on all workers."""
        if self._largest is None or not values:
            return []
        found = self._largest([*values, *(-value for value in values)])
        pairs = zip(found[: len(values)], found[len(values) :], strict=True)
        return [index for index, (highest, lowest) in enumerate(pairs) if highest != -lowest]


def _let_others_hear() -> None:
    """Waits before this worker ends: the others may still receive what all have agreed on."""
    time.sleep(_SECONDS_TO_HEAR)


def _number(value: Any) -> int:
    """Returns a whole number of 62 bits that stands for a value's text."""
    return int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:8], "big") >> 2


def _appears(path: Path, content: str) -> bool:
    end = time.monotonic() + _SECONDS_FOR_A_FILE
    while True:
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == content:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def largest_of_workers(strategy: Any) -> Largest:
    """Returns a function that takes the largest of whole numbers over a strategy's replicas.

    The numbers stay whole: sums in float32 are exact up to 2^24 only, which 64 replicas pass at
    step 262,144. They are gathered in blocks of one size, so that TensorFlow traces one function.
    """
    import tensorflow as tf

    def gather(values: Any) -> Any:
        return strategy.gather(strategy.run(lambda: values[None]), axis=0)

    run = tf.function(gather)

    def largest(values: Sequence[int]) -> list[int]:
        found: list[int] = []
        for start in range(0, len(values), _BLOCK):
            block = list(values[start : start + _BLOCK])
            padded = tf.constant(block + [0] * (_BLOCK - len(block)), tf.int64)
            found += map(int, run(padded).numpy().max(axis=0)[: len(block)])
        return found

    return largest
