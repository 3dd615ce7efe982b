"""`build`: layer names, shortcuts, strides, heads, inputs, errors, precision, training."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet import PadChannels, ResNet, ResNetSpec, build, plain_twin, variants
from keras_resnet.nets.geometry import units

BACKEND = keras.backend.backend()
TINY = ResNetSpec("tiny", (1, 1), (4, 8), stem="cifar", classes=3, input_size=8)


def _names(model: keras.Model, prefix: str = "") -> list[str]:
    return [layer.name for layer in model.layers if layer.name.startswith(prefix)]


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def _run(model: keras.Model, x: Any) -> Any:
    """Inference without `predict`, which on TensorFlow spends a second on tracing each net."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


# Names: weights depend on them.


def test_names_of_resnet18_stage_2():
    assert sorted(_names(build("resnet18", input_shape=(32, 32, 3)), "stage2")) == [
        "stage2_unit1_act1",
        "stage2_unit1_conv1",
        "stage2_unit1_conv2",
        "stage2_unit1_merge",
        "stage2_unit1_norm1",
        "stage2_unit1_norm2",
        "stage2_unit1_out",
        "stage2_unit1_pad1",
        "stage2_unit1_shortcut_conv",
        "stage2_unit1_shortcut_norm",
        "stage2_unit2_act1",
        "stage2_unit2_conv1",
        "stage2_unit2_conv2",
        "stage2_unit2_merge",
        "stage2_unit2_norm1",
        "stage2_unit2_norm2",
        "stage2_unit2_out",
    ]


def test_names_of_cifar_resnet20():
    def unit(stage: int, index: int, *, pads: bool = False) -> set[str]:
        ends = "conv1 norm1 act1 conv2 norm2 merge out" + (" pad1 shortcut_pad" if pads else "")
        return {f"stage{stage}_unit{index}_{end}" for end in ends.split()}

    wanted = {"cifar_resnet20_images", "stem_conv", "stem_norm", "stem_act", "pool", "logits"}
    wanted |= unit(1, 1) | unit(1, 2) | unit(1, 3)
    wanted |= unit(2, 1, pads=True) | unit(2, 2) | unit(2, 3)
    wanted |= unit(3, 1, pads=True) | unit(3, 2) | unit(3, 3)
    names = _names(build("cifar_resnet20"))
    assert len(names) == len(set(names)) == 73
    assert set(names) == wanted


def test_names_of_a_v2_bottleneck_net():
    model = build("cifar_resnet11v2", classifier_activation="softmax")
    assert sorted(_names(model, "stem")) == ["stem_act", "stem_conv", "stem_norm"]
    # The stem has activated the first unit's input: no norm1. Its width changes: a projection.
    assert sorted(_names(model, "stage1")) == [
        "stage1_unit1_act2",
        "stage1_unit1_act3",
        "stage1_unit1_conv1",
        "stage1_unit1_conv2",
        "stage1_unit1_conv3",
        "stage1_unit1_merge",
        "stage1_unit1_norm2",
        "stage1_unit1_norm3",
        "stage1_unit1_shortcut_conv",
    ]
    assert sorted(_names(model, "stage2")) == [
        "stage2_unit1_act1",
        "stage2_unit1_act2",
        "stage2_unit1_act3",
        "stage2_unit1_conv1",
        "stage2_unit1_conv2",
        "stage2_unit1_conv3",
        "stage2_unit1_merge",
        "stage2_unit1_norm1",
        "stage2_unit1_norm2",
        "stage2_unit1_norm3",
        "stage2_unit1_shortcut_conv",
    ]
    tail = ["final_norm", "final_act", "pool", "predictions"]
    assert _names(model)[-4:] == tail
    assert _names(build("cifar_resnet11v2"))[-4:] == [*tail[:3], "logits"]


def test_names_of_the_imagenet_stem():
    names = ["stem_pad", "stem_conv", "stem_norm", "stem_act", "stem_pool_pad", "stem_pool"]
    spec = variants["resnet18"].replace(widths=(4, 4, 4, 4))
    assert _names(build(spec), "stem") == names
    same = spec.replace(padding="same")
    assert _names(build(same), "stem") == ["stem_conv", "stem_norm", "stem_act", "stem_pool"]


