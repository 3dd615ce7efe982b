"""Nets of other libraries and ours on the same weights: equal structure, equal logits.

Weights and batch-norm statistics are random, sizes odd and even. Tensors are recognised and loaded
like published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras.src.applications import resnet

from keras_resnet import build
from keras_resnet.weights.recognize import recognize
from keras_resnet.weights.transfer import _slots, load_tensors

SIZES = ((32, 32), (39, 53))
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
KERAS_HUB = {"norm": ("0", "1", "2", "3"), "other": ("0", "1")}


def _without_values(make: Callable[[], keras.Model]) -> keras.Model:
    """Returns a model without values, in a thread that Keras forgets its variables with."""

    def made() -> keras.Model:
        with keras.StatelessScope(initialize_variables=False):
            return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(made).result()


def _check_structure(theirs: list, roles: dict[str, tuple[str, ...]], name: str) -> None:
    """Compares names and shapes of all tensors with our net's; no weights are initialised."""
    tensors = {
        f"{layer.name}/{role}": np.broadcast_to(np.float32(0), weight.shape)
        for layer in theirs
        for role, weight in zip(
            roles["norm" if isinstance(layer, keras.layers.BatchNormalization) else "other"],
            layer.weights,
            strict=False,
        )
    }
    found = recognize(tensors, source="the test")
    assert name in found.variants
    ours = _without_values(lambda: build(found.spec, include_top=False))
    wanted = {slot.tensor: slot.shape for slot in _slots(ours, found.layout)}
    assert {key: tensor.shape for key, tensor in tensors.items()} == wanted


@pytest.mark.parametrize("name", ["ResNet101", "ResNet152V2"])
def test_structure_of_keras_applications(name):
    make = getattr(keras.applications, name)
    theirs = _without_values(lambda: make(weights=None, include_top=False))
    _check_structure(theirs.layers, KERAS, f"keras_{name.lower()}")


@pytest.mark.parametrize("version", [1, 2])
def test_keras_applications(version):
    """Two stages of their blocks: the full nets repeat them."""

    def stages(x):
        stack = getattr(resnet, f"stack_residual_blocks_v{version}")
        # In v1 the first unit of a stage strides, in v2 the last one.
        strides = (1, 2) if version == 1 else (2, 1)
        for number, (filters, stride) in enumerate(zip((64, 128), strides, strict=True)):
            x = stack(x, filters, 2, stride1=stride, name=f"conv{number + 2}")
        return x

    # Their top needs one size; the dense layer behind the pool is all that it adds.
    body = resnet.ResNet(
        stages, version == 2, True, False, None, input_shape=(None, None, 3), pooling="avg"
    )
    logits = keras.layers.Dense(CLASSES, name="predictions")(body.output)
    theirs = keras.Model(body.input, logits)
    tensors = _randomize_layers(theirs.layers, KERAS)
    _compare(tensors, {}, lambda images: keras.ops.convert_to_numpy(theirs(images)))


@pytest.mark.parametrize(
    ("stem", "block", "preactivation", "name"),
    [
        ([64], "basic_block", False, "resnet18"),
        ([64], "bottleneck_block", False, None),
        ([64], "basic_block", True, None),
        ([64], "bottleneck_block", True, "resnetv2_50"),
        ([32, 32, 64], "basic_block_vd", False, None),
        ([32, 32, 64], "bottleneck_block_vd", False, "resnet50d"),
    ],
)
def test_keras_hub(stem, block, preactivation, name):
    """The structure of full nets with a name, and the logits of two stages of their blocks."""
    keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")

    def backbone(widths: list[int], depths: list[int]):
        return keras_hub.models.ResNetBackbone(
            input_conv_filters=stem,
            input_conv_kernel_sizes=[7] if len(stem) == 1 else [3] * len(stem),
            stackwise_num_filters=widths,
            stackwise_num_blocks=depths,
            stackwise_num_strides=[1, 2, 2, 2][: len(widths)],
            block_type=block,
            use_pre_activation=preactivation,
        )

    if name is not None:
        depths = [2, 2, 2, 2] if "basic" in block else [3, 4, 6, 3]
        full = _without_values(lambda: backbone([64, 128, 256, 512], depths))
        _check_structure(full.layers, KERAS_HUB, name)
    small = backbone([64, 128], [2, 2])
    theirs = keras_hub.models.ResNetImageClassifier(backbone=small, num_classes=CLASSES)
    layers = [*small.layers, *(layer for layer in theirs.layers if layer is not small)]
    tensors = _randomize_layers(layers, KERAS_HUB)
    _compare(tensors, {}, lambda images: keras.ops.convert_to_numpy(theirs(images)))


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
