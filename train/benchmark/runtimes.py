"""Exported nets under their runtimes; each reads the file that its job's route names."""

from __future__ import annotations

from typing import Any

from .files import TORCH_ONNX
from .job import Clock, Job, Ready, batch_of


def saved_model(job: Job, clock: Clock) -> Ready:
    """A SavedModel under TensorFlow's loader."""
    with clock("import"):
        import tensorflow as tf
    loaded = tf.saved_model.load(f"{job.folder}/{job.route}")
    images = tf.constant(batch_of(job)[0])

    def turn(count: int) -> None:
        # Named here so that it stays: the signature alone does not keep the variables alive.
        serve = loaded.signatures["serving_default"]
        for _ in range(count):
            serve(images_normalized=images)["logits"].numpy()

    return Ready(turn)


def litert(job: Job, clock: Clock) -> Ready:
    """A LiteRT file under LiteRT's interpreter and XNNPACK."""
    with clock("import"):
        from ai_edge_litert.interpreter import Interpreter
    path = f"{job.folder}/{job.route}"
    interpreter = Interpreter(path, num_threads=job.threads)
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    images = batch_of(job)[0]
    if source["dtype"] != images.dtype:
        scale, zero_point = source["quantization"]
        images = (images / scale + zero_point).clip(-128, 127).astype(source["dtype"])
    interpreter.resize_tensor_input(source["index"], images.shape)
    interpreter.allocate_tensors()

    def turn(count: int) -> None:
        for _ in range(count):
            interpreter.set_tensor(source["index"], images)
            interpreter.invoke()
            interpreter.get_tensor(target["index"])

    return Ready(turn)


def onnx_runtime(job: Job, clock: Clock) -> Ready:
    """An ONNX file under ONNX Runtime."""
    with clock("import"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(
        f"{job.folder}/{job.route}", options, providers=onnxruntime.get_available_providers()
    )
    images = {session.get_inputs()[0].name: _images(job)}

    def turn(count: int) -> None:
        for _ in range(count):
            session.run(None, images)

    return Ready(turn)


def openvino(job: Job, clock: Clock) -> Ready:
    """An ONNX file under OpenVINO, held to float32: by default it computes in bfloat16."""
    with clock("import"):
        import openvino as ov
    images = _images(job)
    core = ov.Core()
    model = core.read_model(f"{job.folder}/{job.route}")
    model.reshape(list(images.shape))
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job.threads}
    run = core.compile_model(model, "CPU", hints)

    def turn(count: int) -> None:
        for _ in range(count):
            run(images)

    return Ready(turn)


def _images(job: Job) -> Any:
    """Returns a batch as the file takes it: PyTorch's has its channels first."""
    import numpy as np

    images = batch_of(job)[0]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if job.route == TORCH_ONNX else images


def matmul(job: Job, clock: Clock) -> Ready:
    """The machine's float32 peak: products of square matrices, by TensorFlow and by NumPy.

    Each turn returns the seconds of the fastest product of 2 * size^3 operations as `fastest`.
    """
    with clock("import"):
        import time

        import numpy as np
        import tensorflow as tf
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, job.size, job.size), dtype="float32")
    ways = [lambda: left @ right]
    tensors = tf.constant(left), tf.constant(right)
    ways.append(lambda: tf.matmul(*tensors)[0, 0].numpy())  # one value: a GPU's is to be waited for

    def turn(count: int) -> dict[str, float]:
        fastest = float("inf")
        for way in ways:
            for _ in range(count):
                started = time.perf_counter()
                way()
                fastest = min(fastest, time.perf_counter() - started)
        return {"fastest": fastest}

    return Ready(turn)
