"""The work of a contender, and what its set-up returns.

Imports nothing heavy, because the imports of each library are timed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_resnet_train.measurement import peak_bytes


@dataclasses.dataclass(frozen=True)
class Workload:
    """The work of a contender, equal for all that are compared.

    Attributes:
        net: Name of the net in this package's catalog.
        depths: Units per stage, for peers that must not import this package to look them up.
        cifar: Whether it is a CIFAR net: basic units, 3x3 stem.
        size: Height and width of the images, pixels.
        batch: Images per step, over all devices together.
        classes: Number of classes.
        threads: Threads that the library may use.
        folder: Directory of exported nets, checkpoints and images.
        precision: `float32`, `mixed_bfloat16`, `mixed_float16` or `int8`.
        xla: Whether XLA compiles the step.
        mode: Which of a library's ways is measured, or the name of the file to read.
        runtime: Fields of this package's `RuntimeConfig` that differ from the defaults.
        augment: Fields of this package's `AugmentConfig` beside crop and flip.
        processor_time: Whether input pipelines are timed by their process's processor time, which
            other programs on the machine change little, and not by the clock.
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
    mode: str = ""
    runtime: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    augment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    processor_time: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: `(height, width, channels)`."""
        return (self.size, self.size, 3)


@dataclasses.dataclass(frozen=True)
class Runner:
    """A contender after its set-up.

    Attributes:
        run: Does a number of units of work. Returns seconds by part where it measures them itself,
            else None; the call is then timed from outside.
        multiply_adds: Multiply-adds of one image forward where they differ from the workload's
            net, else None.
    """

    run: Callable[[int], Mapping[str, float] | None]
    multiply_adds: int | None = None


class PhaseTimer:
    """Times the phases of a set-up: `with timer("build"): ...`.

    Attributes:
        seconds: Seconds by phase.
        memory: Peak memory of the process at the end of the import, bytes.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory = 0

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Times a block."""
        started = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - started
        if phase == "import":
            self.memory = peak_bytes()


def random_batch(workload: Workload) -> tuple[Any, Any]:
    """Returns one batch: float32 images `(batch, height, width, channels)` and int64 labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.standard_normal((workload.batch, *workload.shape), dtype="float32")
    return images, rng.integers(0, workload.classes, workload.batch)


def repeat(call: Callable[[], Any]) -> Callable[[int], None]:
    """Returns a function that makes a call a number of times."""

    def run(times: int) -> None:
        for _ in range(times):
            call()

    return run
