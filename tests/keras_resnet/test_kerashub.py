"""What KerasHub asks of a backbone (its `run_vision_backbone_test`), for nets of this package.

Shapes, feature pyramid, configuration and files are checked without KerasHub; its tasks only where
it is installed. examples/kerashub_tasks.py and detection_retinanet.py train with them.
"""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, ResNet, ResNetSpec, build

SPEC = ResNetSpec("tiny", (1, 1, 1), (4, 6, 8), stem="cifar", classes=3, input_size=16)
SPECS = {
    "post": SPEC,
    "pre": SPEC.replace(order="pre"),
    "deep": SPEC.replace(stem="deep", shortcut="D", branch="bottleneck", stem_width=4),
}
# Output shape for images of 32 x 32, and height and width by level of the feature pyramid.
SHAPES = {
    "post": ((2, 8, 8, 8), {"P2": 32, "P3": 16, "P4": 8}),
    "pre": ((2, 8, 8, 8), {"P2": 32, "P3": 16, "P4": 8}),
    "deep": ((2, 2, 2, 32), {"P2": 8, "P3": 4, "P4": 2}),
}


def _images() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(2, 32, 32, 3)).astype("float32")


def _run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def _backbone(name: str) -> ResNet:
    model = build(SPECS[name], include_top=False, input_shape=(None, None, 3), seed=1)
    model.preprocess = PreprocessSpec((32, 32))
    return model


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("name", SPECS)
def test_backbone(name, tmp_path):
    model, x = _backbone(name), _images()
    shape, sizes = SHAPES[name]
    attributes = set(dir(model))
    outputs = _run(model, x)
    assert outputs.shape == shape
    assert outputs.std() > 0.01
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, rtol=1e-4, atol=1e-5)
    pyramid = keras.Model(model.input, model.pyramid_outputs)(x)
    assert {level: tuple(each.shape[1:3]) for level, each in pyramid.items()} == {
        level: (size, size) for level, size in sizes.items()
    }
    # The configuration, alone and as JSON, is that of the model that is made from it.
    config = _json(model.get_config())
    revived = ResNet.from_config(model.get_config())
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    for copy in (revived, keras.saving.deserialize_keras_object(stored)):
        assert _json(copy.get_config()) == config
        assert set(dir(copy)) == attributes
        assert (copy.spec, copy.preprocess) == (model.spec, model.preprocess)
        assert list(copy.pyramid_outputs) == list(sizes)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(_run(loaded, x), outputs)
    assert list(loaded.pyramid_outputs) == list(sizes)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_backbone_in_16_bits(policy):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch has no float16 convolutions on CPUs")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = _backbone("post")
    finally:
        keras.config.set_dtype_policy(before)
    name = keras.DTypePolicy(policy).compute_dtype
    assert {each.compute_dtype for each in model.layers if each.weights} == {name}
    assert keras.backend.standardize_dtype(model(_images()).dtype) == name
    assert ResNet.from_config(model.get_config()).get_layer("stem_conv").compute_dtype == name


@pytest.mark.parametrize("name", ["post", "deep"])
def test_batches_and_sizes_of_any_number(name):
    """`run_backbone_test`: single images, larger batches and other sizes, by `predict` too."""
    model, x = _backbone(name), _images()
    whole = _run(model, x)
    for part in (x[:1], np.concatenate([x, x, x])):
        outputs = model.predict(part, batch_size=4, verbose=0)
        wanted = whole[: len(part)] if len(part) == 1 else np.concatenate([whole] * 3)
        np.testing.assert_allclose(outputs, wanted, rtol=1e-4, atol=1e-5)
    odd = np.zeros((1, 33, 48, 3), "float32")
    levels = keras.Model(model.input, model.pyramid_outputs)(odd)
    assert tuple(_run(model, odd).shape[1:3]) == tuple(list(levels.values())[-1].shape[1:3])


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_quantization_of_keras(tmp_path):
    """`run_quantization_test`: Keras quantizes the classifier; the net keeps its spec in files."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("one backend is enough")
    model, x = build(SPEC, seed=1, input_shape=(32, 32, 3)), _images()
    before = _run(model, x)
    model.quantize("int8")
    outputs = _run(model, x)
    assert 0 < np.abs(outputs - before).max() < 0.05 * np.ptp(before)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(_run(loaded, x), outputs, rtol=1e-6, atol=1e-6)
    assert loaded.spec == SPEC
    assert loaded.get_layer("logits").dtype_policy.quantization_mode == "int8"


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("keras_hub", reason="KerasHub is not installed")


def _classifier(hub, backbone: ResNet) -> keras.Model:
    return hub.models.ImageClassifier(backbone, num_classes=5, preprocessor=None)


def _segmenter(hub, backbone: ResNet) -> keras.Model:
    encoder = hub.models.DeepLabV3Backbone(
        image_encoder=backbone,
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        upsampling_size=4,
        dilation_rates=[1],
        projection_filters=4,
        spatial_pyramid_pooling_channels=4,
        image_shape=(32, 32, 3),
    )
    return hub.models.DeepLabV3ImageSegmenter(
        encoder, num_classes=5, activation=None, preprocessor=None
    )


@pytest.mark.parametrize(
    ("task", "shape"),
    [(_classifier, (2, 5)), (_segmenter, (2, 32, 32, 5))],
    ids=["classifier", "segmenter"],
)
def test_task_of_kerashub(hub, tmp_path, task, shape):
    """The task is saved with the net inside, and the net keeps its spec."""
    backbone, x = _backbone("deep"), _images()
    model = task(hub, backbone)
    outputs = _run(model, x)
    assert outputs.shape == shape
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras", compile=False)
    np.testing.assert_allclose(_run(loaded, x), outputs, rtol=1e-5, atol=1e-6)
    nets = [each for each in loaded._flatten_layers() if isinstance(each, ResNet)]
    assert [net.spec for net in nets] == [backbone.spec]