# Shortcuts and strides, unit by unit.


@pytest.mark.parametrize(
    ("option", "branch", "projecting", "padding"),
    [
        ("A", "basic", [], ["stage2_unit1", "stage3_unit1"]),
        ("B", "basic", ["stage2_unit1", "stage3_unit1"], []),
        ("C", "basic", "all", []),
        ("A", "bottleneck", [], ["stage1_unit1", "stage2_unit1", "stage3_unit1"]),
        ("B", "bottleneck", ["stage1_unit1", "stage2_unit1", "stage3_unit1"], []),
        ("C", "bottleneck", "all", []),
    ],
)
@pytest.mark.parametrize("order", ["post", "pre"])
def test_shortcuts(order, option, branch, projecting, padding):
    spec = ResNetSpec("s", (2, 2, 2), (4, 8, 16), branch, order, option, stem="cifar", input_size=8)
    model = build(spec)
    every = [unit.name for unit in units(spec)]
    assert len(every) == 6
    convs = [name.removesuffix("_shortcut_conv") for name in _names(model) if "shortcut_c" in name]
    norms = [name.removesuffix("_shortcut_norm") for name in _names(model) if "shortcut_n" in name]
    pads = [layer.name for layer in model.layers if isinstance(layer, PadChannels)]
    assert convs == (every if projecting == "all" else projecting)
    assert norms == (convs if order == "post" else [])
    assert pads == [f"{name}_shortcut_pad" for name in padding]
    assert [name for name in _names(model) if name.endswith("merge")] == [
        f"{name}_merge" for name in every
    ]
    for name in convs:
        layer = model.get_layer(f"{name}_shortcut_conv")
        strided = name in ("stage2_unit1", "stage3_unit1")
        assert layer.kernel_size == (1, 1)
        assert layer.strides == ((2, 2) if strided else (1, 1))


def test_shortcut_norm_can_be_left_out():
    model = build("mlperf_tiny_resnet8")
    assert "stage2_unit1_shortcut_conv" in _names(model)
    assert [name for name in _names(model) if "shortcut_norm" in name] == []


@pytest.mark.parametrize(
    ("name", "striding"),
    [
        ("resnet34", "conv1"),
        ("resnet50", "conv1"),
        ("resnet50_v1_5", "conv2"),
        ("resnet50v2", "conv2"),
        ("resnet18v2", "conv1"),
        ("keras_resnet50", "conv1"),
    ],
)
def test_strides_stand_where_they_should(name, striding):
    spec = variants[name].replace(depths=(2, 2, 2, 2), widths=(4, 4, 4, 4))
    model = build(spec, input_shape=(64, 64, 3))
    strided = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.strides == (2, 2)
    ]
    ends = [striding, "shortcut_conv"]
    assert sorted(strided) == sorted(
        ["stem_conv"] + [f"stage{stage}_unit1_{end}" for stage in (2, 3, 4) for end in ends]
    )
    sizes = [model.get_layer(f"stage{stage}_unit2_merge").output.shape[1] for stage in (1, 2, 3, 4)]
    assert sizes == [16, 8, 4, 2]


@pytest.mark.parametrize(
    ("name", "projections"), [("cifar_resnet20", 0), ("cifar_resnet11v2", 3), ("resnet18", 6)]
)
def test_plain_twin_has_the_branches_alone(name, projections):
    spec = variants[name].replace(classes=4)
    residual, plain = build(spec, seed=7), build(plain_twin(spec), seed=7)
    kinds = {type(layer) for layer in plain.layers}
    assert not kinds & {keras.layers.Add, PadChannels}
    weighted = [layer.name for layer in residual.layers if layer.weights]
    branches = [name for name in weighted if "shortcut" not in name]
    assert len(weighted) - len(branches) == projections
    assert sorted(branches) == sorted(layer.name for layer in plain.layers if layer.weights)
    for layer_name in branches:  # equal names start from equal weights
        ours, theirs = residual.get_layer(layer_name), plain.get_layer(layer_name)
        for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


# Initial state.


