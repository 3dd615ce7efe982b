"""The application's own errors, and the way from an exception to one line and an exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator


class TrainingDivergedError(ArithmeticError):
    """The loss is no longer a number."""


class TrainingStoppedError(RuntimeError):
    """Someone asked the run to stop; its state is saved."""


@dataclasses.dataclass
class Outcome:
    """How a command ended."""

    status: int = 1


@contextlib.contextmanager
def reported(command: str, *, debug: bool) -> Iterator[Outcome]:
    """Turns the errors that a user can mend into one line on stderr and a status.

    Args:
        command: Name of the command, for messages.
        debug: Whether to let them pass with their traceback instead.
    """
    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()  # so that a reader who left is met here
    except BrokenPipeError:
        # `keras-resnet list | head` took what it wanted. What is still held goes nowhere, or the
        # interpreter would fail in writing it at its end. 141 is what the shell calls SIGPIPE.
        outcome.status = 141
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        outcome.status = 130
        print("Interrupted", file=sys.stderr)
    except TrainingStoppedError as stop:
        outcome.status = 130
        print(stop, file=sys.stderr)
    except ModuleNotFoundError as error:
        if debug or (error.name or "").startswith(("keras_resnet", "train")):
            raise
        extra = "tune" if error.name == "keras_tuner" else "train,export"
        print(
            f"Error: `keras-resnet {command}` needs {error.name}, which is not installed: "
            f"pip install 'keras3-resnet[{extra}]'",
            file=sys.stderr,
        )
    except (ValueError, TypeError, OSError, RuntimeError, TrainingDivergedError) as error:
        if debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"Error: {text}", file=sys.stderr)
    except Exception as error:
        # An operation of TensorFlow failed: an image that cannot be decoded, no memory left.
        if debug or not type(error).__module__.startswith("tensorflow"):
            raise
        print(f"Error: {_substance(error)}", file=sys.stderr)


def _substance(error: Exception) -> str:
    """Returns the line of a TensorFlow error that says what happened, and what to do if known."""
    lines = str(getattr(error, "message", error)).splitlines()
    empty = ("Graph execution error", "Detected at node", "File ", "<frozen", "Stack trace", "[[")
    told = [line.strip() for line in lines if line.strip() and not line.strip().startswith(empty)]
    text = told[0] if told else type(error).__name__
    if type(error).__name__ == "ResourceExhaustedError":
        return f"Out of memory: lower --batch-size. {text}"
    return text
