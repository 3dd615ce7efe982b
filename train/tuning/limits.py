"""The cost of a net, and the limits on it."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec, build
from keras_resnet.analysis.counts import count_spec

from ..files import read_json, write_json

LatencyPrecision = Literal["float32", "int8"]

_RUNS = 50
_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of inference on one image.

    Attributes:
        parameters: Trainable parameters.
        multiply_adds: As `keras_resnet.analysis.counts` counts them.
        latency_ms: Median milliseconds of its LiteRT file with one thread; None if not measured.
    """

    parameters: int
    multiply_adds: int
    latency_ms: float | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """The highest cost of a candidate; None means no limit.

    Attributes:
        parameters: Trainable parameters.
        multiply_adds: Multiply-adds of one image.
        latency_ms: Milliseconds per image on this machine, see `Cost`.
        precision: Precision of the LiteRT file whose latency is measured.

    Raises:
        ValueError: If a limit is not above 0.
    """

    parameters: int | None = None
    multiply_adds: int | None = None
    latency_ms: float | None = None
    precision: LatencyPrecision = "float32"

    def __post_init__(self) -> None:
        """Checks the limits."""
        for field in ("parameters", "multiply_adds", "latency_ms"):
            value = getattr(self, field)
            if value is not None and not 0 < value < float("inf"):
                option = {"latency_ms": "latency"}.get(field, field.replace("_", "-"))
                raise ValueError(f"`--max-{option}` must be above 0 and finite. Received: {value}")

    def broken(self, cost: Cost) -> Iterator[str]:
        """Yields each limit that a cost exceeds, as text."""
        if self.parameters is not None and cost.parameters > self.parameters:
            yield f"{cost.parameters:,} parameters, limit {self.parameters:,}"
        if self.multiply_adds is not None and cost.multiply_adds > self.multiply_adds:
            yield f"{cost.multiply_adds:,} multiply-adds, limit {self.multiply_adds:,}"
        latency, limit = cost.latency_ms, self.latency_ms
        if limit is not None and latency is not None and latency > limit:
            yield f"{latency:.3g} ms ({self.precision} LiteRT, 1 thread), limit {limit:g} ms"


class CostBook:
    """Costs by architecture, each measured once and kept in a file.

    Args:
        path: The file, or None: see `keep_in`.
        classes: Number of classes.
        input_shape: `(height, width, channels)` of one image.
        limits: Latency is measured only if it is limited and the other limits are kept.
    """

    def __init__(
        self, path: Path | None, classes: int, input_shape: tuple[int, int, int], limits: Limits
    ) -> None:
        self._classes = classes
        self._shape = input_shape
        self._limits = limits
        self._costs: dict[str, Cost] = {}
        self._path: Path | None = None
        if path is not None:
            self.keep_in(path)

    def keep_in(self, path: Path) -> None:
        """Reads costs from a file, which take precedence, and writes new ones to it from now on."""
        self._path = path
        if path.is_file():
            self._costs |= {key: Cost(**values) for key, values in read_json(path).items()}
        elif self._costs:
            self._write(path)

    def of(self, spec: ResNetSpec) -> Cost:
        """Returns the cost of a net.

        Raises:
            ValueError: If the net cannot be built for these images.
        """
        key = architecture(spec)
        if key not in self._costs:
            found = count_spec(spec, classes=self._classes, input_shape=self._shape)
            cost = Cost(found.parameters, found.multiply_adds)
            if self._limits.latency_ms is not None and not any(self._limits.broken(cost)):
                latency = measure_latency(spec, self._classes, self._shape, self._limits.precision)
                cost = dataclasses.replace(cost, latency_ms=latency)
            self._costs[key] = cost
            if self._path is not None:
                self._write(self._path)
        return self._costs[key]

    def _write(self, path: Path) -> None:
        write_json(path, {key: dataclasses.asdict(cost) for key, cost in self._costs.items()})


def architecture(spec: ResNetSpec) -> str:
    """Returns a text that identifies nets of the same cost; options of training are left out."""
    plain = spec.replace(name="net", stochastic_depth=0.0, zero_init_residual=False)
    values = plain.replace(norm_sync=False).to_dict()
    return ",".join(
        f"{field.name}={values[field.name]}"
        for field in dataclasses.fields(spec)
        if values[field.name] != field.default
    )


def measure_latency(
    spec: ResNetSpec, classes: int, input_shape: tuple[int, int, int], precision: LatencyPrecision
) -> float:
    """Measures the LiteRT file of an untrained net as `export` writes it, with norms folded.

    Returns:
        Median milliseconds per image with one thread, after five warm-up runs.
    """
    from ai_edge_litert.interpreter import Interpreter

    from keras_resnet.export.litert_file import export_tflite
    from keras_resnet.export.quiet import quiet
    from keras_resnet.reparam import deploy

    model = build(spec.replace(norm_sync=False), classes=classes, input_shape=input_shape, seed=0)
    _unzero(model)
    height, width, channels = input_shape
    preprocess = PreprocessSpec((height, width), mean=(127.5,) * channels, std=(64.0,) * channels)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *input_shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        export_tflite(
            deploy(model),
            path,
            precision=precision,
            preprocess=preprocess,
            calibration=pixels if precision == "int8" else None,
        )
        with quiet():
            interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
            interpreter.allocate_tensors()
    return _median_ms(interpreter, pixels[:1])


def _median_ms(interpreter: Any, image: np.ndarray) -> float:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    for _ in range(5):
        interpreter.invoke()
    seconds: list[float] = []
    while len(seconds) < _RUNS and sum(seconds) < _SECONDS:
        start = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000


def _unzero(model: Any) -> None:
    """Replaces weights that are all zero, which a converter could remove."""
    for variable in model.trainable_variables:
        value = np.asarray(variable)
        if not value.any():
            variable.assign(np.full_like(value, 0.01))
