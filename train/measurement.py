"""Measuring in child processes: environment, peak memory and the reason of a failure.

Imports nothing heavy, because callers time their own imports.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Returns the peak resident memory of this process, bytes.

    On Linux, `ru_maxrss` of a child process starts at its parent's value; the kernel's own
    high-water mark `VmHWM` does not, so it is preferred where it exists.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def child_environment() -> dict[str, str]:
    """Returns the environment of a child process that runs Keras on TensorFlow without its log."""
    return {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def last_line(errors: bytes) -> str:
    """Returns the last line that is not empty of what a failed process wrote to stderr."""
    lines = errors.decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")