def test_seeds():
    def kernels(seed: int | None) -> list[np.ndarray]:
        model = build(TINY, seed=seed)
        return [w for w in model.get_weights() if w.ndim > 1]

    one, again, other = kernels(1), kernels(1), kernels(2)
    assert len(one) == 7
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.allclose(a, c)
    assert not any(np.allclose(a, b) for a, b in zip(kernels(None), kernels(None), strict=True))
    keras.utils.set_random_seed(4)
    first = kernels(None)
    keras.utils.set_random_seed(4)
    for a, b in zip(first, kernels(None), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("branch", ["basic", "bottleneck"])
@pytest.mark.parametrize("option", ["A", "B"])
def test_zero_init_makes_post_units_their_shortcuts(option, branch):
    spec = TINY.replace(depths=(2, 2), shortcut=option, branch=branch, zero_init_residual=True)
    model = build(spec)
    values = _values(model, _images(2, 8, 8, 3))
    np.testing.assert_array_equal(values["stage1_unit2_out"], values["stage1_unit1_out"])
    np.testing.assert_array_equal(values["stage2_unit2_out"], values["stage2_unit1_out"])
    assert values["stage2_unit1_out"].std() > 0.1
    if option == "A":
        x = values["stage1_unit2_out"][:, ::2, ::2]
        added = values["stage2_unit1_out"].shape[-1] - x.shape[-1]
        wanted = np.pad(x, ((0, 0), (0, 0), (0, 0), (added // 2, added // 2)))
    else:
        wanted = np.maximum(values["stage2_unit1_shortcut_norm"], 0)
    np.testing.assert_allclose(values["stage2_unit1_out"], wanted, atol=1e-6)


@pytest.mark.parametrize("branch", ["basic", "bottleneck"])
def test_zero_init_makes_pre_units_their_shortcuts(branch):
    spec = TINY.replace(depths=(2, 2), order="pre", branch=branch, zero_init_residual=True)
    values = _values(build(spec), _images(2, 8, 8, 3))
    np.testing.assert_array_equal(values["stage1_unit2_merge"], values["stage1_unit1_merge"])
    np.testing.assert_array_equal(values["stage2_unit2_merge"], values["stage2_unit1_merge"])
    np.testing.assert_array_equal(
        values["stage2_unit1_merge"], values["stage2_unit1_shortcut_conv"]
    )
    assert values["stage2_unit1_merge"].std() > 0.1
    if branch == "basic":  # no projection in the first unit
        np.testing.assert_array_equal(values["stage1_unit1_merge"], values["stem_act"])


def test_without_zero_init_units_are_not_their_shortcuts():
    values = _values(build(TINY.replace(depths=(2, 2))), _images(2, 8, 8, 3))
    assert not np.allclose(values["stage1_unit2_out"], values["stage1_unit1_out"])


def _values(model: keras.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    outputs = {layer.name: layer.output for layer in model.layers}
    return _run(keras.Model(model.input, outputs), x)


# Heads and inputs.


def test_build_gives_a_functional_model_that_knows_its_spec():
    model = build("cifar_resnet8")
    assert isinstance(model, ResNet)
    assert model.spec == variants["cifar_resnet8"]
    assert model.name == "cifar_resnet8"
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 10))
    assert model.get_layer("logits").activation is keras.activations.linear
    assert build(TINY, name="mine").name == "mine"
    assert build(TINY, classes=7).output_shape == (None, 7)


def test_classifier_activation():
    x = _images(3, 8, 8, 3)
    logits = _run(build(TINY, seed=1), x)
    linear = _run(build(TINY, seed=1, classifier_activation="linear"), x)
    np.testing.assert_array_equal(logits, linear)
    chances = _run(build(TINY, seed=1, classifier_activation="softmax"), x)
    exponentials = np.exp(logits)
    wanted = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(chances, wanted, atol=1e-6)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_without_the_top(order):
    spec, x = TINY.replace(order=order), _images(2, 9, 8, 3)
    shape = (9, 8, 3)
    features = build(spec, seed=1, input_shape=shape, include_top=False)
    assert features.output_shape == (None, 5, 4, 8)
    assert features.layers[-1].name == ("final_act" if order == "pre" else "stage2_unit1_out")
    maps = _run(features, x)
    for pooling, pool in {"avg": np.mean, "max": np.max}.items():
        model = build(spec, seed=1, input_shape=shape, include_top=False, pooling=pooling)
        assert model.output_shape == (None, 8)
        np.testing.assert_allclose(_run(model, x), pool(maps, axis=(1, 2)), atol=1e-5)


def test_the_top_pools_and_projects():
    x = _images(2, 8, 8, 3)
    whole, pooled = build(TINY, seed=1), build(TINY, seed=1, include_top=False, pooling="avg")
    kernel, bias = whole.get_layer("logits").get_weights()
    wanted = _run(pooled, x) @ kernel + bias
    np.testing.assert_allclose(_run(whole, x), wanted, atol=1e-5)


def test_open_sizes():
    model = build(TINY, input_shape=(None, None, 3), seed=1)
    assert model.input_shape == (None, None, None, 3)
    for height, width in ((8, 8), (11, 6)):
        x = _images(2, height, width, 3)
        fixed = build(TINY, input_shape=(height, width, 3), seed=1)
        np.testing.assert_allclose(_run(model, x), _run(fixed, x), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels(channels):
    model = build(TINY, input_shape=(8, 8, channels))
    assert model.get_layer("stem_conv").kernel.shape == (3, 3, channels, 4)
    assert _run(model, _images(2, 8, 8, channels)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(32, 32, 3), (33, 47, 3)])
def test_the_smallest_input_is_enough(shape):
    spec = variants["resnet50"].replace(widths=(4, 4, 4, 4), classes=3)
    assert build(spec, input_shape=shape, include_top=False).output_shape[1] == -(-shape[0] // 32)


def test_input_tensor():
    tensor = keras.Input((8, 8, 3), name="mine")
    model = build(TINY, input_tensor=tensor, input_shape=(8, 8, 3))
    assert model.input is tensor
    assert not any("images" in name for name in _names(model))


def test_input_tensor_from_another_layer():
    start = keras.Input((8, 8, 3), name="pixels")
    model = build(TINY, input_tensor=keras.layers.Rescaling(1 / 255)(start), seed=1)
    assert model.input is start
    assert model.layers[1].__class__ is keras.layers.Rescaling
    x = 255 * _images(2, 8, 8, 3)
    wanted = _run(build(TINY, seed=1), x / 255)
    np.testing.assert_allclose(_run(model, x), wanted, atol=1e-5)


def test_input_tensor_from_two_inputs():
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 2), name="right")
    model = build(TINY, input_tensor=keras.layers.Concatenate()([left, right]), seed=1)
    assert [tensor.name for tensor in model.inputs] == ["left", "right"]
    x = _images(2, 8, 8, 3)
    wanted = _run(build(TINY, seed=1), x)
    output = _run(model, [x[..., :1], x[..., 1:]])
    np.testing.assert_allclose(output, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"spec": "resnet19"}, ValueError, "Unknown model 'resnet19'. Nearest: resnet1"),
        ({"spec": 18}, TypeError, "A net is a name or a ResNetSpec. Received: 18"),
        ({"classes": 0}, ValueError, "`classes` must be a positive integer. Received: classes=0"),
        ({"classes": 2.0}, ValueError, "Received: classes=2.0"),
        ({"classes": True}, ValueError, "Received: classes=True"),
        (
            {"include_top": False, "pooling": "mean"},
            ValueError,
            "`pooling` must be None, 'avg' or 'max'. Received: pooling='mean'",
        ),
        ({"pooling": "avg"}, ValueError, "`pooling` applies only without the top"),
        (
            {"input_shape": (8, 8)},
            ValueError,
            "`input_shape` must be (height, width, channels). Received: input_shape=(8, 8)",
        ),
        (
            {"input_shape": (8, 8, None)},
            ValueError,
            "The channels of `input_shape` (height, width, channels) must be a positive integer.",
        ),
        ({"input_shape": (8, 8, 0)}, ValueError, "Received: input_shape=(8, 8, 0)"),
        (
            {"input_shape": (1, 8, 3)},
            ValueError,
            "tiny needs inputs of at least 2 x 2, the product",
        ),
        (
            {"spec": "resnet50", "input_shape": (224, 31, 3)},
            ValueError,
            "resnet50 needs inputs of at least 32 x 32, the product of its strides. "
            "Received: input_shape=(224, 31, 3) as (height, width, channels)",
        ),
        (
            {"input_tensor": np.zeros((1, 8, 8, 3))},
            TypeError,
            "`input_tensor` must be a Keras tensor, such as `keras.Input(...)` returns. "
            "Received: ndarray",
        ),
        ({"classifier_activation": "sofmax"}, ValueError, "sofmax"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build(**({"spec": TINY} | arguments))


def test_refuses_an_input_tensor_of_another_shape():
    tensor = keras.Input((8, 8, 3))
    message = "`input_shape` must match `input_tensor`, (8, 8, 3), or be left out. Received: "
    with pytest.raises(ValueError, match=re.escape(message + "input_shape=(9, 8, 3)")):
        build(TINY, input_tensor=tensor, input_shape=(9, 8, 3))
    with pytest.raises(ValueError, match="tiny needs inputs of at least 2 x 2"):
        build(TINY, input_tensor=keras.Input((1, 1, 3)))


# Precision, layout, training.


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_ends_in_float32(policy, activation):
    keras.config.set_dtype_policy(policy)
    model = build(TINY.replace(shortcut="A"), seed=1, classifier_activation=activation)
    half = policy.removeprefix("mixed_")
    dtypes = {layer.name: layer.compute_dtype for layer in model.layers}
    assert dtypes.pop("predictions" if activation else "logits") == "float32"
    assert set(dtypes.values()) == {half}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    x = _images(2, 8, 8, 3)
    output = _run(model, x)
    assert output.dtype == np.float32
    keras.config.set_dtype_policy("float32")
    full = build(TINY.replace(shortcut="A"), seed=1, classifier_activation=activation)
    np.testing.assert_allclose(output, _run(full, x), atol=0.1)


@pytest.mark.parametrize(
    "spec",
    [
        TINY.replace(shortcut="A"),
        TINY.replace(branch="bottleneck", order="pre"),
        TINY.replace(stem="imagenet", input_size=16),
    ],
    ids=["option A", "pre", "imagenet stem"],
)
def test_channels_first(spec, randomize):
    size = spec.input_size
    last = build(spec)
    keras.config.set_image_data_format("channels_first")
    first = build(spec)
    assert first.input_shape == (None, 3, size, size)
    final = first.get_layer("pool").input.shape
    stride = spec.smallest_input
    assert final == (None, 8 * spec.expansion, size // stride, size // stride)
    if BACKEND == "tensorflow":
        return  # no channels-first convolutions on TensorFlow's CPU
    randomize(last, 1)
    randomize(first, 1)
    x = _images(2, size, size, 3)
    ours = _run(first, x.transpose(0, 3, 1, 2))
    keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(ours, _run(last, x), atol=1e-4)


def test_channels_first_names_its_shape():
    keras.config.set_image_data_format("channels_first")
    message = (
        "at least 2 x 2, the product of its strides. Received: input_shape=(3, 1, 8) as (chann"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build(TINY, input_shape=(3, 1, 8))


@pytest.mark.parametrize(
    "changes",
    [{"shortcut": "A", "zero_init_residual": True}, {"order": "pre", "branch": "bottleneck"}],
    ids=["post", "pre"],
)
def test_trains_under_fit(changes):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 96)
    images = rng.normal(0, 0.5, (96, 8, 8, 3)) + labels[:, None, None, None] - 1
    model = build(TINY.replace(**changes), seed=1)
    start = model.get_weights()
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=BACKEND == "jax",
    )
    history = model.fit(images, labels, batch_size=32, epochs=12, verbose=0, shuffle=False)
    losses = history.history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert history.history["accuracy"][-1] > 0.9
    moved = [not np.array_equal(a, b) for a, b in zip(start, model.get_weights(), strict=True)]
    assert all(moved), [w.path for w, m in zip(model.weights, moved, strict=True) if not m]
