"""Measuring in child processes: environment, peak memory and the reason of a failure.

Imports nothing heavy, because callers time their own imports.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any


def peak_bytes() -> int:
    """Returns the peak resident memory of this process, bytes.

    On Linux, `ru_maxrss` of a child process starts at its parent's value; the kernel's own
    high-water mark `VmHWM` does not, so it is preferred where it exists.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    if sys.platform == "win32":
        return _peak_on_windows()
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def _peak_on_windows() -> int:
    """Returns `PeakWorkingSetSize` of PROCESS_MEMORY_COUNTERS, bytes."""
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_ulong),
            ("page_faults", ctypes.c_ulong),
            ("peak_working_set", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 7),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel: Any = vars(ctypes)["windll"].kernel32
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong)
    process = kernel.GetCurrentProcess()
    if not kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size):
        raise OSError("Windows did not say how much memory this process uses")
    return int(counters.peak_working_set)


def child_environment() -> dict[str, str]:
    """Returns the environment of a child process that runs Keras on TensorFlow without its log."""
    return {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def last_line(errors: bytes) -> str:
    """Returns the last line that is not empty of what a failed process wrote to stderr."""
    lines = errors.decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")
