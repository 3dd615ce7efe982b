"""Files that contenders read: exported nets and images, each written in a process of its own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .images import MEAN, STD, write_jpegs
from .photographs import LARGE, USUAL, write_photographs
from .workload import PhaseTimer, Runner, Workload

SAVED_MODEL, TFLITE, TFLITE_INT8 = "ours.saved_model", "ours.tflite", "ours_int8.tflite"
ONNX = "ours.onnx"
APPLICATIONS_TFLITE = "applications.tflite"
APPLICATIONS_TFLITE_INT8 = "applications_int8.tflite"
APPLICATIONS_ONNX, APPLICATIONS_ONNX_INT8 = "applications.onnx", "applications_int8.onnx"
TORCH_ONNX = "torch.onnx"
JPEG = "jpeg"
_CALIBRATION = 8  # images


def write(workload: Workload, timer: PhaseTimer) -> Runner:
    """Writes the file that the workload's mode names, in the workload's folder."""
    with timer("import"):
        import keras_resnet  # noqa: F401
    WRITERS[workload.mode](workload, Path(workload.folder, workload.mode))
    return Runner(lambda units: None)


def _our_net(workload: Workload) -> Any:
    """Returns the net as `keras-resnet export` converts it: batch norm folded."""
    from keras_resnet.reparam import deploy

    from .ours import build_net

    return deploy(build_net(dataclasses.replace(workload, mode="")))


def _applications_net(workload: Workload) -> Any:
    from .keras_peers import applications_net

    return applications_net(workload)


def _export(
    workload: Workload,
    path: Path,
    exporter: str,
    net: Callable[[Workload], Any] = _our_net,
    **options: Any,
) -> None:
    """Exports a net by this package."""
    from keras_resnet import PreprocessSpec, export

    preprocess = PreprocessSpec((workload.size, workload.size), mean=MEAN, std=STD)
    write = getattr(export, exporter)
    write(net(workload), path, preprocess=preprocess, inputs="normalized", **options)


def _export_tflite(
    workload: Workload, path: Path, precision: str, net: Callable[[Workload], Any] = _our_net
) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_CALIBRATION, *workload.shape), dtype="uint8")
    # Whole batches are measured too.
    options = {"precision": precision, "calibration": images, "batch": "open"}
    _export(workload, path, "export_tflite", net, **options)


def _applications_onnx(workload: Workload, path: Path) -> None:
    """Exports by Keras; tf2onnx folds batch norm by itself."""
    import numpy as np

    model = _applications_net(workload)
    model(np.zeros((1, *workload.shape), "float32"))  # Keras exports models that have been called
    model.export(str(path), format="onnx", verbose=False)


def _applications_onnx_int8(workload: Workload, path: Path) -> None:
    """Quantises by ONNX Runtime: uint8 activations, which are its fast ones, int8 weights."""
    import numpy as np
    import onnxruntime
    from onnxruntime import quantization

    float_net = Path(workload.folder, APPLICATIONS_ONNX)
    if not float_net.exists():  # written before this one wherever both are needed
        _applications_onnx(workload, float_net)
    name = onnxruntime.InferenceSession(float_net).get_inputs()[0].name
    shape = (_CALIBRATION, 1, *workload.shape)
    images = np.random.default_rng(0).standard_normal(shape, dtype="float32")

    class Samples(quantization.CalibrationDataReader):
        """Normalised noise, one image at a time."""

        def __init__(self) -> None:
            self._samples = iter([{name: image} for image in images])

        def get_next(self) -> Any:
            """Returns the next sample, None after the last."""
            return next(self._samples, None)

    quantization.quantize_static(
        float_net,
        path,
        Samples(),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def _torch_onnx(workload: Workload, path: Path) -> None:
    from .torch_peers import export_onnx

    export_onnx(workload, path)


WRITERS: Mapping[str, Callable[[Workload, Path], None]] = {
    APPLICATIONS_ONNX: _applications_onnx,
    APPLICATIONS_TFLITE: functools.partial(
        _export_tflite, precision="float32", net=_applications_net
    ),
    APPLICATIONS_ONNX_INT8: _applications_onnx_int8,
    APPLICATIONS_TFLITE_INT8: functools.partial(
        _export_tflite, precision="int8", net=_applications_net
    ),
    JPEG: write_jpegs,
    LARGE: write_photographs,
    USUAL: write_photographs,
    ONNX: functools.partial(_export, exporter="export_onnx"),
    SAVED_MODEL: functools.partial(_export, exporter="export_saved_model"),
    TFLITE: functools.partial(_export_tflite, precision="float32"),
    TFLITE_INT8: functools.partial(_export_tflite, precision="int8"),
    TORCH_ONNX: _torch_onnx,
}
