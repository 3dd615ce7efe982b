"""The process that runs one file: loads it, answers with times, and reports its memory.

It imports only what runs the file, so that its memory is the file's: neither Keras nor TensorFlow
for LiteRT and ONNX files. It reads and writes one JSON object per line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..measurement import peak_bytes

Shape = Sequence[int | None]
_CHANNELS = (1, 3, 4)


class Loaded:
    """A file that is ready to run.

    Attributes:
        run: Runs it once.
        version: Name and version of the runtime.
        batch: Images of one call.
        before: Peak memory of the process before it was loaded, with its runtime, bytes.
    """

    def __init__(self, run: Callable[[], Any], version: str, batch: int, before: int) -> None:
        self.run, self.version, self.batch, self.before = run, version, batch, before


def load(request: Mapping[str, Any]) -> Loaded:
    """Loads the file of a request; see `turns.Timed`."""
    kinds = {"tflite": _litert, "onnx": _onnx, "saved_model": _saved_model}
    return kinds.get(request["format"], _keras)(request)


def _litert(request: Mapping[str, Any]) -> Loaded:
    import importlib.metadata

    from ai_edge_litert.interpreter import Interpreter

    before = peak_bytes()
    interpreter = Interpreter(model_path=request["path"], num_threads=request["threads"])
    (source,) = interpreter.get_input_details()
    signed = source["shape_signature"]
    if len(signed) != len(source["shape"]):
        signed = source["shape"]
    shape = _filled([None if side < 0 else int(side) for side in signed], request)
    if shape != list(source["shape"]):
        interpreter.resize_tensor_input(source["index"], shape)
    interpreter.allocate_tensors()
    images = _images(shape, np.dtype(source["dtype"]))

    def run() -> None:
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        for each in interpreter.get_output_details():
            interpreter.get_tensor(each["index"])

    return Loaded(run, f"LiteRT {importlib.metadata.version('ai-edge-litert')}", shape[0], before)


def _onnx(request: Mapping[str, Any]) -> Loaded:
    import onnxruntime

    before = peak_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        request["path"], options, providers=["CPUExecutionProvider"]
    )
    (source,) = session.get_inputs()
    given = [side if isinstance(side, int) and side > 0 else None for side in source.shape]
    shape = _filled(given, request)
    types = {"tensor(float16)": "float16", "tensor(double)": "float64"}
    dtype = types.get(source.type, source.type[7:-1].replace("float", "float32"))
    images = _images(shape, np.dtype(dtype))
    return Loaded(
        lambda: session.run(None, {source.name: images}),
        f"ONNX Runtime {onnxruntime.__version__}",
        shape[0],
        before,
    )


def _saved_model(request: Mapping[str, Any]) -> Loaded:
    tf = _tensorflow(request["threads"])
    before = peak_bytes()
    loaded = tf.saved_model.load(request["path"])
    signatures = dict(loaded.signatures)
    function = signatures.get("serving_default") or next(iter(signatures.values()))
    ((name, spec),) = function.structured_input_signature[1].items()
    shape = _filled(spec.shape.as_list(), request)
    images = tf.constant(_images(shape, np.dtype(spec.dtype.as_numpy_dtype)))

    def run(keep: Any = loaded) -> None:  # the signature alone does not keep the variables alive
        for output in function(**{name: images}).values():
            output.numpy()

    return Loaded(run, f"TensorFlow {tf.__version__}", shape[0], before)


def _keras(request: Mapping[str, Any]) -> Loaded:
    """Loads a run or weights; predictions are one graph, with the normalisation of pixels."""
    tf = _tensorflow(request["threads"])
    import keras

    from ..evaluation import open_member

    before = peak_bytes()
    member = open_member(request["path"], net=request["net"], default_net=True)
    shape = [request["batch"], *member.preprocess.size, member.channels]
    images, run = _images(shape, np.dtype("uint8")), member.compiled()
    version = f"Keras {keras.__version__}, TF {tf.__version__}"
    return Loaded(lambda: run(images), version, shape[0], before)


def _tensorflow(threads: int) -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def _filled(shape: Shape, request: Mapping[str, Any]) -> list[int]:
    """Returns the shape of the input with the batch and the size in place of open sides."""
    if len(shape) != 4:
        raise ValueError(f"{request['path']} does not take images: its input is {list(shape)}")
    first = shape[3] not in _CHANNELS and shape[1] in _CHANNELS
    places = (2, 3) if first else (1, 2)
    given = {0: request["batch"], **dict(zip(places, request["size"] or (), strict=False))}
    filled = [side or given.get(place, 0) for place, side in enumerate(shape)]
    if 0 in filled:
        raise ValueError(
            f"{request['path']} takes images of any size: choose one with --image-size"
        )
    if request["batch"] % filled[0]:
        raise ValueError(
            f"{request['path']} has a fixed batch of {filled[0]}: --batch must be a multiple of "
            f"it. Received: {request['batch']}"
        )
    return filled


def _images(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """Returns random images; their values do not change what is computed."""
    rng = np.random.default_rng(0)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(max(limits.min, -128), min(limits.max, 255), shape, dtype)
    return rng.random(shape, "float32").astype(dtype)


def _timed(loaded: Loaded, batch: int, seconds: float) -> dict[str, list[float]]:
    """Runs batches for some seconds, at least once; returns wall and processor seconds of each."""
    calls = range(batch // loaded.batch)
    wall: list[float] = []
    cpu: list[float] = []
    end = time.perf_counter() + seconds
    while not wall or time.perf_counter() < end:
        started, used = time.perf_counter(), time.process_time()
        for _ in calls:
            loaded.run()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {"wall": wall, "cpu": cpu}


def main() -> int:
    """Answers requests until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # what libraries print is no answer
    request = json.loads(sys.stdin.readline())
    os.chdir(request["folder"])
    try:
        started = time.perf_counter()
        loaded = load(request)
        first = _timed(loaded, request["batch"], 0.0)["wall"][0]
        facts = {
            "version": loaded.version,
            "calls": request["batch"] // loaded.batch,
            "before_bytes": loaded.before,
            "load_seconds": time.perf_counter() - started,
            "first_seconds": first,
        }
    except Exception as error:  # runtimes raise what they like
        facts = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin if "error" not in facts else ():
        answer = _timed(loaded, request["batch"], json.loads(line)["seconds"])
        print(json.dumps({**answer, "peak_bytes": peak_bytes()}), file=answers, flush=True)
    return 1 if "error" in facts else 0


def folder_bytes(path: Path) -> int | None:
    """Returns the size of a file or of a directory's files, bytes; None if there is none."""
    if path.is_file():
        return path.stat().st_size
    if not path.is_dir():
        return None
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        sys.exit(main())
