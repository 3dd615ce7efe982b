"""Nets of other libraries, run beside ours on the same weights: their code, their logits.

Weights and batch-norm statistics are random, the sizes odd and even, and the tensors take the
way that published ones take: read by name, recognised, loaded.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import build
from keras_resnet.weights.recognize import recognize
from keras_resnet.weights.transfer import load_tensors

SIZES = ((64, 64), (71, 85))
CLASSES = 7


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of a role: logits stay near 1 even behind 50 units."""
    if name.endswith(("moving_variance", "running_var", "/3")):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) > 1:
        fan_in = np.prod(shape) / max(shape[-1], shape[0]) if len(shape) == 2 else None
        fan_in = fan_in or (np.prod(shape[:-1]) if shape[0] == shape[1] else np.prod(shape[1:]))
        return rng.normal(0, np.sqrt(1 / fan_in), shape)
    if name.endswith(("gamma", "/0", "weight")):
        return rng.uniform(0.3, 0.7, shape)
    return rng.normal(0, 0.1, shape)


def _randomize_layers(layers: list, names: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """Draws the weights of Keras layers; returns them by `layer/role`."""
    rng, tensors = np.random.default_rng(5), {}
    for layer in layers:
        if not layer.weights:
            continue
        kind = "norm" if isinstance(layer, keras.layers.BatchNormalization) else "other"
        roles = names[kind][: len(layer.weights)]
        values = [
            _draw(rng, f"{layer.name}/{role}", tuple(weight.shape)).astype("float32")
            for role, weight in zip(roles, layer.weights, strict=True)
        ]
        layer.set_weights(values)
        tensors |= {f"{layer.name}/{r}": v for r, v in zip(roles, values, strict=True)}
    return tensors


def _compare(tensors, spec_changes, theirs, *, name: str | None = None) -> None:
    """Loads tensors into our net and compares its logits with those of a function."""
    found = recognize(tensors, source="the test")
    spec = found.spec.replace(**spec_changes)
    if name is not None:
        assert name in found.variants
    ours = build(spec, classes=CLASSES, input_shape=(None, None, 3))
    report = load_tensors(ours, tensors, found.layout, source="the test")
    assert report.complete
    for size in SIZES:
        images = np.random.default_rng(6).normal(size=(2, *size, 3)).astype("float32")
        wanted = theirs(images)
        assert wanted.shape == (2, CLASSES)
        assert 0.05 < np.abs(wanted).max() < 50
        got = keras.ops.convert_to_numpy(ours(images))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


KERAS = {
    "norm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "other": ("kernel", "bias"),
}


@pytest.mark.parametrize(
    "name", ["ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"]
)
def test_keras_applications(name):
    # Their top wants one size; the dense layer behind the pool is all that it adds.
    body = getattr(keras.applications, name)(
        weights=None, input_shape=(None, None, 3), include_top=False, pooling="avg"
    )
    logits = keras.layers.Dense(CLASSES, name="predictions")(body.output)
    theirs = keras.Model(body.input, logits)
    tensors = _randomize_layers(theirs.layers, KERAS)
    _compare(
        tensors,
        {},
        lambda images: keras.ops.convert_to_numpy(theirs(images)),
        name=f"keras_{name.lower()}",
    )


@pytest.mark.parametrize(
    ("stem", "block", "preactivation", "name"),
    [
        ([64], "basic_block", False, "resnet18"),
        ([64], "bottleneck_block", False, "resnet50_v1_5"),
        ([64], "basic_block", True, "resnetv2_18"),
        ([64], "bottleneck_block", True, "resnetv2_50"),
        ([32, 32, 64], "basic_block_vd", False, "resnet18vd"),
        ([32, 32, 64], "bottleneck_block_vd", False, "resnet50d"),
    ],
)
def test_keras_hub(stem, block, preactivation, name):
    keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=stem,
        input_conv_kernel_sizes=[7] if len(stem) == 1 else [3] * len(stem),
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2] if "basic" in block else [3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
        use_pre_activation=preactivation,
    )
    theirs = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=CLASSES)
    layers = [*backbone.layers, *(x for x in theirs.layers if x is not backbone)]
    tensors = _randomize_layers(layers, {"norm": ("0", "1", "2", "3"), "other": ("0", "1")})
    _compare(tensors, {}, lambda images: keras.ops.convert_to_numpy(theirs(images)), name=name)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("changes", "spec_changes", "name"),
    [
        ({"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}, {}, None),
        ({}, {}, "resnet50_v1_5"),
        ({"downsample_in_bottleneck": True}, {"stride_placement": "1x1"}, "resnet50"),
        ({"downsample_in_first_stage": True, "embedding_size": 48}, {"first_stride": 2}, None),
    ],
    ids=["basic", "bottleneck", "downsample_in_bottleneck", "downsample_in_first_stage"],
)
def test_transformers(changes, spec_changes, name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ResNetConfig(num_labels=CLASSES, **changes)
    theirs = transformers.ResNetForImageClassification(config).eval()
    rng = np.random.default_rng(7)
    state = {
        key: _draw(rng, key, tuple(value.shape)).astype("float32")
        for key, value in theirs.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()}, strict=False)

    def logits(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return theirs(torch.tensor(np.moveaxis(images, -1, 1).copy())).logits.cpu().numpy()

    _compare(state, spec_changes, logits, name=name)
