"""Layer responses against a hand computation in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import ResNetSpec, build
from keras_resnet.analysis import layer_responses

SPEC = ResNetSpec("two", (2,), (3,), stem="cifar", classes=2, input_size=6, input_channels=2)


def _images(count: int) -> np.ndarray:
    # The mean is far from zero, where naive sums of squares lose precision.
    return np.random.default_rng(1).normal(3, 2, (count, 6, 6, 2)).astype("float32")


class _Hand:
    """The net's layers in NumPy and float64."""

    def __init__(self, model: keras.Model) -> None:
        self.weights = {layer.name: layer.get_weights() for layer in model.layers}
        self.eps = model.spec.norm_eps

    def conv(self, x: np.ndarray, name: str) -> np.ndarray:
        (kernel,) = self.weights[name]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = x.shape[1:3]
        return sum(
            padded[:, i : i + height, j : j + width] @ kernel[i, j].astype("float64")
            for i in range(3)
            for j in range(3)
        )

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        gamma, beta, mean, variance = self.weights[name]
        return (x - mean) / np.sqrt(variance.astype("float64") + self.eps) * gamma + beta


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def test_responses_of_a_post_activation_net(randomize):
    model = build(SPEC)
    randomize(model, 2)
    hand, expected = _Hand(model), {}
    images = _images(7)
    x = expected["stem_conv"] = hand.norm(hand.conv(images, "stem_conv"), "stem_norm")
    x = _relu(x)
    for unit in ("stage1_unit1", "stage1_unit2"):
        start = x
        for number in (1, 2):
            y = hand.norm(hand.conv(x, f"{unit}_conv{number}"), f"{unit}_norm{number}")
            expected[f"{unit}_conv{number}"] = y
            x = _relu(y)
        x = _relu(start + y)
    before = model.get_weights()
    found = layer_responses(model, images, batch_size=3)
    assert [response.name for response in found] == list(expected)
    assert [response.stage for response in found] == [0, 1, 1, 1, 1]
    assert all(response.normed for response in found)
    for response, values in zip(found, expected.values(), strict=True):
        assert response.std == pytest.approx(values.std(), rel=1e-5)
        assert response.mean == pytest.approx(values.mean(), rel=1e-4, abs=1e-5)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    whole = layer_responses(model, images)
    assert [r.std for r in whole] == pytest.approx([r.std for r in found], rel=1e-6)


def test_responses_of_a_pre_activation_net_are_the_outputs_of_its_convolutions(randomize):
    model = build(SPEC.replace(order="pre"))
    randomize(model, 2)
    hand, images = _Hand(model), _images(4)
    stem = hand.norm(hand.conv(images, "stem_conv"), "stem_norm")
    x = _relu(stem)  # the first unit starts from the activated stem
    first = hand.conv(x, "stage1_unit1_conv1")
    second = hand.conv(_relu(hand.norm(first, "stage1_unit1_norm2")), "stage1_unit1_conv2")
    found = {response.name: response for response in layer_responses(model, images)}
    assert {name: r.normed for name, r in found.items()} == {
        "stem_conv": True,
        **{f"stage1_unit{u}_conv{n}": False for u in (1, 2) for n in (1, 2)},
    }
    for name, values in (
        ("stem_conv", stem),
        ("stage1_unit1_conv1", first),
        ("stage1_unit1_conv2", second),
    ):
        assert found[name].std == pytest.approx(values.std(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"branch": "bottleneck"}, {"stem_conv": True, "stage1_unit1_conv2": True}),
        (
            {"order": "norm_after_add"},
            {"stem_conv": True, "stage1_unit1_conv1": True, "stage1_unit1_conv2": False},
        ),
        (
            {"order": "relu_only_pre", "merge": "shortcut_gate"},
            {"stem_conv": True, "stage1_unit1_conv1": True, "stage1_unit1_conv2": True},
        ),
        (
            {"norm": "fixup"},
            {"stem_conv": False, "stage1_unit1_conv1": False, "stage1_unit1_conv2": False},
        ),
    ],
    ids=str,
)
def test_which_layers_respond(changes, expected):
    model = build(SPEC.replace(depths=(1,), **changes), seed=0)
    found = layer_responses(model, _images(2))
    assert {response.name: response.normed for response in found} == expected


def test_wrong_input_is_named():
    model = build(SPEC, seed=0)
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer.*=0"):
        layer_responses(model, _images(2), batch_size=0)
    with pytest.raises(ValueError, match=r"`images` must be a batch.*\(0, 6, 6, 2\)"):
        layer_responses(model, _images(2)[:0])
