"""From an exception to one line and an exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator

from .trainer import TrainingDivergedError, TrainingStoppedError


@dataclasses.dataclass
class Outcome:
    """How a command ended."""

    status: int = 1


@contextlib.contextmanager
def reported(*, debug: bool) -> Iterator[Outcome]:
    """Turns the errors that a user can mend into one line on stderr and a status.

    Args:
        debug: Whether to let them pass with their traceback instead.
    """
    outcome = Outcome()
    try:
        yield outcome
    except KeyboardInterrupt:
        outcome.status = 130
        print("Interrupted", file=sys.stderr)
    except TrainingStoppedError as stop:
        outcome.status = 130
        print(stop, file=sys.stderr)
    except (ValueError, TypeError, OSError, RuntimeError, TrainingDivergedError) as error:
        if debug:
            raise
        outcome.status = 1
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"Error: {text}", file=sys.stderr)
