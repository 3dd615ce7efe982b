"""The program that runs a file under a client's runtime, in a process of its own.

Runtimes of different programs contain the same libraries in different versions, crash where a file
does not suit them, print, and change global state. This module imports nothing of the package, so
that its process has no other runtime: `python -P client_process.py CLIENT FILE IMAGES RESULT`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MEGABYTE = 2**20
_TRY_ARENA = "try-arena"


class Ran(NamedTuple):
    """What a client's runtime returned.

    Attributes:
        outputs: float32 `(images, classes)`; fewer images than given if time was up. None if the
            runtime can only convert or load.
        detail: What else it showed, or "".
        arena_bytes: Memory of a microcontroller, or None.
        milliseconds: Median time for one image, without the first; None if it was not measured.
    """

    outputs: np.ndarray | None
    detail: str = ""
    arena_bytes: int | None = None
    milliseconds: float | None = None


class _Pace(NamedTuple):
    """How a runtime is run: its threads, or None for its own choice, and seconds at most."""

    threads: int | None
    seconds: float


def _each(
    images: np.ndarray, pace: _Pace, run: Callable[[np.ndarray], np.ndarray], size: int = 1
) -> tuple[np.ndarray, float | None]:
    """Runs images in batches of a size, the last one filled up, until time is up.

    Returns:
        The outputs, and the median time of a batch without the first, milliseconds.
    """
    outputs, seconds = [], []
    for first in range(0, len(images), size):
        part = images[first : first + size]
        full = np.resize(part, (size, *part.shape[1:]))
        start = time.perf_counter()
        outputs.append(np.asarray(run(full))[: len(part)])
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > pace.seconds:
            break
    median = float(np.median(seconds[1:])) * 1000 if len(seconds) > 1 else None
    return np.concatenate(outputs), median


def _mediapipe(path: Path, images: np.ndarray, pace: _Pace) -> Ran:
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(BaseOptions(os.fspath(path)), max_results=-1)
    names: dict[int, str] = {}

    def run(image: np.ndarray) -> np.ndarray:
        # MediaPipe takes uint8 pixels, and converts them where the file takes floats.
        pixels = np.ascontiguousarray(image[0].astype("uint8"))
        formats = {3: mediapipe.ImageFormat.SRGB, 4: mediapipe.ImageFormat.SRGBA}
        picture = mediapipe.Image(formats[pixels.shape[-1]], pixels)
        found = classifier.classify(picture).classifications[0].categories
        scores = np.zeros((1, len(found)), "float32")
        for category in found:
            scores[0, category.index] = category.score
            names[category.index] = category.category_name
        return scores

    with vision.ImageClassifier.create_from_options(options) as classifier:
        outputs, milliseconds = _each(images, pace, run)
    labels = [names[index] for index in sorted(names)]
    said = f"labels {', '.join(labels[:3])}..." if any(labels) else "no labels"
    return Ran(outputs, said, milliseconds=milliseconds)


def _tflite_micro(path: Path, images: np.ndarray, pace: _Pace) -> Ran:
    from tflite_micro import runtime

    content = path.read_bytes()
    arena = 10 * len(content) + 16 * _MEGABYTE
    with _captured() as log:
        try:
            interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {log()}") from error
    scales = interpreter.get_output_details(0)["quantization_parameters"]

    def run(image: np.ndarray) -> np.ndarray:
        interpreter.set_input(image, 0)
        interpreter.invoke()
        integers = interpreter.get_output(0).astype("float32")
        return (integers - scales["zero_points"][0]) * np.float32(scales["scales"][0])

    outputs, milliseconds = _each(images, pace, run)
    with _captured() as log:
        interpreter.print_allocations()
        total = re.search(r"Arena allocation total (\d+)", log())
    if total is None:
        said = "arena not measured: the runtime printed no total"
        return Ran(outputs, said, milliseconds=milliseconds)
    size = _smallest_arena(path, int(total[1]))
    return Ran(outputs, f"arena {size:,} bytes", size, milliseconds)


def _smallest_arena(path: Path, total: int) -> int:
    """Returns the smallest multiple of 16 bytes from `total` on with which the file is set up.

    The interpreter also plans its memory in the arena, which takes more than the tensors of small
    nets. Each size is tried in a process of its own: after a failure the next try can crash.
    """

    def accepted(units: int) -> bool:
        command = [sys.executable, "-P", __file__, _TRY_ARENA, os.fspath(path), str(units * 16)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    low = -(-total // 16)
    if accepted(low):
        return low * 16
    step = 64
    while not accepted(low + step):
        step *= 2
        if step * 16 > _MEGABYTE:
            raise ValueError(f"no arena of up to {(low + step) * 16:,} bytes was accepted")
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accepted(middle) else (middle, high)
    return high * 16


def _try_arena(path: str, size: str) -> None:
    from tflite_micro import runtime

    runtime.Interpreter.from_bytes(Path(path).read_bytes(), arena_size=int(size))


def _onnxruntime(path: Path, images: np.ndarray, pace: _Pace) -> Ran:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = pace.threads or 0
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    (source,) = session.get_inputs()

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run(None, {source.name: batch})[0]

    size = source.shape[0] if isinstance(source.shape[0], int) else 1
    outputs, milliseconds = _each(images, pace, run, size)
    return Ran(outputs, milliseconds=milliseconds)


def _openvino(path: Path, images: np.ndarray, pace: _Pace) -> Ran:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if pace.threads:
        settings["INFERENCE_NUM_THREADS"] = pace.threads
    core = openvino.Core()
    model = core.read_model(path)
    batch = model.input(0).partial_shape[0]
    compiled = core.compile_model(model, "CPU", settings)
    size = batch.get_length() if batch.is_static else 1
    outputs, milliseconds = _each(images, pace, lambda x: compiled(x)[0], size)
    return Ran(outputs, "INFERENCE_PRECISION_HINT f32", milliseconds=milliseconds)


def _coreml(path: Path, images: np.ndarray, pace: _Pace) -> Ran:
    import coremltools

    package = path.parent / "model.mlpackage"
    model = coremltools.convert(
        os.fspath(path), source="tensorflow", convert_to="mlprogram", skip_model_load=True
    )
    model.save(os.fspath(package))
    return Ran(None, f"converted to {package.name}; predictions need macOS")


class _Absent(types.ModuleType):
    """A module that is imported and not used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(name)


