"""The automatic choice of a file: candidates of all precisions, measured beside each other."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.export import artifacts
from keras_resnet.export.choice_report import write_plot, write_table
from keras_resnet.export.net_outputs import check_image_classifier
from keras_resnet.export.pipeline import ExportError, export
from keras_resnet.export.request import ExportRequest
from keras_resnet.export.runtimes import load
from keras_resnet.export.verification import Verification

_ROUNDS, _RUNS = 7, 5
# Of files that are as fast within this share, the smallest is chosen.
_EQUAL_SPEED = 0.05
TABLE, PLOT = "choice.md", "choice.svg"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the chosen file must keep.

    Attributes:
        accuracy_drop: Largest loss of top-1 accuracy, as a share of the images; without labels, the
            largest share of images whose class changes; with several labels per image, the largest
            share of the labels that the net or the file gives which the other does not. None for
            any.
        latency_ms: Largest median time for one image on this machine, milliseconds; None for any.
        bytes: Largest size of the file; None for any.

    Raises:
        ValueError: If a limit is negative, or the share above 1.

    Example:
        >>> keras_resnet.export.Wanted(accuracy_drop=0.005, latency_ms=5, bytes=300_000)
    """

    accuracy_drop: float | None = 0.005
    latency_ms: float | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        for name, value in dataclasses.asdict(self).items():
            highest = 1.0 if name == "accuracy_drop" else math.inf
            if value is not None and not 0 <= value <= highest:
                raise ValueError(f"`{name}` must lie in [0, {highest}]. Received: {name}={value}")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file that was tried.

    Attributes:
        file: Its name.
        verification: Its measurements; None if it could not be written.
        latency_ms: Median time for one image, all candidates in turns; None if it was refused.
        reasons: Why it was not taken; empty for the chosen file and for files that keep all limits.
        excess: By which share it exceeds the limits, summed; infinite if it was refused.

    Example:
        >>> [each.file for each in choice.candidates if not each.reasons]
    """

    file: str
    verification: Verification | None
    latency_ms: float | None = None
    reasons: tuple[str, ...] = ()
    excess: float = 0.0


@dataclasses.dataclass(frozen=True)
class Choice:
    """The result of `choose`.

    Attributes:
        chosen: The candidate that was taken.
        candidates: All of them.
        threads: Number of threads of the latency.

    Example:
        >>> choice.chosen.file, [each.reasons for each in choice.candidates]
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    threads: int


