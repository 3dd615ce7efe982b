"""Files that contenders read: exported nets and images, each made in a process of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .job import Clock, Job, Ready

SAVED_MODEL, TFLITE, TFLITE_INT8 = "ours.saved_model", "ours.tflite", "ours_int8.tflite"
ONNX = "ours.onnx"
APPLICATIONS_TFLITE = "applications.tflite"
APPLICATIONS_TFLITE_INT8 = "applications_int8.tflite"
APPLICATIONS_ONNX, APPLICATIONS_ONNX_INT8 = "applications.onnx", "applications_int8.onnx"
TORCH_ONNX = "torch.onnx"
JPEG = "jpeg"
_CALIBRATION = 8  # images


def make(job: Job, clock: Clock) -> Ready:
    """Makes the file that the job's route names, in the job's folder."""
    with clock("import"):
        import keras_resnet  # noqa: F401
    _MAKERS[job.route](job, Path(job.folder, job.route))
    return Ready(lambda count: None)


def _our_net(job: Job) -> Any:
    """Returns the net as `keras-resnet export` converts it: batch norm folded."""
    from keras_resnet.reparam import deploy

    from .ours import net

    return deploy(net(dataclasses.replace(job, route="")))


def _their_net(job: Job) -> Any:
    from .keras_peers import applications_net

    return applications_net(job)


def _saved_model(job: Job, path: Path) -> None:
    from keras_resnet.export import export_saved_model

    export_saved_model(_our_net(job), path, preprocess=_preprocess(job), inputs="normalized")


def _tflite(net: Callable[[Job], Any], precision: Any) -> Callable[[Job, Path], None]:
    def write(job: Job, path: Path) -> None:
        import numpy as np

        from keras_resnet.export import export_tflite

        rng = np.random.default_rng(0)
        export_tflite(
            net(job),
            path,
            precision=precision,
            preprocess=_preprocess(job),
            inputs="normalized",
            calibration=rng.integers(0, 256, (_CALIBRATION, *job.shape), dtype="uint8"),
        )

    return write


def _onnx(job: Job, path: Path) -> None:
    from keras_resnet.export import export_onnx

    export_onnx(_our_net(job), path, preprocess=_preprocess(job), inputs="normalized")


def _applications_onnx(job: Job, path: Path) -> None:
    """As Keras exports: tf2onnx folds batch norm by itself."""
    import numpy as np

    model = _their_net(job)
    model(np.zeros((1, *job.shape), "float32"))  # Keras exports what has been called
    model.export(str(path), format="onnx", verbose=False)


def _applications_onnx_int8(job: Job, path: Path) -> None:
    """Quantised by ONNX Runtime: uint8 activations, which are its fast ones, int8 weights."""
    import numpy as np
    import onnxruntime
    from onnxruntime import quantization

    whole = Path(job.folder, APPLICATIONS_ONNX)
    if not whole.exists():  # made before this one wherever both are needed
        _applications_onnx(job, whole)
    name = onnxruntime.InferenceSession(whole).get_inputs()[0].name
    rng = np.random.default_rng(0)

    class Samples(quantization.CalibrationDataReader):
        """Normalised noise, an image at a time."""

        def __init__(self) -> None:
            images = rng.standard_normal((_CALIBRATION, 1, *job.shape), dtype="float32")
            self._samples = iter([{name: image} for image in images])

        def get_next(self) -> Any:
            """Returns the next sample, None after the last."""
            return next(self._samples, None)

    quantization.quantize_static(
        whole,
        path,
        Samples(),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def _torch_onnx(job: Job, path: Path) -> None:
    from .torch_peers import export_onnx

    export_onnx(job, path)


def _jpeg(job: Job, path: Path) -> None:
    from .images import make_jpegs

    make_jpegs(job)


def _preprocess(job: Job) -> Any:
    from keras_resnet import PreprocessSpec

    from .images import MEAN, STD

    return PreprocessSpec((job.size, job.size), mean=MEAN, std=STD)


_MAKERS: Mapping[str, Callable[[Job, Path], None]] = {
    SAVED_MODEL: _saved_model,
    TFLITE: _tflite(_our_net, "float32"),
    TFLITE_INT8: _tflite(_our_net, "int8"),
    ONNX: _onnx,
    APPLICATIONS_TFLITE: _tflite(_their_net, "float32"),
    APPLICATIONS_TFLITE_INT8: _tflite(_their_net, "int8"),
    APPLICATIONS_ONNX: _applications_onnx,
    APPLICATIONS_ONNX_INT8: _applications_onnx_int8,
    TORCH_ONNX: _torch_onnx,
    JPEG: _jpeg,
}
# Modules without which a file cannot be made or read.
NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((TFLITE, TFLITE_INT8), ("ai_edge_litert",)),
    **dict.fromkeys((APPLICATIONS_TFLITE, APPLICATIONS_TFLITE_INT8), ("ai_edge_litert",)),
    **dict.fromkeys((ONNX, APPLICATIONS_ONNX), ("onnx", "tf2onnx")),
    APPLICATIONS_ONNX_INT8: ("onnx", "tf2onnx", "onnxruntime"),
    TORCH_ONNX: ("onnx", "torch"),
}
FILES = tuple(_MAKERS)
