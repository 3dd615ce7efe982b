"""Decoded images in memory: how much they may take."""

from __future__ import annotations

import os

from .sources import IN_MEMORY

PEAK = 1.3
"""Largest memory while images are decoded and trained on, in units of their decoded size."""


def fits(size: int, cache: str) -> bool:
    """Whether decoded images of a size are kept in memory.

    Args:
        size: Their size in bytes.
        cache: `auto` keeps them if `PEAK` times the size is at most 2 GiB and half of the memory
            that is free; `memory` always; `none` never.
    """
    if cache != "auto":
        return cache == "memory"
    return size * PEAK <= min(IN_MEMORY, free_memory() / 2)


def free_memory() -> float:
    """Returns the memory that the system can still give, in bytes; infinity where unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def notes(size: int) -> tuple[str, ...]:
    """Returns the sentence that states the memory of decoded images before it is taken.

    None below 64 MiB, as every net takes more itself.

    Args:
        size: Size of the decoded images in bytes.
    """
    if size < 64 * 2**20:
        return ()
    return (
        f"the images are decoded once and kept in memory: {size / 2**20:,.0f} MiB, at most "
        f"{size * PEAK / 2**20:,.0f} MiB while they are decoded",
    )
