"""Exported nets under their runtimes, and the making of these files before the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .job import Clock, Job, Ready, batch_of

SAVED_MODEL, TFLITE, TFLITE_INT8 = "ours.saved_model", "ours.tflite", "ours_int8.tflite"
ONNX, APPLICATIONS_TFLITE = "ours.onnx", "applications.tflite"


def make_file(job: Job, clock: Clock) -> Ready:
    """Makes the file that the job's route names; in a process of its own, for the sake of memory.

    Batch norm is folded first, as `keras-resnet export` does.
    """
    path = Path(job.folder, job.route)
    with clock("import"):
        import numpy as np

        from keras_resnet import PreprocessSpec
        from keras_resnet.export import export_saved_model, export_tflite
        from keras_resnet.reparam import deploy

        from .images import MEAN, STD, make_jpegs
        from .keras_peers import applications_net
        from .ours import net
    if job.route == "jpeg":
        make_jpegs(job)
        return Ready(lambda count: None)
    preprocess = PreprocessSpec((job.size, job.size), mean=MEAN, std=STD)
    plain = Job(**{**vars(job), "route": ""})
    model: Any = applications_net(job) if job.route == APPLICATIONS_TFLITE else deploy(net(plain))
    if job.route == SAVED_MODEL:
        export_saved_model(model, path, preprocess=preprocess, inputs="normalized")
    elif job.route == ONNX:
        model(np.zeros((1, *job.shape), "float32"))  # tf2onnx asks that it has been called
        model.export(str(path), format="onnx", verbose=False)
    else:
        rng = np.random.default_rng(0)
        export_tflite(
            model,
            path,
            precision="int8" if job.route == TFLITE_INT8 else "float32",
            preprocess=preprocess,
            inputs="normalized",
            calibration=rng.integers(0, 256, (8, *job.shape), dtype="uint8"),
        )
    return Ready(lambda count: None)


def saved_model(job: Job, clock: Clock) -> Ready:
    """Our SavedModel under TensorFlow's loader."""
    with clock("import"):
        import tensorflow as tf
    loaded = tf.saved_model.load(f"{job.folder}/{SAVED_MODEL}")
    images = tf.constant(batch_of(job)[0])

    def turn(count: int) -> None:
        # Named here so that it stays: the signature alone does not keep the variables alive.
        serve = loaded.signatures["serving_default"]
        for _ in range(count):
            serve(images_normalized=images)["logits"].numpy()

    return Ready(turn)


def litert(job: Job, clock: Clock) -> Ready:
    """The LiteRT file that the route names, under LiteRT's interpreter and XNNPACK."""
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
    """Our net as ONNX under ONNX Runtime."""
    with clock("import"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(
        f"{job.folder}/{ONNX}", options, providers=onnxruntime.get_available_providers()
    )
    images = {session.get_inputs()[0].name: batch_of(job)[0]}

    def turn(count: int) -> None:
        for _ in range(count):
            session.run(None, images)

    return Ready(turn)


def openvino(job: Job, clock: Clock) -> Ready:
    """Our net as ONNX under OpenVINO, held to float32: by default it computes in bfloat16."""
    with clock("import"):
        import openvino as ov
    images = batch_of(job)[0]
    core = ov.Core()
    model = core.read_model(f"{job.folder}/{ONNX}")
    model.reshape(list(images.shape))
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job.threads}
    run = core.compile_model(model, "CPU", hints)

    def turn(count: int) -> None:
        for _ in range(count):
            run(images)

    return Ready(turn)


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
