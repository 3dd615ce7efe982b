"""What an export says of nets that amplify rounding, of labels, and of images that it left out."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import (
    ExportError,
    ExportRequest,
    Reference,
    export,
    export_tflite,
    integer_ranges,
    verify,
)
from keras_resnet.export.comparison import changed_labels
from keras_resnet.export.onnx_quantized import _Tails

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=5, input_size=8)
RGB = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype="uint8")


@keras.saving.register_keras_serializable("tests")
def sine(x):
    return keras.ops.sin(x)


def test_a_net_that_amplifies_rounding_is_named_as_the_cause(tmp_path):
    images = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    x = keras.layers.Rescaling(3e7)(keras.layers.Dense(4)(x))
    model = keras.Model(images, keras.layers.Activation(sine)(x))
    request = ExportRequest(preprocess=RGB, images=PIXELS, labels=None, formats=("tflite",))
    with pytest.raises(ExportError, match="likely cause is the net, not the file: rounding its in"):
        export(model, tmp_path, request)


def test_labels_that_either_gives():
    expected = np.array([[3.0, -1.0, -5.0], [0.5, 2.0, -5.0]])
    outputs = np.array([[3.0, 0.1, -5.0], [-0.1, 2.0, -5.0]])
    agreement, margins, either = changed_labels(outputs, expected, 0.0)
    # Four labels are given by either, two of them by both; the eleven zeros of rare labels do not
    # count.
    assert (agreement, either) == (0.5, 4)
    assert margins.tolist() == [1.0, 0.5]


def test_several_labels_are_compared_by_their_own(tmp_path):
    pytest.importorskip("ai_edge_litert")
    model = keras_resnet.build(SPEC, seed=0)
    keras_resnet.export.tflite(model, tmp_path / "m.tflite", preprocess=RGB)
    # The largest logit stays, and every other label is given no more.
    other = keras_resnet.build(SPEC, seed=0)
    kernel, bias = other.get_layer("logits").get_weights()
    logits = np.asarray(model(RGB.normalize(PIXELS), training=False))
    other.get_layer("logits").set_weights([kernel, bias - logits.max() + 1e-3])
    reference = Reference.of(other, PIXELS, None, RGB, several_labels=True)
    found = verify(tmp_path / "m.tflite", reference)
    assert found.decisions == int((logits > 0).sum())
    assert found.agreement == pytest.approx(1 / found.decisions)
    assert verify(tmp_path / "m.tflite", Reference.of(other, PIXELS, None, RGB)).agreement == 1.0
    with pytest.raises(ValueError, match="give None with `several_labels`"):
        Reference.of(model, PIXELS, np.zeros(20, int), RGB, several_labels=True)


def test_images_that_the_memory_leaves_out_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(integer_ranges, "_LARGEST_TENSOR", 3 * 10 * 10 * 4)  # padded inputs
    lines: list[str] = []
    export_tflite(
        keras_resnet.fold_batch_norm(keras_resnet.build(SPEC, seed=0)),
        tmp_path / "m.tflite",
        precision="int8",
        preprocess=RGB,
        calibration=PIXELS,
        report=lines.append,
    )
    (line,) = lines
    assert "int8 ranges are fitted to 3 of 20 calibration images" in line


def test_ranges_of_onnx_files_are_exact_percentiles():
    values = np.random.default_rng(0).permutation(200_000).astype("float32")
    tails = _Tails()
    for batch in values.reshape(4, 5, 10_000):
        tails.add(batch, 20)
    # 5e-6 of 200,000 values, one at each end, lies outside.
    assert (tails.low.max(), tails.high.min()) == (1.0, 199_998.0)
