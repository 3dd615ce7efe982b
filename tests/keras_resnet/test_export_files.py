"""What files take and return, what they say of themselves, and exports in one line."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import Description, ExportError, Limits, Reference, export_tflite, verify
from keras_resnet.export.interface import make_interface
from keras_resnet.export.metadata import read_labels
from keras_resnet.export.runtimes import load
from keras_resnet.reparam import deploy

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=4, input_size=8)
RGB = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))
LABELS = ["cat", "dog", "größer", "d"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (130, 8, 8, 3), dtype="uint8")


@pytest.fixture(scope="module")
def model():
    model = keras_resnet.build(SPEC, seed=3)
    model.preprocess = RGB
    return model


@pytest.mark.parametrize(
    ("precision", "options", "dtypes", "scale"),
    [
        ("float32", {"input_type": "int8", "batch": 3}, ("int8", "float32"), None),
        ("float16", {"input_type": "float32", "activation": "softmax"}, ("float32",) * 2, None),
        ("int8", {"input_type": "int8"}, ("int8", "int8"), (1.0, -128)),
        (
            "int8",
            {"input_type": "float32", "output_type": "float32"},
            ("float32", "float32"),
            None,
        ),
        ("int8", {"output_type": "uint8", "activation": "softmax"}, ("uint8",) * 2, (1.0, 0)),
    ],
)
def test_types_batches_and_activations(model, images, tmp_path, precision, options, dtypes, scale):
    path = tmp_path / "model.tflite"
    said = Description(name="small", version="1", labels=LABELS)
    export_tflite(
        deploy(model),
        path,
        precision=precision,
        preprocess=RGB,
        calibration=images if precision == "int8" else None,
        description=said,
        **options,
    )
    assert read_labels(path.read_bytes()) == LABELS
    runtime = load(path)
    described = runtime.input
    assert described.name == f"images_{dtypes[0]}"
    assert (described.dtype, runtime.output_type) == dtypes
    assert described.shape[0] == options.get("batch", 1)
    if scale is not None:
        assert (described.scale, described.zero_point) == scale
    reference = Reference.of(model, images, None, RGB)
    verification = verify(path, reference, precision=precision)
    assert Limits().failures(verification) == []
    assert verification.activation == options.get("activation", "none")
    if verification.activation == "softmax":
        outputs = runtime.run(runtime.prepare(images[:7], RGB))
        np.testing.assert_allclose(outputs.sum(-1), 1, atol=0.02)
    # A wrong net is refused whatever the file returns.
    wrong = dataclasses.replace(reference, logits=-reference.logits, model=None)
    assert Limits().failures(verify(path, wrong, precision=precision))


@pytest.mark.parametrize(
    ("format", "options", "match"),
    [
        ("tflite", {"output_type": "uint8"}, "needs an int8 LiteRT file"),
        ("onnx", {"output_type": "int8"}, "needs an int8 LiteRT file"),
        ("tflite", {"inputs": "normalized", "input_type": "uint8"}, "normalised values needs an"),
        ("tflite", {"input_type": "int16"}, "`input_type` must be one of"),
        ("tflite", {"batch": 0}, "`batch` must be 'open' or at least 1. Received: batch=0"),
        ("tflite", {"batch": True}, "`batch` must be 'open' or at least 1"),
        ("onnx", {"activation": "tanh"}, "`activation` must be one of"),
    ],
)
def test_what_no_file_can_be(format, options, match):
    with pytest.raises(ValueError, match=match):
        make_interface(format, "float32", **options)


def test_one_line(model, images, tmp_path):
    path = tmp_path / "new" / "model.tflite"
    said = keras_resnet.export.tflite(model, path)
    assert (said.images, said.accuracy, said.bytes) == (16, None, path.stat().st_size)
    with pytest.raises(ExportError, match=r"model.tflite .*Limits.float32_difference"):
        keras_resnet.export.tflite(model, path, limits=Limits(float32_difference=0.0))
    assert [file.name for file in path.parent.iterdir()] == ["model.tflite"]
    with pytest.raises(ValueError, match="`labels` need `images`"):
        keras_resnet.export.tflite(model, path, labels=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"must end in .onnx"):
        keras_resnet.export.onnx(model, path)
    with pytest.raises(FileExistsError, match="exists: remove it"):
        keras_resnet.export.saved_model(model, path)
    with pytest.raises(ValueError, match="`preprocess` must say how images are prepared"):
        keras_resnet.export.tflite(keras_resnet.build(SPEC), path)


def test_one_line_from_a_net_with_an_activation(model, images, tmp_path):
    top = keras_resnet.build(SPEC, classifier_activation="softmax")
    top.set_weights(model.get_weights())
    said = keras_resnet.export.onnx(
        top, tmp_path / "m.onnx", preprocess=RGB, images=images, batch=2, activation="softmax"
    )
    assert said.input.shape == (2, 8, 8, 3)
    runtime = load(tmp_path / "m.onnx")
    expected = keras.ops.convert_to_numpy(top(RGB.normalize(images[:5])))
    got = runtime.run(runtime.prepare(images[:5], RGB))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    with pytest.warns(UserWarning, match="returns probabilities, and the file returns logits"):
        keras_resnet.export.tflite(top, tmp_path / "m.tflite", preprocess=RGB, images=images)


def test_one_line_says_what_it_decides(model, images, tmp_path):
    """All of this was silent, or an `IsADirectoryError` after the work."""
    path = tmp_path / "m.tflite"
    with pytest.raises(ValueError, match="`path` must be a file"):
        keras_resnet.export.tflite(model, tmp_path)
    with pytest.raises(ValueError, match="`calibration` applies to the precisions 'int8'"):
        keras_resnet.export.tflite(model, path, calibration=images)
    int8 = {"precision": "int8", "calibration": images[:1]}
    int8["limits"] = Limits(int8_signal_to_noise=0, int8_agreement=0)
    with pytest.warns(UserWarning, match="int8 is calibrated on 1 image; below 100"):
        keras_resnet.export.tflite(model, path, **int8)
    free = keras_resnet.build(SPEC, input_shape=(None, None, 3))
    with pytest.warns(UserWarning, match="leaves its input size open: the file takes 8x8"):
        keras_resnet.export.tflite(free, path, preprocess=RGB)


def test_mediapipe_reads_the_labels(model, images, tmp_path):
    mediapipe = pytest.importorskip("mediapipe", reason="MediaPipe is not installed")
    from mediapipe.tasks.python import BaseOptions, vision

    path = tmp_path / "model.tflite"
    said = Description(name="small", labels=LABELS)
    keras_resnet.export.tflite(model, path, activation="softmax", description=said)
    options = vision.ImageClassifierOptions(BaseOptions(str(path)), max_results=1)
    classifier = vision.ImageClassifier.create_from_options(options)
    runtime = load(path)
    for image, scores in zip(images[:9], runtime.run(images[:9]), strict=True):
        picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(image))
        (found,) = classifier.classify(picture).classifications[0].categories
        assert found.category_name == LABELS[scores.argmax()]
        assert found.score == pytest.approx(scores.max(), abs=1e-5)