def _tfjs(path: Path, images: np.ndarray, pace: _Pace) -> Ran:
    # The converter imports these for models of theirs only, and they do not load beside every
    # TensorFlow.
    absent = ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf")
    for name in absent:
        try:
            __import__(name)
        except Exception:  # whatever a broken installation raises
            sys.modules[name] = _Absent(name)
    from tensorflowjs.converters import tf_saved_model_conversion_v2 as converter

    folder = path.parent / "tfjs"
    converter.convert_tf_saved_model(
        os.fspath(path),
        os.fspath(folder),
        signature_def="serving_default",
        saved_model_tags="serve",
    )
    node = shutil.which("node")
    if node is None or _node(node, _PACKAGES).returncode:
        return Ran(None, f"converted to {folder.name}/model.json; not run: Node.js with {_NPM}")
    with tempfile.TemporaryDirectory() as name:
        values, result = Path(name, "images"), Path(name, "result")
        values.write_bytes(images.astype("<f4").tobytes())
        shape = json.dumps([1, *images.shape[1:]])
        kind = "float32" if images.dtype == np.float32 else "int32"
        script = _PACKAGES + _SCRIPT
        done = _node(node, script, folder, values, result, shape, kind, pace.seconds)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        outputs = np.fromfile(result, "<f4")
    said = json.loads(done.stdout)
    return Ran(outputs.reshape(said["rows"], -1), "in Node.js", milliseconds=said["milliseconds"])


_NPM = "@tensorflow/tfjs-core, -converter and -backend-cpu in NODE_PATH"
_PACKAGES = """
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
const {loadGraphModel} = require("@tensorflow/tfjs-converter");
"""
_SCRIPT = """
const fs = require("fs"), path = require("path");
const [folder, values, result, shape, type, seconds] = process.argv.slice(1);
const json = JSON.parse(fs.readFileSync(path.join(folder, "model.json")));
const parts = json.weightsManifest.flatMap((group) => group.paths);
const weights = Buffer.concat(parts.map((part) => fs.readFileSync(path.join(folder, part))));
const handler = {load: async () => ({
  modelTopology: json.modelTopology, signature: json.signature, format: json.format,
  weightSpecs: json.weightsManifest.flatMap((group) => group.weights),
  weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length),
})};
(async () => {
  const model = await loadGraphModel(handler);
  const content = fs.readFileSync(values), size = JSON.parse(shape).reduce((a, b) => a * b);
  const numbers = new Float32Array(
    content.buffer.slice(content.byteOffset, content.byteOffset + content.length));
  // The converter renames the outputs; their order is that of logits, probabilities.
  const outputs = Object.values(json.signature.outputs).map((each) => each.name).sort();
  const rows = [], times = [];
  for (let at = 0; at < numbers.length; at += size) {
    const image = tf.tensor(numbers.slice(at, at + size), JSON.parse(shape), type);
    const start = performance.now();
    const logits = model.execute(image, outputs[0]);
    rows.push(Buffer.from(logits.dataSync().slice().buffer));
    times.push(performance.now() - start);
    tf.dispose([image, logits]);
    if (times.reduce((a, b) => a + b) > 1000 * seconds) break;
  }
  fs.writeFileSync(result, Buffer.concat(rows));
  const later = times.slice(1).sort((a, b) => a - b);
  const milliseconds = later.length ? later[later.length >> 1] : null;
  console.log(JSON.stringify({rows: rows.length, milliseconds}));
})().catch((error) => { console.error(error.message); process.exit(1); });
"""


def _node(node: str, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [node, "-e", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Redirects file descriptor 2 while a block runs; gives what has been written so far."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        original = os.dup(2)
        os.dup2(log.fileno(), 2)

        def written() -> str:
            log.seek(0)
            return " ".join(log.read().decode(errors="replace").split())

        try:
            yield written
        finally:
            os.dup2(original, 2)
            os.close(original)


RUNTIMES: dict[str, Callable[[Path, np.ndarray, _Pace], Ran]] = {
    "mediapipe": _mediapipe,
    "android": _mediapipe,
    "tflite-micro": _tflite_micro,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "coreml": _coreml,
    "tfjs": _tfjs,
}


def main(client: str, file: str, images: str, result: str, threads: str, seconds: str) -> None:
    """Runs a file and writes what came out: an array, and JSON beside it."""
    pace = _Pace(int(threads) or None, float(seconds))
    ran = RUNTIMES[client](Path(file), np.load(images), pace)
    if ran.outputs is not None:
        np.save(f"{result}.npy", ran.outputs.astype("float32"))
    said = {key: value for key, value in ran._asdict().items() if key != "outputs"}
    Path(result).write_text(json.dumps(said), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if sys.argv[1] == _TRY_ARENA:
        _try_arena(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