class NoFile(ValueError):
    """No candidate keeps the limits.

    Attributes:
        candidates: All of them; the message names the nearest.

    Example:
        >>> error.candidates[0].reasons
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)
        nearest = min(candidates, key=lambda each: each.excess)
        super().__init__(
            f"None of {len(candidates)} files keeps the limits. The nearest is {nearest.file}: "
            f"{'; '.join(nearest.reasons)}"
        )


def choose(
    model: keras.Model,
    directory: str | os.PathLike[str],
    request: ExportRequest,
    wanted: Wanted,
    *,
    keep_all: bool = False,
) -> Choice:
    """Exports candidates, measures them beside each other and keeps the best.

    The best is the fastest file that keeps the limits; of files that are as fast within 5 %, the
    smallest. The median time of one image is measured on this machine with all its threads, the
    candidates in turns. Writes the file, its entry in `manifest.json`, the table `choice.md` and,
    if matplotlib is installed, the plot `choice.svg` of accuracy against size and latency.

    Args:
        model: Float32 functional model that maps normalised images to logits.
        directory: Directory for the file; created if missing.
        request: Formats and precisions of the candidates, and the images that measure them.
        wanted: What the file must keep.
        keep_all: Whether to write all candidates that are right.

    Returns:
        The choice, with the reason for each candidate.

    Raises:
        NoFile: If no candidate keeps the limits. The table and the plot are written.
        ValueError: If an argument has a value that does not fit.

    Example:
        ```python
        request = keras_resnet.export.ExportRequest(
            preprocess=model.preprocess, images=pixels, labels=labels, calibration=training_pixels,
            formats=("tflite",), precisions=("float32", "float16", "dynamic", "int8"),
        )
        wanted = keras_resnet.export.Wanted(accuracy_drop=0.005, bytes=300_000)
        print(keras_resnet.export.choose(model, "exports", request, wanted).chosen.file)
        ```
    """
    check_image_classifier(model, "The choice of a file (`choose`, `--auto`)", "it ranks accuracy")
    directory = Path(directory)
    artifacts.check_replaceable(directory, [target.name for target in request.targets])
    artifacts.read_manifest(directory)
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".choose.tmp", dir=directory))
    try:
        candidates = _candidates(model, staging, request, wanted)
        right = [each for each in candidates if each.latency_ms is not None]
        fitting = [each for each in right if not each.reasons]
        chosen = _best(fitting) if fitting else None
        write_table(directory / TABLE, candidates, chosen, wanted, _threads())
        write_plot(directory / PLOT, right, chosen, wanted)
        kept = right if keep_all else [each for each in right if each is chosen]
        names = [each.file for each in kept]
        entries = artifacts.read_manifest(staging)
        _withdraw_older(directory, request, names, entries)
        artifacts.publish(staging, directory, names)
        if (staging / artifacts.LABELS).exists() and names:
            artifacts.publish(staging, directory, [artifacts.LABELS])
        new = {name: entries[name] for name in names}
        artifacts.write_manifest(directory, {**artifacts.read_manifest(directory), **new})
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if chosen is None:
        raise NoFile(candidates)
    return Choice(chosen, tuple(candidates), _threads())


def _withdraw_older(
    directory: Path, request: ExportRequest, kept: Sequence[str], entries: Mapping[str, Any]
) -> None:
    """Withdraws earlier files of other weights under the names of candidates that are not kept.

    So that nothing takes them, or their class names, for this model's.
    """
    weights = {entry["weights_sha256"] for entry in entries.values()}
    earlier = artifacts.read_manifest(directory)
    names = [
        target.name
        for target in request.targets
        if target.name in earlier.keys() - {*kept}
        and earlier[target.name].get("weights_sha256") not in weights
    ]
    if kept and request.class_names is None:
        names.append(artifacts.LABELS)
    artifacts.withdraw(directory, names)


def _threads() -> int:
    return os.cpu_count() or 1


def _candidates(
    model: keras.Model, staging: Path, request: ExportRequest, wanted: Wanted
) -> list[Candidate]:
    """Exports and measures all candidates."""
    refused = []
    try:
        verifications = export(model, staging, request)
    except ExportError as error:
        verifications = list(error.verifications)
        refused = [
            Candidate(each.file, each.verification, None, (each.describe({}),), math.inf)
            for each in error.rejected
        ]
    latencies = _latencies_ms([staging / v.file for v in verifications], request)
    right = [
        _judged(v, latency, wanted, request.several_labels)
        for v, latency in zip(verifications, latencies, strict=True)
    ]
    return right + refused


def _latencies_ms(paths: Sequence[Path], request: ExportRequest) -> list[float]:
    """Returns the median time of each file for one image, the files in turns."""
    runtimes = [load(path) for path in paths]
    images = [each.prepare(request.images[:1], request.preprocess) for each in runtimes]
    seconds: list[list[float]] = [[] for _ in paths]
    for turn in range(_ROUNDS):
        for runtime, image, times in zip(runtimes, images, seconds, strict=True):
            for run in range(_RUNS):
                start = time.perf_counter()
                runtime.run(image)
                if turn and run:  # the first round and the first run of each turn warm up
                    times.append(time.perf_counter() - start)
    return [1000 * statistics.median(times) for times in seconds]


def loss_of(verification: Verification) -> float:
    """Returns the loss of accuracy, or without labels the share of changed classes."""
    drop = verification.accuracy_drop
    return 1 - verification.agreement if drop is None else drop


def _judged(v: Verification, latency: float, wanted: Wanted, several: bool) -> Candidate:
    """Returns a candidate with the limits that it exceeds."""
    loss, points = loss_of(v), 100 * loss_of(v)
    name = "labels changed" if several else "classes changed"
    if v.accuracy is not None:
        name = "accuracy drop"
    measured = (
        (loss, wanted.accuracy_drop, f"{name} {points:.2f} points", 100.0, "points"),
        (latency, wanted.latency_ms, f"latency {latency:.3g} ms", 1.0, "ms"),
        (v.bytes, wanted.bytes, f"size {v.bytes / 1000:.1f} KB", 1e-3, "KB"),
    )
    reasons, excess = [], 0.0
    for value, limit, text, factor, unit in measured:
        if limit is not None and value > limit + 1e-9:
            reasons.append(f"{text}, limit {limit * factor:g} {unit}")
            excess += (value - limit) / max(limit, 1e-3)
    return Candidate(v.file, v, latency, tuple(reasons), excess)


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the fastest candidate; of those as fast, the smallest."""
    fastest = min(each.latency_ms or 0.0 for each in candidates)
    equal = [
        each for each in candidates if (each.latency_ms or 0.0) <= fastest * (1 + _EQUAL_SPEED)
    ]
    return min(equal, key=lambda each: each.verification.bytes if each.verification else 0)
