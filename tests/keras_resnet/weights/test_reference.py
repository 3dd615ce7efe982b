"""The NumPy reference computes the same as the nets and as PyTorch's operations."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from keras_resnet.weights import reference
from keras_resnet.weights.transfer import dump_tensors

LAYOUTS = (
    "torchvision",
    "torchvision-basic",
    "torchvision-grouped",
    "timm-rs",
    "timm-d",
    "timm-tiered",
    "timm-eca",
    "timm-gn",
    "timm_v2",
    "timm_v2-d",
    "timm_v2-basic",
    "timm_repvgg",
    "hf",
    "hf-basic",
    "akamaster",
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_agrees_with_the_net(small_net, name):
    """At sizes that are odd or even in every stage, each combination another border."""
    net = small_net(name)
    model = net.make()
    tensors = dump_tensors(model, net.layout)
    early = net.spec.stride_placement == "1x1"
    for size in ((20, 20), (21, 26), (23, 33)):
        images = np.random.default_rng(1).normal(size=(2, *size, 3)).astype("float32")
        pooled = net.spec.shortcut == "D"
        wanted = reference.forward(tensors, images, stride_in_1x1=early, average_shortcut=pooled)
        assert wanted.dtype == np.float64
        assert wanted.shape == (2, 5)
        assert np.abs(wanted[0] - wanted[1]).max() > 1e-2
        logits = keras.ops.convert_to_numpy(model(images, training=False))
        np.testing.assert_allclose(logits, wanted, atol=2e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize(
    ("antialias", "changes"),
    [("blur", {"blur": 3}), ("avg", {"blur": 2, "stem_pool": "avg"})],
)
@pytest.mark.parametrize("name", ["torchvision", "timm-d"])
def test_timms_filters(small_net, name, antialias, changes):
    net = small_net(name)
    model = net.make(**{"blur_shortcut": False, "stem_pool": "max", **changes})
    tensors = dump_tensors(model, dataclasses.replace(net.layout, fixed={}, when=()))
    images = np.random.default_rng(1).normal(size=(2, 20, 32, 3)).astype("float32")
    wanted = reference.forward(tensors, images, antialias=antialias)
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_allclose(logits, wanted, atol=2e-5 * max(1, np.abs(wanted).max()))
    assert np.abs(reference.forward(tensors, images) - wanted).max() > 1e-3


def test_without_a_classifier_it_returns_pooled_features(small_net, images):
    net = small_net("torchvision")
    model = net.make(include_top=False)
    wanted = reference.forward(dump_tensors(model, net.layout), images)
    maps = keras.ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_allclose(maps.mean((1, 2)), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("torchvision", {"stride_placement": "1x1"}),
        ("torchvision", {"padding": "same"}),
        ("torchvision", {"norm_eps": 1e-2}),
        ("timm-d", {"stem_pool": "max", "blur": 3}),
        ("akamaster", {"padding": "same"}),
    ],
)
def test_it_differs_from_another_function(small_net, name, changes):
    """The comparison sees what the tensors do not show."""
    net = small_net(name)
    model = net.make(**changes)
    tensors = {
        f"{net.layout.translate(layer.name, model.spec)}.{role}": array
        for layer in model.layers
        if layer.weights
        for role, array in _torch(layer)
    }
    images = np.random.default_rng(1).normal(size=(2, 20, 20, 3)).astype("float32")
    wanted = reference.forward(tensors, images)
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    assert np.abs(logits - wanted).max() > 1e-3


def _torch(layer):
    """A layer's weights by PyTorch's roles, whatever its spec."""
    arrays = layer.get_weights()
    if len(arrays) == 4:
        return zip(("weight", "bias", "running_mean", "running_var"), arrays, strict=True)
    kernel = arrays[0].T if arrays[0].ndim == 2 else np.moveaxis(arrays[0], (-1, -2), (0, 1))
    return zip(("weight", "bias"), [kernel, *arrays[1:]], strict=False)


@pytest.mark.parametrize("name", ["keras", "mlperf_tiny"])
def test_other_tensors_are_refused(small_net, images, name):
    net = small_net(name)
    tensors = dump_tensors(net.make(), net.layout)
    with pytest.raises(ValueError, match="NumPy reference computes only PyTorch's residual nets"):
        reference.forward(tensors, images)


def test_pools_by_hand():
    """Max pooling over minus infinity; average pooling of what is there at an odd border."""
    x = -np.arange(9.0).reshape(1, 1, 3, 3) - 1
    np.testing.assert_array_equal(reference._max_pool(x)[0, 0], [[-1, -2], [-4, -5]])
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(reference._average_pool(x)[0, 0], [[2, 3.5], [6.5, 8]])


@pytest.mark.torch
def test_operations_are_pytorchs():
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8, 7, 10))
    tensors = {"c.weight": rng.normal(size=(12, 4, 3, 3)), "c.bias": rng.normal(size=12)}
    tensors |= {f"n.{part}": rng.normal(size=8) for part in ("weight", "bias", "running_mean")}
    tensors["n.running_var"] = rng.uniform(0.5, 2, 8)
    like = {name: torch.tensor(array) for name, array in tensors.items()}
    ours = (
        reference._conv(x, tensors, "c", stride=2),
        reference._norm(x, tensors, "n"),
        reference._max_pool(x),
        reference._average_pool(x),
    )
    y = torch.tensor(x)
    wanted = (
        functional.conv2d(y, like["c.weight"], like["c.bias"], stride=2, padding=1, groups=2),
        functional.batch_norm(
            y, like["n.running_mean"], like["n.running_var"], like["n.weight"], like["n.bias"]
        ),
        functional.max_pool2d(y, 3, 2, 1),
        functional.avg_pool2d(y, 2, 2, ceil_mode=True, count_include_pad=False),
    )
    for one, other in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-12)
