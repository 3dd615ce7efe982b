"""Merges on their own, and what they make of a new net."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import ResNetSpec, build, variants
from keras_resnet.nets.layers import GatedSum, Scalar
from keras_resnet.nets.merges import merge

BACKEND = keras.backend.backend()
TINY = ResNetSpec("tiny", (2, 2), (4, 8), stem="cifar", classes=3, input_size=8)


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def _values(model: keras.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    outputs = {layer.name: layer.output for layer in model.layers}
    values = keras.Model(model.input, outputs)(x, training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, values)


# The function, on vectors.


def _merged(kind: str) -> keras.Model:
    inputs = keras.Input((3,))
    start = keras.initializers.Constant(-3.0)
    gate = keras.layers.Dense(3, "sigmoid", bias_initializer=start, name="unit_gate_conv")
    branch = keras.layers.Rescaling(2.0, 1.0)(inputs)
    return keras.Model(inputs, merge(kind, inputs, branch, name="unit_{}".format, gate=gate))


@pytest.mark.parametrize(
    ("kind", "parameters", "wanted"),
    [
        ("add", 0, lambda x: x + (2 * x + 1)),
        ("none", 0, lambda x: 2 * x + 1),
        ("rezero", 1, lambda x: x),
        ("skipinit", 1, lambda x: x),
    ],
)
def test_merge_of_vectors(kind, parameters, wanted):
    model, x = _merged(kind), _images(4, 3)
    assert model.count_params() == parameters
    output = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(output, wanted(x), atol=1e-6)


@pytest.mark.parametrize("kind", ["highway", "shortcut_gate"])
def test_gated_merge_of_vectors(kind):
    model, x = _merged(kind), _images(4, 3)
    assert isinstance(model.get_layer("unit_merge"), GatedSum)
    kernel, bias = model.get_layer("unit_gate_conv").get_weights()
    gate = 1 / (1 + np.exp(-(x @ kernel + bias)))
    branch = 2 * x + 1
    wanted = (gate * branch if kind == "highway" else branch) + (1 - gate) * x
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), wanted, atol=1e-6)


# Nets at their start.


@pytest.mark.parametrize(
    "changes",
    [
        {"merge": "rezero"},
        {"merge": "rezero", "branch": "bottleneck"},
        {"merge": "skipinit", "norm": "none", "conv_bias": True},
        {"norm": "fixup"},
        {"norm": "fixup", "branch": "bottleneck"},
    ],
    ids=["rezero", "rezero bottleneck", "skipinit", "fixup", "fixup bottleneck"],
)
def test_new_units_are_the_identity_on_what_is_rectified(changes):
    values = _values(build(TINY.replace(**changes)), _images(2, 8, 8, 3))
    for stage in (1, 2):
        first, second = (values[f"stage{stage}_unit{index}_out"] for index in (1, 2))
        np.testing.assert_array_equal(first, second)
        assert first.std() > 0.1
    if changes.get("branch") != "bottleneck":  # no projection in the first unit either
        np.testing.assert_array_equal(values["stage1_unit1_out"], values["stem_act"])


@pytest.mark.parametrize("kind", ["rezero", "skipinit"])
def test_new_pre_activation_units_are_the_identity(kind):
    spec = TINY.replace(merge=kind, order="pre", stem_activation=False)
    values = _values(build(spec), _images(2, 8, 8, 3))
    np.testing.assert_array_equal(values["stage1_unit2_merge"], values["stem_conv"])
    assert values["stem_conv"].min() < -0.1
    np.testing.assert_array_equal(values["stage2_unit2_merge"], values["stage2_unit1_merge"])


def test_new_highways_carry_most_of_their_input():
    """Srivastava et al. 2015, section 2.1: a bias below zero, so that the gates start closed."""
    model = build(TINY.replace(merge="highway"))
    gates = [layer for layer in model.layers if layer.name.endswith("gate_conv")]
    assert [layer.name for layer in gates] == [
        f"stage{stage}_unit{index}_gate_conv" for stage in (1, 2) for index in (1, 2)
    ]
    for layer in gates:
        kernel, bias = layer.get_weights()
        assert kernel.shape == (1, 1, layer.filters, layer.filters)
        assert (bias == -3).all()
        assert kernel.std() > 0
    gate = 1 / (1 + np.exp(3))
    model.get_layer("stage1_unit1_gate_conv").kernel.assign(np.zeros((1, 1, 4, 4)))
    values = _values(model, _images(2, 8, 8, 3))
    branch, carried = values["stage1_unit1_norm2"], values["stem_act"]
    wanted = gate * branch + (1 - gate) * carried
    np.testing.assert_allclose(values["stage1_unit1_merge"], wanted, atol=1e-5)


@pytest.mark.parametrize(("branch", "convolutions"), [("basic", 2), ("bottleneck", 3)])
def test_fixup_initialization(branch, convolutions):
    """Zhang et al. 2019, section 3: L^(-1 / (2m - 2)) times He's, last and classifier zero."""
    spec = ResNetSpec("fixup", (5, 4), (32, 64), branch, norm="fixup", stem="cifar", input_size=8)
    model = build(spec, seed=1)
    scale = 9 ** (-1 / (2 * convolutions - 2))
    assert scale == pytest.approx({2: 1 / 3, 3: 1 / np.sqrt(3)}[convolutions])
    seen = {"scaled": 0, "zero": 0, "he": 0}
    for layer in model.layers:
        if isinstance(layer, Scalar):
            wanted = 1.0 if layer.name.endswith("_scale") else 0.0
            assert layer.get_weights()[0].tolist() == [wanted], layer.name
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        assert not layer.use_bias
        kernel = layer.get_weights()[0]
        if layer.name.endswith(f"conv{convolutions}"):
            kind, wanted = "zero", 0.0
        elif layer.name.startswith("stage") and "shortcut" not in layer.name:
            kind, wanted = "scaled", scale * np.sqrt(2 / np.prod(kernel.shape[:-1]))
        else:
            kind, wanted = "he", np.sqrt(2 / np.prod(kernel.shape[:-1]))
        seen[kind] += 1
        # The relative error of a deviation estimated from n values is 1 / sqrt(2 n).
        assert kernel.std() == pytest.approx(wanted, rel=4 / np.sqrt(2 * kernel.size)), layer.name
    projections = 1 if branch == "basic" else 2
    assert seen == {"scaled": 9 * (convolutions - 1), "zero": 9, "he": 1 + projections}
    kernel, bias = model.get_layer("logits").get_weights()
    assert not kernel.any()
    assert not bias.any()


@pytest.mark.parametrize(
    "kind", ["rezero", "skipinit", "fixup", "highway", "delta_orthogonal", "repvgg"]
)
def test_every_kind_of_net_learns(kind):
    """After some steps every weight has moved, those behind a factor of zero too."""
    spec = variants[f"cifar_{kind}8"].replace(widths=(4, 8, 8))
    model = build(spec, input_shape=(8, 8, 3), seed=1)
    start = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 64)
    images = rng.normal(0, 1, (64, 8, 8, 3)) + labels[:, None, None, None] / 5
    model.fit(images, labels, batch_size=16, epochs=4, verbose=0, shuffle=False)
    unmoved = [
        weight.path
        for weight, value in zip(model.trainable_weights, start, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(weight), value)
    ]
    assert unmoved == []
    assert all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in model.weights)
