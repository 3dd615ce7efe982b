"""Exports of signals, volumes, features and several outputs."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import ExportRequest, Limits, Reference, Wanted, choose, export, verify
from keras_resnet.export.client_export import export_for_clients
from keras_resnet.export.net_outputs import outputs_of
from keras_resnet.export.runtimes import load

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=5, input_size=8)
RGB = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))


def values(model, count=20):
    shape = (count, *model.inputs[0].shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def request_for(model, **options):
    given = {"formats": ("tflite",), "inputs": "normalized", "images": values(model)}
    return ExportRequest(**{"preprocess": None, "labels": None, **given, **options})


@pytest.fixture(scope="module")
def pyramid():
    return keras_resnet.build(SPEC, include_top=False, features=["C2", "C3"], seed=0)


@pytest.fixture(scope="module")
def signals():
    return keras_resnet.build(SPEC, dims=1, input_shape=(32, 2), seed=0)


def test_several_outputs_keep_their_names(pyramid, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype="uint8")
    request = request_for(
        pyramid,
        preprocess=RGB,
        inputs="raw",
        images=pixels,
        calibration=pixels,
        formats=("saved_model", "tflite", "onnx"),
        precisions=("float32", "float16", "int8"),
    )
    files = {each.file: each for each in export(pyramid, tmp_path, request)}
    assert len(files) == 6
    expected = pyramid(RGB.normalize(pixels), training=False)
    for name, v in files.items():
        assert [each.name for each in v.outputs] == ["C2", "C3"], name
        assert np.isnan(v.agreement)
        assert v.accuracy is None
        worst = max(each.relative_difference for each in v.outputs)
        assert v.relative_difference == worst
        rows = load(tmp_path / name, features=("C3",)).run(pixels)
        theirs = np.asarray(expected["C3"]).reshape(20, -1)
        limit = {"float32": 1e-4, "float16": 0.05, "int8": 0.5}[v.precision] * v.outputs[1].spread
        assert np.abs(rows - theirs).max() < limit, name
    manifest = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]
    assert manifest["model.tflite"]["outputs"] == ["C2", "C3"]
    assert manifest["model.tflite"]["verification"]["agreement"] is None
    # A net that differs in one output is refused, and the output is named.
    wrong = keras_resnet.build(SPEC, include_top=False, features=["C2", "C3"], seed=0)
    layer = wrong.get_layer("stage2_unit1_conv2")
    layer.set_weights([1.01 * each for each in layer.get_weights()])
    reference = Reference.of(wrong, pixels, None, RGB)
    failures = Limits().failures(verify(tmp_path / "model.tflite", reference))
    assert [each.check for each in failures] == [
        "difference of the output 'C3' relative to its spread"
    ]
    with pytest.raises(ValueError, match="must be named logits .*Received: 'C2'|has one output"):
        load(tmp_path / "model.tflite", foreign=True)


def test_signals_in_one_line(signals, tmp_path):
    v = keras_resnet.export.tflite(signals, tmp_path / "s.tflite", activation="softmax")
    assert (v.input.name, v.input.shape) == ("signals_normalized", (1, 32, 2))
    assert (v.activation, v.relative_difference < 1e-4, v.outputs) == ("softmax", True, ())
    labels = np.arange(20) % 5
    request = request_for(
        signals, labels=labels, precisions=("int8",), calibration=values(signals, 100)
    )
    (v,) = export(signals, tmp_path, request)
    assert v.accuracy is not None
    assert v.signal_to_noise > 18


def test_volumes(tmp_path):
    volumes = keras_resnet.build(SPEC, dims=3, input_shape=(8, 8, 8, 1), seed=0)
    v = keras_resnet.export.tflite(volumes, tmp_path / "v.tflite", images=values(volumes))
    assert v.input.name == "volumes_normalized"
    assert v.operators["CONV_3D"] > 0
    assert v.relative_difference < 1e-4
    with pytest.raises(ValueError, match="no integer kernel for 3-D convolutions"):
        export(volumes, tmp_path, request_for(volumes, precisions=("int8",)))


def test_pooled_features_are_not_classes(tmp_path):
    pooled = keras_resnet.build(SPEC, include_top=False, pooling="avg")
    assert outputs_of(pooled).names == ("pool",)
    assert not outputs_of(pooled).logits
    v = keras_resnet.export.tflite(pooled, tmp_path / "p.tflite", preprocess=RGB)
    assert [each.name for each in v.outputs] == ["pool"]
    with pytest.raises(ValueError, match="Received: 'pool', which are features"):
        load(tmp_path / "p.tflite", foreign=True)
    for options in ({"labels": np.zeros(20, int)}, {"class_names": ["a"]}):
        with pytest.raises(ValueError, match="applies to nets that return the logits of classes"):
            export(pooled, tmp_path, request_for(pooled, **options))


def test_what_cannot_be_exported_is_said(signals, pyramid, tmp_path):
    request = request_for(signals)
    with pytest.raises(ValueError, match=r"`inputs='normalized'`. Received: inputs='raw'"):
        export(signals, tmp_path, request_for(signals, inputs="raw"))
    with pytest.raises(ValueError, match="`preprocess` must be None for signals"):
        export(signals, tmp_path, request_for(signals, preprocess=RGB))
    with pytest.raises(TypeError, match="NumPy array of float32 values"):
        export(signals, tmp_path, request_for(signals, images=values(signals).astype("uint8")))
    with pytest.raises(ValueError, match="build it with `input_shape`"):
        free = keras_resnet.build(SPEC, dims=1, input_shape=(None, 2))
        keras_resnet.export.tflite(free, tmp_path / "f.tflite")
    with pytest.raises(ValueError, match="`client` applies to classifiers of images"):
        export_for_clients(signals, tmp_path, request, "mediapipe")
    with pytest.raises(ValueError, match="it ranks accuracy"):
        choose(signals, tmp_path, request, Wanted())
    with pytest.raises(ValueError, match="mixed files have one output"):
        export(pyramid, tmp_path, request_for(pyramid, precisions=("mixed",)))
    assert not list(tmp_path.iterdir())
