"""What a contender is told and what it answers; imports nothing heavy, because it is timed."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Job:
    """The work of a contender, the same for all that are compared.

    Attributes:
        net: Name of the net in this package's catalog.
        depths: Units of its stages, for peers that must not load this package to know them.
        cifar: Whether it is of the CIFAR kind: basic units, 3x3 stem.
        size: Height and width of the images, pixels.
        batch: Images a step, on all devices together.
        classes: Outputs.
        threads: That a library may compute on.
        folder: For files: exported nets, checkpoints, images.
        precision: `float32`, `mixed_bfloat16`, `mixed_float16` or `int8`.
        xla: Whether XLA compiles the step.
        route: Which of a library's ways is taken, where it has several.
    """

    net: str
    depths: Sequence[int]
    cifar: bool
    size: int
    batch: int
    classes: int
    threads: int
    folder: str
    precision: str = "float32"
    xla: bool = False
    route: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: `(height, width, channels)`."""
        return (self.size, self.size, 3)


@dataclasses.dataclass(frozen=True)
class Ready:
    """A contender that has been set up.

    Attributes:
        turn: Does a number of units of work. It returns the seconds of each part by name where it
            takes the time itself, or None, and is then timed from outside.
        multiply_adds: Of one image forward, as `analysis.count` counts, where it is not the job's
            net exactly; else None.
    """

    turn: Callable[[int], Mapping[str, float] | None]
    multiply_adds: int | None = None


class Clock:
    """Takes the time of the parts of a start: `with clock("build"): ...`.

    Attributes:
        seconds: Of each part, by name.
        memory: Peak memory of the process when the import was done, bytes.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory = 0

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times a block."""
        started = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - started
        if part == "import":
            self.memory = peak_bytes()


Factory = Callable[[Job, Clock], Ready]


def peak_bytes() -> int:
    """Returns the largest memory that this process has held, bytes.

    `ru_maxrss` of a process that was started by fork and exec begins at its parent's; the kernel's
    own high-water mark does not, so where there is one it is taken.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def batch_of(job: Job) -> tuple[Any, Any]:
    """Returns one batch: float32 images `(batch, height, width, channels)` and int64 labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.standard_normal((job.batch, *job.shape), dtype="float32")
    return images, rng.integers(0, job.classes, job.batch)
