"""The application's exceptions, and how a command reports an error: one line and an exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Iterator

# Commands that need no TensorFlow.
_ON_ANY_BACKEND = ("list", "info", "recipes")
# What to install for a module that is missing; the extras of training for all others.
_PACKAGES = {"keras_tuner": "'keras3-resnet[tune]'", "rich": "rich"}

# What TensorFlow writes around the cause of an error.
_NODES = (
    r"\{\{.*?\}\}|\[Op:.*?\]( name:)?|"
    r"Error in user-defined function passed to \S+ transformation with iterator: \S+: "
)
_AROUND = ("Graph execution error", "Detected at node", "File ", "<frozen", "Stack trace", "[[")


# Exit statuses. From 128 up a scheduler may start the same command again, as Kubeflow's restart
# policy `ExitCode` does; those below are permanent.
FAILED, DIVERGED, STOPPED, PEER_LOST, NOT_UPLOADED = 1, 3, 130, 138, 140


# Characters of an error. A damaged file may give a value, or a list of names, of any length.
_LONGEST = 4000


class TrainingDivergedError(ArithmeticError):
    """The loss became infinite or NaN."""


class PeerLostError(RuntimeError):
    """Another worker of the run has ended or cannot be reached; the last checkpoint remains."""


class NotUploadedError(OSError):
    """Files of a run are on this machine and not in its object store."""


class TrainingStoppedError(RuntimeError):
    """The run was asked to stop; its state is saved."""


@dataclasses.dataclass
class Outcome:
    """How a command ended."""

    status: int = FAILED


@contextlib.contextmanager
def reported(command: str, *, debug: bool) -> Iterator[Outcome]:
    """Reports the errors that a user can correct as one line on stderr and an exit status.

    Args:
        command: Name of the command, for messages.
        debug: Whether to raise them with their traceback instead.

    Yields:
        The outcome, whose status the command sets.
    """
    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()  # a closed pipe fails here rather than at the interpreter's exit
    except BrokenPipeError:
        # The reader of a pipe has left, as in `keras-resnet list | head`. The rest of the output is
        # discarded, or writing it would fail at exit. 141 is the shell's status for SIGPIPE.
        outcome.status = 141
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        outcome.status = STOPPED
        print("Interrupted", file=sys.stderr)
    except TrainingStoppedError as stop:
        outcome.status = STOPPED
        print(stop, file=sys.stderr)
    except PeerLostError as lost:
        outcome.status = PEER_LOST
        print(f"Error: {lost}", file=sys.stderr)
    except NotUploadedError as left:
        outcome.status = NOT_UPLOADED
        print(f"Error: {one_line(left)}", file=sys.stderr)
    except TrainingDivergedError as diverged:
        if debug:
            raise
        outcome.status = DIVERGED
        print(f"Error: {one_line(diverged)}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if debug or (error.name or "").startswith(("keras_resnet", "train")):
            raise
        print(f"Error: {_missing(command, error)}", file=sys.stderr)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if debug:
            raise
        print(f"Error: {one_line(error)}", file=sys.stderr)
    except MemoryError as error:
        if debug:
            raise
        print(f"Error: Out of memory: {_first_line(error)}", file=sys.stderr)
    except Exception as error:
        # An operation of TensorFlow failed: an image that cannot be decoded, no memory left.
        if debug or not type(error).__module__.startswith("tensorflow"):
            raise
        print(f"Error: {_summary(error)}", file=sys.stderr)


def one_line(error: Exception) -> str:
    """Returns an error's text as one line; of a very long one its beginning and its length."""
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... ({len(text):,} characters in all)"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _missing(command: str, error: ModuleNotFoundError) -> str:
    """Returns which package a command needs, and how to install it."""
    if command in _ON_ANY_BACKEND and error.name in ("keras", "tensorflow", "jax", "torch"):
        return str(error)
    if "pip install" in str(error):  # it says what to do
        return str(error)
    package = _PACKAGES.get(error.name or "", "'keras3-resnet[train,export]'")
    needs = f"`keras-resnet {command}` needs {error.name}, which is not installed"
    return f"{needs}: pip install {package}"


def _summary(error: Exception) -> str:
    """Returns the line of a TensorFlow error with its cause, and a remedy if there is one."""
    text = cause(str(getattr(error, "message", error))) or type(error).__name__
    if type(error).__name__ == "ResourceExhaustedError":
        return f"Out of memory: lower --batch-size. {text}"
    return text


def cause(message: str) -> str:
    """Returns the line of a TensorFlow message with the cause, without names of nodes; or ""."""
    lines = (line.strip() for line in re.sub(_NODES, "", message).splitlines())
    return next((line for line in lines if line and not line.startswith(_AROUND)), "")
