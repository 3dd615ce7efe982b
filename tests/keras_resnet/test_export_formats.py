"""SavedModel, LiteRT and ONNX files: signatures, numbers and the checks before any work."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import Reference, export_onnx, export_saved_model, export_tflite, verify
from keras_resnet.export.runtimes import load
from keras_resnet.reparam import deploy, fold_batch_norm

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (8, 16), stem="cifar", shortcut="A", classes=4, input_size=8)
RGB = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))
BGR = dataclasses.replace(RGB, channel_order="bgr")
NAMES = {"raw": "images_uint8", "normalized": "images_normalized"}


@pytest.fixture(scope="module")
def images():
    # Narrower than 0..255, as a calibration set may be.
    return np.random.default_rng(0).integers(30, 200, (20, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return keras_resnet.build(SPEC, seed=3)


def expected(model, preprocess, images):
    return keras.ops.convert_to_numpy(model(preprocess.normalize(images), training=False))


# Normalised images come in the net's channel order, so order matters to raw ones alone.
MODES = pytest.mark.parametrize(
    ("inputs", "preprocess"),
    [("raw", RGB), ("raw", BGR), ("normalized", RGB)],
    ids=["raw-rgb", "raw-bgr", "normalized"],
)


@MODES
def test_saved_model(model, images, tmp_path, inputs, preprocess):
    import tensorflow as tf

    path = tmp_path / "saved"
    export_saved_model(
        model, path, preprocess=preprocess, inputs=inputs, class_names=["a", "b", "c", "ä"]
    )
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    ((name, spec),) = served.structured_input_signature[1].items()
    assert name == NAMES[inputs]
    assert spec.shape.as_list() == [None, 8, 8, 3]
    assert spec.dtype == (tf.uint8 if inputs == "raw" else tf.float32)
    batch = images if inputs == "raw" else preprocess.normalize(images)
    for count in (1, 20):
        outputs = served(**{name: tf.constant(batch[:count])})
        assert set(outputs) == {"logits", "probabilities"}
        logits = expected(model, preprocess, images[:count])
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-5)
    assert (path / "assets.extra/labels.txt").read_text(encoding="utf-8") == "a\nb\nc\nä\n"


@MODES
@pytest.mark.parametrize(
    ("precision", "limit"), [("float32", 1e-5), ("float16", 1e-2), ("int8", 0.25)]
)
def test_tflite(model, images, tmp_path, capfd, precision, limit, inputs, preprocess):
    path = tmp_path / "model.tflite"
    capfd.readouterr()
    export_tflite(
        fold_batch_norm(model),
        path,
        precision=precision,
        preprocess=preprocess,
        inputs=inputs,
        calibration=images if precision == "int8" else None,
    )
    runtime = load(path)
    assert capfd.readouterr() == ("", "")
    integer = {"raw": "uint8", "normalized": "int8"}[inputs]
    described = runtime.input
    assert described.name == NAMES[inputs]
    assert described.shape == (None, 8, 8, 3)
    if precision == "int8":
        assert described.dtype == integer
        assert not {"DEQUANTIZE", "CAST"} & set(runtime.operators)
        if inputs == "raw":
            assert (described.scale, described.zero_point) == (1.0, 0)
        else:
            assert described.scale == pytest.approx(255 / 60 / 255, rel=0.2)
    else:
        assert described.dtype == ("uint8" if inputs == "raw" else "float32")
        assert described.scale is None
    assert all(name == name.upper() for name in runtime.operators)
    assert runtime.operators["CONV_2D"] == 5
    logits = expected(model, preprocess, images)
    for count in (3, 20, 1):  # the batch is open, in both directions
        got = runtime.run(runtime.prepare(images[:count], preprocess))
        assert got.dtype == np.float32
        assert np.abs(got - logits[:count]).max() <= limit * np.abs(logits).max()


@MODES
def test_onnx(model, images, tmp_path, capfd, inputs, preprocess):
    path = tmp_path / "model.onnx"
    capfd.readouterr()
    export_onnx(fold_batch_norm(model), path, preprocess=preprocess, inputs=inputs)
    runtime = load(path)
    assert capfd.readouterr() == ("", "")
    assert runtime.input.name == NAMES[inputs]
    assert runtime.input.shape == (None, 8, 8, 3)
    assert runtime.input.dtype == ("uint8" if inputs == "raw" else "float32")
    assert runtime.operators["Conv"] == 5
    assert "BatchNormalization" not in runtime.operators
    logits = expected(model, preprocess, images)
    for count in (3, 20, 1):  # the batch is open, in both directions
        got = runtime.run(runtime.prepare(images[:count], preprocess))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, logits[:count], atol=1e-5 * np.abs(logits).max())


def test_openvino_reads_the_onnx_file(model, images, tmp_path):
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "model.onnx"
    export_onnx(fold_batch_norm(model), path, preprocess=RGB)
    run = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    logits = expected(model, RGB, images)
    np.testing.assert_allclose(run(images)[0], logits, atol=1e-5 * np.abs(logits).max())


def test_onnx_without_its_packages(model, tmp_path, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else found(name)
    )
    with pytest.raises(ValueError, match=r"keras3-resnet\[onnx\].*Missing: tf2onnx$"):
        export_onnx(model, tmp_path / "model.onnx", preprocess=RGB)
    assert list(tmp_path.iterdir()) == []


def as_tflite(net, path, preprocess):
    export_tflite(net, path, precision="float32", preprocess=preprocess, inputs="raw")


def as_onnx(net, path, preprocess):
    export_onnx(net, path, preprocess=preprocess, inputs="raw")


BOTTLENECK = SPEC.replace(branch="bottleneck", shortcut="B")
IMAGENET = SPEC.replace(stem="imagenet", shortcut="B", input_size=40)


@pytest.mark.parametrize(
    "spec",
    [
        SPEC.replace(merge="fixup", norm="none"),
        SPEC.replace(merge="highway"),
        SPEC.replace(merge="shortcut_gate", order="norm_after_add"),
        SPEC.replace(order="relu_only_pre", shortcut_scale=0.5, shortcut_dropout=0.5),
        SPEC.replace(merge="skipinit", order="pre", norm="none", conv_bias=True),
        SPEC.replace(branch="repvgg", shortcut="B"),
        BOTTLENECK.replace(groups=4, base_width=32, se_reduction=4, max_stride=1),
        IMAGENET.replace(stem="deep", shortcut="D", stem_pool="conv", stochastic_depth=0.5),
        IMAGENET.replace(order="pre", stem_activation=False, blur=3),
        IMAGENET.replace(order="pre", stem_activation=False, stride_unit="last"),
    ],
    ids=lambda spec: (
        f"{spec.branch}-{spec.order}-{spec.merge}-{spec.stem}-{spec.shortcut}-{spec.stride_unit}"
    ),
)
@pytest.mark.parametrize(("ending", "write"), [("tflite", as_tflite), ("onnx", as_onnx)])
def test_every_axis_reaches_the_file(spec, tmp_path, randomize, ending, write):
    net = keras_resnet.build(spec)
    randomize(net, 4)
    pixels = np.random.default_rng(1).integers(0, 256, (3, spec.input_size, spec.input_size, 3))
    pixels = pixels.astype("uint8")
    preprocess = dataclasses.replace(RGB, size=(spec.input_size,) * 2)
    path = tmp_path / f"model.{ending}"
    write(deploy(net), path, preprocess)
    runtime = load(path)
    logits = expected(net, preprocess, pixels)
    assert np.abs(logits).max() > 0.1
    got = runtime.run(runtime.prepare(pixels, preprocess))
    np.testing.assert_allclose(got, logits, atol=1e-5 * max(1, np.abs(logits).max()))


def test_a_bare_stem_is_quantised(tmp_path, images):
    """Its pool is padded with values that int8 has."""
    spec = SPEC.replace(stem="imagenet", shortcut="B", order="pre", stem_activation=False)
    net = keras_resnet.build(spec, seed=2)
    path = tmp_path / "model.tflite"
    export_tflite(
        deploy(net), path, precision="int8", preprocess=RGB, inputs="raw", calibration=images
    )
    runtime = load(path)
    logits = expected(net, RGB, images)
    got = runtime.run(runtime.prepare(images, RGB))
    assert np.abs(got - logits).max() <= 0.25 * np.abs(logits).max()


def test_int8_files_hold_no_float_tensor(model, images, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "model.tflite"
    export_tflite(model, path, precision="int8", preprocess=RGB, calibration=images)
    interpreter = Interpreter(model_content=path.read_bytes())
    kinds = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    assert kinds <= {"int8", "uint8", "int32", "int64"}
    assert interpreter.get_output_details()[0]["dtype"] is np.int8


def test_open_input_size_takes_the_preprocessing_size(images, tmp_path):
    model = keras_resnet.build(SPEC, seed=3, input_shape=(None, None, 3))
    export_tflite(model, tmp_path / "m.tflite", precision="float32", preprocess=RGB)
    labels = np.zeros(len(images), int)
    found = verify(tmp_path / "m.tflite", Reference.of(model, images, labels, RGB))
    assert found.input.shape == (None, 8, 8, 3)
    assert found.max_difference < 1e-4


def test_the_converters_log_is_shown_when_it_fails(capfd):
    import os

    from keras_resnet.export.quiet import quiet

    with quiet():
        os.write(2, b"chatter")
    with pytest.raises(RuntimeError, match="broke") as caught, quiet():
        os.write(2, b"the reason")
        raise RuntimeError("broke")
    os.write(1, b"after")
    assert capfd.readouterr() == ("after", "")
    assert "the reason" in caught.value.__notes__[0]


def with_head(activation):
    return keras_resnet.build(SPEC, classifier_activation=activation)


def mixed():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return keras_resnet.build(SPEC)
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (mixed, "clone_as_float32"),
        (lambda: with_head("softmax"), "classifier_activation=None"),
        (lambda: keras_resnet.build(SPEC, include_top=False), "build it with its top"),
        (lambda: keras_resnet.build(SPEC, input_shape=(16, 16, 3)), "`preprocess.size`"),
        (lambda: keras_resnet.build(SPEC, input_shape=(8, 8, 1)), "`preprocess.mean`"),
    ],
    ids=["mixed", "softmax", "headless", "size", "channels"],
)
def test_models_that_cannot_be_exported(make, match, tmp_path):
    unfit = make()
    with pytest.raises(ValueError, match=match):
        export_saved_model(unfit, tmp_path / "s", preprocess=RGB)
    with pytest.raises(ValueError, match=match):
        export_tflite(unfit, tmp_path / "m", precision="float32", preprocess=RGB)
    with pytest.raises(ValueError, match=match):
        export_onnx(unfit, tmp_path / "o", preprocess=RGB)
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_checked(model, images, tmp_path):
    path = tmp_path / "m"
    with pytest.raises(ValueError, match=r"`inputs` must be one of 'raw', 'normalized'.*'bytes'"):
        export_saved_model(model, path, preprocess=RGB, inputs="bytes")
    with pytest.raises(ValueError, match=r"one name a class \(4\). Received: 2"):
        export_saved_model(model, path, preprocess=RGB, class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"one name a line. Received: 'a\\nb'"):
        export_saved_model(model, path, preprocess=RGB, class_names=["a\nb", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"`precision` must be one of.*'int4'"):
        export_tflite(model, path, precision="int4", preprocess=RGB)
    with pytest.raises(ValueError, match="int8 needs `calibration`"):
        export_tflite(model, path, precision="int8", preprocess=RGB)
    with pytest.raises(TypeError, match="`calibration` must be a NumPy array of uint8.*float32"):
        export_tflite(
            model, path, precision="int8", preprocess=RGB, calibration=images.astype("float32")
        )
    with pytest.raises(ValueError, match=r"\(images, 8, 8, 3\).*Received: shape \(20, 4, 8, 3\)"):
        export_tflite(model, path, precision="int8", preprocess=RGB, calibration=images[:, ::2])
    assert list(tmp_path.iterdir()) == []


def test_artefacts_that_do_not_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="No artefact"):
        load(tmp_path / "missing")
    (tmp_path / "broken.tflite").write_bytes(b"not a flatbuffer" * 10)
    with pytest.raises(ValueError, match="no LiteRT file that runs"):
        load(tmp_path / "broken.tflite")
    (tmp_path / "broken.onnx").write_bytes(b"not a graph" * 10)
    with pytest.raises(ValueError, match="no ONNX file that runs"):
        load(tmp_path / "broken.onnx")
    (tmp_path / "broken").mkdir()
    with pytest.raises(ValueError, match="no SavedModel"):
        load(tmp_path / "broken")
