"""Confidence intervals of proportions."""

from __future__ import annotations

import math


def wilson(right: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Returns Wilson's score interval of a proportion; 95 % at the default z.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Raises:
        ValueError: If `right` is not in 0..total, or total is 0.
    """
    if total < 1 or not 0 <= right <= total:
        raise ValueError(f"`right` must lie in 0..total. Received: right={right}, total={total}")
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + (z / total / 2) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)
