"""Memory that is given back between the phases of an export."""

from __future__ import annotations

import ctypes
import gc
import sys


def release() -> None:
    """Collects what nothing refers to any more, and returns free memory to the system.

    Graphs of finished conversions hold their weights in cycles. glibc keeps freed blocks for later
    use of the same thread, which another thread's phase cannot use.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
