"""Training speed."""

from __future__ import annotations


class Throughput:
    """Images per second of the calls of a graph, without the first one, which traces it."""

    def __init__(self) -> None:
        self._traced = False
        self._images = 0
        self._seconds = 0.0

    def add(self, images: int, seconds: float) -> None:
        """Adds a call that processed `images` images in `seconds` seconds."""
        if self._traced:
            self._images += images
            self._seconds += seconds
        self._traced = True

    @property
    def images_per_second(self) -> float | None:
        """The speed, or None before the second call."""
        return self._images / max(self._seconds, 1e-9) if self._images else None
