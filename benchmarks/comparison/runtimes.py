"""Exported nets in their runtimes; each reads the file that its workload's mode names."""

from __future__ import annotations

import time
from typing import Any

from .files import TORCH_ONNX
from .workload import PhaseTimer, Runner, Workload, random_batch, repeat


def saved_model(workload: Workload, timer: PhaseTimer) -> Runner:
    """A SavedModel under TensorFlow's loader."""
    with timer("import"):
        import tensorflow as tf
    loaded = tf.saved_model.load(_path(workload))
    images = tf.constant(random_batch(workload)[0])

    def call() -> None:
        # Refers to `loaded`: a signature alone does not keep the variables alive.
        loaded.signatures["serving_default"](images_normalized=images)["logits"].numpy()

    return Runner(repeat(call))


def litert(workload: Workload, timer: PhaseTimer) -> Runner:
    """A LiteRT file under LiteRT's interpreter and XNNPACK."""
    with timer("import"):
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(_path(workload), num_threads=workload.threads)
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    images = random_batch(workload)[0]
    if source["dtype"] != images.dtype:
        scale, zero_point = source["quantization"]
        images = (images / scale + zero_point).clip(-128, 127).astype(source["dtype"])
    interpreter.resize_tensor_input(source["index"], images.shape)
    interpreter.allocate_tensors()

    def call() -> None:
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        interpreter.get_tensor(target["index"])

    return Runner(repeat(call))


def onnx_runtime(workload: Workload, timer: PhaseTimer) -> Runner:
    """An ONNX file under ONNX Runtime."""
    with timer("import"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = workload.threads
    session = onnxruntime.InferenceSession(
        _path(workload), options, providers=onnxruntime.get_available_providers()
    )
    images = {session.get_inputs()[0].name: _images(workload)}
    return Runner(repeat(lambda: session.run(None, images)))


def openvino(workload: Workload, timer: PhaseTimer) -> Runner:
    """An ONNX file under OpenVINO, held to float32: by default it computes in bfloat16."""
    with timer("import"):
        import openvino as ov
    images = _images(workload)
    core = ov.Core()
    model = core.read_model(_path(workload))
    model.reshape(list(images.shape))
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": workload.threads}
    compiled = core.compile_model(model, "CPU", hints)
    return Runner(repeat(lambda: compiled(images)))


def _path(workload: Workload) -> str:
    return f"{workload.folder}/{workload.mode}"


def _images(workload: Workload) -> Any:
    """Returns a batch in the layout of the file: PyTorch's has channels first."""
    import numpy as np

    images = random_batch(workload)[0]
    channels_first = workload.mode == TORCH_ONNX
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if channels_first else images


def matmul(workload: Workload, timer: PhaseTimer) -> Runner:
    """The machine's float32 peak: products of square matrices, by TensorFlow and by NumPy.

    Each measurement returns the seconds of the fastest product of 2 * size^3 operations.
    """
    with timer("import"):
        import numpy as np
        import tensorflow as tf
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, workload.size, workload.size), dtype="float32")
    tensors = tf.constant(left), tf.constant(right)
    products = (
        lambda: left @ right,
        lambda: tf.matmul(*tensors)[0, 0].numpy(),  # one value, which waits for a GPU
    )

    def run(times: int) -> dict[str, float]:
        fastest = float("inf")
        for product in products:
            for _ in range(times):
                started = time.perf_counter()
                product()
                fastest = min(fastest, time.perf_counter() - started)
        return {"": fastest}

    return Runner(run)
