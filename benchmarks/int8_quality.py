"""int8 files of this package beside those of other quantisers: the same net, images and measure.

Every quantiser gets the same calibration images, from the training split, and every file is
compared with the Keras net on the test split. The signal-to-noise ratio is that of the logits,
centred over the classes; that of the raw logits counts an offset of all classes as signal.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import from_pretrained
from keras_resnet.export import Reference, export_onnx, export_tflite, verify
from keras_resnet.export.quiet import quiet
from keras_resnet.nets.model import ResNet
from keras_resnet.reparam import deploy
from keras_resnet.weights.rebuild import clone_as_float32, without_activation

_INPUT = "images_float32"


@dataclasses.dataclass(frozen=True)
class Row:
    """A file's measurements.

    Attributes:
        net: The net.
        quantizer: What wrote the file.
        bytes: Its size.
        signal_to_noise: Of the centred logits, dB.
        uncentred: Of the logits as they are, dB.
        correct: Number of images that it classifies correctly.
        agreement: Share of images with the Keras net's class.
    """

    net: str
    quantizer: str
    bytes: int
    signal_to_noise: float
    uncentred: float
    correct: int
    agreement: float


def compare_quantizers(
    files: Sequence[str], dataset: str, data_dir: str | None, calibration: int
) -> list[Row]:
    """Quantises nets by each quantiser that is installed, and prints the table.

    Args:
        files: Files of weights.
        dataset: TFDS data set with the splits `train` and `test`.
        data_dir: Directory of TFDS data sets.
        calibration: Number of training images that calibrate.
    """
    train, _ = _split(dataset, data_dir, f"train[:{calibration}]")
    images, labels = _split(dataset, data_dir, "test")
    rows = []
    for file in files:
        net = from_pretrained(file)
        model = clone_as_float32(without_activation(net))
        if not net.preprocess:
            raise ValueError(f"{file!r} does not say how its images are prepared")
        reference = Reference.of(model, images, labels, net.preprocess)
        for name, quantize in QUANTIZERS.items():
            row = _measured(net.name, name, quantize, model, train, reference)
            if row is not None:
                rows.append(row)
    print(markdown(rows))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Returns the table."""
    lines = [
        "| net | quantiser | bytes | SNR, dB | SNR of raw logits, dB | correct | agreement |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.net} | {row.quantizer} | {row.bytes:,} | {row.signal_to_noise:.1f} | "
        f"{row.uncentred:.1f} | {row.correct} | {row.agreement:.4f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _split(dataset: str, data_dir: str | None, split: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    data = tfds.load(dataset, split=split, data_dir=data_dir, batch_size=-1, download=False)
    return np.asarray(data["image"]), np.asarray(data["label"])


def _measured(
    net: str,
    name: str,
    quantize: Callable[..., Path],
    model: ResNet,
    train: np.ndarray,
    reference: Reference,
) -> Row | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with quiet():
                path = quantize(Path(folder), deploy(model), reference.preprocess, train)
        except ModuleNotFoundError as error:
            print(f"{name}: not installed ({error.name})")
            return None
        found = verify(path, reference, precision="int8")
    offset = _offset(reference.logits)
    return Row(
        net,
        name,
        found.bytes,
        found.signal_to_noise,
        found.signal_to_noise + offset,
        round((found.accuracy or 0) * found.images),
        found.agreement,
    )


def _offset(logits: np.ndarray) -> float:
    """Returns by how many dB the logits' power exceeds that of the centred logits."""
    x = logits.astype("float64")
    return 10 * math.log10(np.mean(x**2) / np.mean((x - x.mean(1, keepdims=True)) ** 2))


def _ours(folder: Path, model: Any, preprocess: Any, train: np.ndarray) -> Path:
    path = folder / "model.tflite"
    export_tflite(model, path, precision="int8", preprocess=preprocess, calibration=train)
    return path


def _ours_onnx(folder: Path, model: Any, preprocess: Any, train: np.ndarray) -> Path:
    path = folder / "model.onnx"
    export_onnx(model, path, precision="int8", preprocess=preprocess, calibration=train)
    return path


def _converter(folder: Path, model: Any, preprocess: Any, train: np.ndarray) -> Path:
    """TensorFlow's converter, integers from end to end."""
    import keras
    import tensorflow as tf

    image = keras.Input(model.inputs[0].shape[1:], batch_size=1, name=_INPUT)
    served = keras.Model(image, {"logits": model(preprocess.normalize(image), training=False)})
    served.export(folder / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([x[None].astype("float32")] for x in train)
    path = folder / "model.tflite"
    path.write_bytes(converter.convert())
    return path


def _onnx_runtime(folder: Path, model: Any, preprocess: Any, train: np.ndarray) -> Path:
    """ONNX Runtime's quantiser as its documentation recommends: QDQ, per channel, min-max."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, path = folder / "float32.onnx", folder / "model.onnx"
    export_onnx(model, plain, preprocess=preprocess)
    quant_pre_process(str(plain), str(plain), skip_symbolic_shape=True)
    quantize_static(
        plain,
        path,
        _Reader(train),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    return path


class _Reader:
    def __init__(self, train: np.ndarray) -> None:
        self._batches = iter(np.array_split(train, math.ceil(len(train) / 32)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images_uint8": batch}


def _ai_edge(folder: Path, model: Any, preprocess: Any, train: np.ndarray) -> Path:
    """AI Edge Quantizer with its recipe for static int8."""
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        raise ModuleNotFoundError(name="ai-edge-quantizer")
    from ai_edge_quantizer import quantizer, recipe

    plain, path = folder / "float32.tflite", folder / "model.tflite"
    options: dict[str, Any] = {"precision": "float32", "input_type": "float32"}
    export_tflite(model, plain, preprocess=preprocess, **options)
    work = quantizer.Quantizer(str(plain))
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    samples = [{_INPUT: image[None].astype("float32")} for image in train]
    result = work.quantize(work.calibrate({"serving_default": samples}))
    result.export_model(str(path))
    return path


QUANTIZERS: Mapping[str, Callable[..., Path]] = {
    "keras_resnet": _ours,
    "keras_resnet, ONNX": _ours_onnx,
    "ONNX Runtime QDQ": _onnx_runtime,
    "AI Edge Quantizer": _ai_edge,
    "TFLiteConverter": _converter,
}
