"""SavedModel, LiteRT and ONNX files: signatures, logits, and checks of the arguments."""

import dataclasses
import importlib.util
import os

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import export_onnx, export_saved_model, export_tflite
from keras_resnet.export.quiet import quiet
from keras_resnet.export.runtimes import load
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.reparam import deploy, fold_batch_norm

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=4, input_size=8)
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


def assert_runs(runtime, model, preprocess, images, limit):
    """Checks the logits at several batch sizes, relative to the largest."""
    logits = expected(model, preprocess, images)
    for count in (3, 20, 1):  # the batch grows and shrinks
        got = runtime.run(runtime.prepare(images[:count], preprocess))
        assert got.dtype == np.float32
        assert np.abs(got - logits[:count]).max() <= limit * np.abs(logits).max()


# The channel order matters to raw images only. test_export_pipeline.py exports RGB and gray ones.
MODES = pytest.mark.parametrize(
    ("inputs", "preprocess"), [("raw", BGR), ("normalized", RGB)], ids=["raw", "normalized"]
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
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[8,8,3\] is not compatible with"):
        served(**{name: tf.constant(batch[0])})  # without a batch axis; it aborted the process
    assert (path / "assets.extra/labels.txt").read_text(encoding="utf-8") == "a\nb\nc\nä\n"


@pytest.mark.parametrize(
    ("precision", "inputs", "preprocess"),
    [
        ("float32", "raw", BGR),
        ("float16", "normalized", RGB),
        ("int8", "raw", BGR),
        ("int8", "normalized", RGB),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tflite(model, images, tmp_path, capfd, precision, inputs, preprocess):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "model.tflite"
    folded = fold_batch_norm(model)
    if precision == "float32":  # an open input size takes that of the preprocessing
        folded = fold_batch_norm(keras_resnet.build(SPEC, seed=3, input_shape=(None, None, 3)))
    capfd.readouterr()
    export_tflite(
        folded,
        path,
        precision=precision,
        preprocess=preprocess,
        inputs=inputs,
        calibration=images if precision == "int8" else None,
    )
    runtime = load(path)
    assert capfd.readouterr() == ("", "")
    described = runtime.input
    assert described.name == NAMES[inputs]
    assert described.shape == (1, 8, 8, 3)
    assert all(name == name.upper() for name in runtime.operators)
    assert runtime.operators["CONV_2D"] == 5
    if precision == "int8":
        assert described.dtype == {"raw": "uint8", "normalized": "int8"}[inputs]
        assert not {"DEQUANTIZE", "CAST"} & set(runtime.operators)
        interpreter = Interpreter(model_content=path.read_bytes())
        kinds = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
        assert kinds <= {"int8", "uint8", "int32", "int64"}
        assert interpreter.get_output_details()[0]["dtype"] is np.int8
        if inputs == "raw":
            assert (described.scale, described.zero_point) == (1.0, 0)
        else:
            assert described.scale == pytest.approx(255 / 60 / 255, rel=0.2)
    else:
        assert described.dtype == ("uint8" if inputs == "raw" else "float32")
        assert described.scale is None
    limit = {"float32": 1e-5, "float16": 1e-2, "int8": 0.25}[precision]
    assert_runs(runtime, model, preprocess, images, limit)


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
    assert_runs(runtime, model, preprocess, images, 1e-5)
    if inputs == "raw" and importlib.util.find_spec("openvino"):
        import openvino

        run = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        logits = expected(model, preprocess, images)
        np.testing.assert_allclose(run(images)[0], logits, atol=1e-5 * np.abs(logits).max())


def test_onnx_without_its_packages(model, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find_spec(name)
    )
    with pytest.raises(ValueError, match=r"keras3-resnet\[onnx\].*Missing: tf2onnx$"):
        export_onnx(model, tmp_path / "model.onnx", preprocess=RGB)
    assert list(tmp_path.iterdir()) == []


BOTTLENECK = SPEC.replace(branch="bottleneck", shortcut="B")
IMAGENET = SPEC.replace(stem="imagenet", shortcut="B", input_size=32)
# Operators that the two converters treat in different ways are converted by both, others by one.
BOTH = [
    BOTTLENECK.replace(groups=4, base_width=32, se_reduction=4, max_stride=1),
    IMAGENET.replace(stem="deep", shortcut="D", stem_pool="conv", stochastic_depth=0.5),
    IMAGENET.replace(order="pre", stem_activation=False, blur=3),
]
TFLITE_ONLY = [
    SPEC.replace(norm="fixup"),
    SPEC.replace(merge="highway", order="relu_only_pre"),
    SPEC.replace(branch="repvgg", shortcut="B"),
]
ONNX_ONLY = [
    SPEC.replace(merge="shortcut_gate", order="norm_after_add"),
    IMAGENET.replace(
        order="pre",
        stem_activation=False,
        stride_unit="last",
        shortcut_scale=0.5,
        shortcut_dropout=0.5,
    ),
]


def spec_id(spec):
    if isinstance(spec, str):
        return spec
    return f"{spec.branch}-{spec.order}-{spec.merge}-{spec.stem}-{spec.shortcut}-{spec.stride_unit}"


@pytest.mark.parametrize(
    ("ending", "spec"),
    [("tflite", spec) for spec in BOTH + TFLITE_ONLY]
    + [("onnx", spec) for spec in BOTH + ONNX_ONLY],
    ids=spec_id,
)
def test_every_axis_reaches_the_file(spec, tmp_path, randomize, ending):
    net = keras_resnet.build(spec)
    randomize(net, 4)
    pixels = np.random.default_rng(1).integers(0, 256, (3, spec.input_size, spec.input_size, 3))
    pixels = pixels.astype("uint8")
    preprocess = dataclasses.replace(RGB, size=(spec.input_size,) * 2)
    path = tmp_path / f"model.{ending}"
    if ending == "tflite":
        export_tflite(deploy(net), path, precision="float32", preprocess=preprocess)
    else:
        export_onnx(deploy(net), path, preprocess=preprocess)
    runtime = load(path)
    logits = expected(net, preprocess, pixels)
    assert np.abs(logits).max() > 0.1
    got = runtime.run(runtime.prepare(pixels, preprocess))
    np.testing.assert_allclose(got, logits, atol=1e-5 * max(1, np.abs(logits).max()))


def test_an_int8_range_is_that_of_the_activation(tmp_path, images):
    """The calibrator of TensorFlow takes a sum that ADD writes over its input for the input.

    Its ranges were up to 27 % too large; fitted ones are at most those of the activations.
    """
    from ai_edge_litert import schema_py_generated as schema

    spec = dataclasses.replace(SPEC, depths=(2, 2), shortcut="B", widths=(8, 16))
    model = deploy(keras_resnet.build(spec, seed=1))
    path = tmp_path / "int8.tflite"
    export_tflite(model, path, precision="int8", preprocess=RGB, calibration=images)
    graph = schema.Model.GetRootAsModel(path.read_bytes(), 0).Subgraphs(0)
    scales = {
        graph.Tensors(index).Name().decode(): graph.Tensors(index).Quantization().Scale(0)
        for index in range(graph.TensorsLength())
        if "_conv2" in graph.Tensors(index).Name().decode() and graph.Tensors(index).Type() == 9
    }
    pixels = images.copy()
    pixels[0, 0, 0], pixels[0, -1, -1] = 0, 255
    found = 0
    for layer in (f"stage{stage}_unit{unit}_conv2" for stage in (1, 2) for unit in (1, 2)):
        values = keras.Model(model.input, model.get_layer(layer).output)(RGB.normalize(pixels))
        values = keras.ops.convert_to_numpy(values)
        right = (max(values.max(), 0) - min(values.min(), 0)) / 255
        found += any(
            0.3 * right < scale <= right * (1 + 1e-4)
            for name, scale in scales.items()
            if layer in name
        )
    assert found == 4, scales


def test_a_bare_stem_is_quantised(tmp_path, images):
    """The padding of its pool has values that int8 can represent."""
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


def test_output_of_a_failing_converter_is_noted(capfd):
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
    with dtype_policy("mixed_bfloat16"):
        net = keras_resnet.build(SPEC)
    return keras.Sequential([keras.Input((8, 8, 3)), net])  # the layers of nested models count


def channels_first():
    inputs = keras.Input((3, 8, 8))
    return keras.Model(inputs, keras.layers.Conv2D(4, 3, data_format="channels_first")(inputs))


def two_inputs():
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()(inputs))
    return keras.Model(inputs, keras.layers.Dense(4)(pooled))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (mixed, "clone_as_float32"),
        (channels_first, "channels-last images"),
        (two_inputs, "takes one input"),
        (lambda: with_head("softmax"), "classifier_activation=None"),
        (lambda: keras_resnet.build(SPEC, input_shape=(16, 16, 3)), "`preprocess.size`"),
        (lambda: keras_resnet.build(SPEC, input_shape=(8, 8, 1)), "`preprocess.mean`"),
    ],
    ids=["mixed", "channels_first", "two_inputs", "softmax", "size", "channels"],
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
    with pytest.raises(ValueError, match=r"one name per class \(4\). Received: 2"):
        export_saved_model(model, path, preprocess=RGB, class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"must have one line each. Received: 'a\\nb'"):
        export_saved_model(model, path, preprocess=RGB, class_names=["a\nb", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"`precision` must be one of.*'int4'"):
        export_tflite(model, path, precision="int4", preprocess=RGB)
    with pytest.raises(ValueError, match="int8, int16x8, mixed need `calibration`"):
        export_tflite(model, path, precision="int8", preprocess=RGB)
    with pytest.raises(TypeError, match="`calibration` must be a NumPy array of uint8.*float32"):
        export_tflite(
            model, path, precision="int8", preprocess=RGB, calibration=images.astype("float32")
        )
    with pytest.raises(ValueError, match=r"\(images, 8, 8, 3\).*Received: shape \(20, 4, 8, 3\)"):
        export_tflite(model, path, precision="int8", preprocess=RGB, calibration=images[:, ::2])
    assert list(tmp_path.iterdir()) == []


def test_broken_artifacts(tmp_path):
    with pytest.raises(FileNotFoundError, match="No artifact"):
        load(tmp_path / "missing")
    (tmp_path / "broken.tflite").write_bytes(b"not a flatbuffer" * 10)
    with pytest.raises(ValueError, match="is not a valid LiteRT file"):
        load(tmp_path / "broken.tflite")
    (tmp_path / "broken.onnx").write_bytes(b"not a graph" * 10)
    with pytest.raises(ValueError, match="is not a valid ONNX file"):
        load(tmp_path / "broken.onnx")
    (tmp_path / "broken").mkdir()
    with pytest.raises(ValueError, match="is not a SavedModel"):
        load(tmp_path / "broken")
