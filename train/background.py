"""Work that goes on in a second thread while the training loop continues."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Does pieces of work one after another in a second thread.

    At most `most` pieces are begun or wait; `submit` then waits for the oldest. An error of a
    piece is raised by the next call of `submit`, `check` or `wait`, once. Leaving the block waits
    for all work.

    Args:
        most: Pieces in flight at once.

    Example:
        >>> with Background() as background:
        ...     background.submit(lambda: path.write_bytes(content))
    """

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._pending: deque[Future[object]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Background:
        """Starts."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Waits for all work; raises its error unless another one is on its way."""
        try:
            if kind is None:
                self.wait()
        finally:
            self._pending.clear()
            if self._pool is not None:
                self._pool.shutdown()  # also after an error: what has begun is finished
                self._pool = None

    def submit(self, work: Callable[[], object]) -> None:
        """Hands over a piece of work.

        Raises:
            Exception: The error of an earlier piece.
        """
        while len(self._pending) >= self._most:
            self._pending.popleft().result()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._pending.append(self._pool.submit(work))

    def check(self) -> None:
        """Raises the error of work that has ended with one; does not wait."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def wait(self) -> None:
        """Waits until all work is done, and raises its error."""
        while self._pending:
            self._pending.popleft().result()
