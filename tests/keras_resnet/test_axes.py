"""Whole nets of the later axes: layer names, dilation, space axes, stochastic depth, seeds."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from keras_resnet import ResNet, ResNetSpec, build, plain_twin, variants
from keras_resnet.analysis import count
from keras_resnet.nets.layers import BlurPool, StochasticDepth

BACKEND = keras.backend.backend()
# What does no arithmetic need not be seen on each backend: JAX compiles every initial kernel.
on_one_backend = pytest.mark.skipif(BACKEND != "tensorflow", reason="the same on every backend")
TINY = ResNetSpec("tiny", (1, 2), (4, 8), stem="cifar", classes=3, input_size=8)


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def _run(model: keras.Model, x, **options):
    options = {"training": False} | options
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, **options))


# Names: weights depend on them.

# Two stages of a net, two units and one: what stands behind the stem and the stages.
NAMES = {
    "resnet50d": {
        "stem": "pad1 conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 act3 pool_pad pool",
        "stage1_unit1": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 shortcut_conv "
        "shortcut_norm merge out",
        "stage1_unit2": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 merge out",
        "stage2_unit1": "conv1 norm1 act1 pad2 conv2 norm2 act2 conv3 norm3 shortcut_pool "
        "shortcut_conv shortcut_norm merge out",
        "": "pool logits",
    },
    "resnet18vd": {
        "stem": "pad1 conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 act3 pool_pad pool",
        "stage1_unit1": "conv1 norm1 act1 conv2 norm2 shortcut_conv shortcut_norm merge out",
        "stage1_unit2": "conv1 norm1 act1 conv2 norm2 merge out",
        "stage2_unit1": "pad1 conv1 norm1 act1 conv2 norm2 shortcut_pool shortcut_conv "
        "shortcut_norm merge out",
        "": "pool logits",
    },
    "resnetrs200": {
        "stem": "pad1 conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 act3 pool_pad pool_conv "
        "pool_norm pool_act",
        "stage1_unit1": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 se_pool se_fc1 se_fc2 "
        "se_scale drop shortcut_conv shortcut_norm merge out",
        "stage1_unit2": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 se_pool se_fc1 se_fc2 "
        "se_scale drop merge out",
        "stage2_unit1": "conv1 norm1 act1 pad2 conv2 norm2 act2 conv3 norm3 se_pool se_fc1 se_fc2 "
        "se_scale drop shortcut_pool shortcut_conv shortcut_norm merge out",
        "": "pool logits",
    },
    "resnet18_blur": {
        "stem": "pad conv norm act pool pool_blur",
        "stage1_unit1": "conv1 norm1 act1 conv2 norm2 merge out",
        "stage1_unit2": "conv1 norm1 act1 conv2 norm2 merge out",
        "stage2_unit1": "conv1 norm1 act1 blur conv2 norm2 shortcut_blur shortcut_conv "
        "shortcut_norm merge out",
        "": "pool logits",
    },
    "resnetaa50": {
        "stem": "pad conv norm act pool",
        "stage1_unit1": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 shortcut_conv "
        "shortcut_norm merge out",
        "stage1_unit2": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 merge out",
        "stage2_unit1": "conv1 norm1 act1 conv2 norm2 act2 blur conv3 norm3 shortcut_conv "
        "shortcut_norm merge out",
        "": "pool logits",
    },
    "ecaresnet26t": {
        "stem": "pad1 conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 act3 pool_pad pool",
        "stage1_unit1": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 se_pool se_channels "
        "se_conv se_gate se_scale shortcut_conv shortcut_norm merge out",
        "stage1_unit2": "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 se_pool se_channels "
        "se_conv se_gate se_scale merge out",
        "stage2_unit1": "conv1 norm1 act1 pad2 conv2 norm2 act2 conv3 norm3 se_pool se_channels "
        "se_conv se_gate se_scale shortcut_pool shortcut_conv shortcut_norm merge out",
        "": "pool logits",
    },
    "repvgg_a0": {
        "stem": "pad1 conv1 norm1 conv2 norm2 sum out",
        "stage1_unit1": "pad1 conv1 norm1 conv2 norm2 sum out",
        "stage1_unit2": "conv1 norm1 conv2 norm2 sum shortcut_norm merge out",
        "stage2_unit1": "pad1 conv1 norm1 conv2 norm2 sum out",
        "": "pool logits",
    },
    "keras_resnet50v2": {
        "stem": "pad conv pool_pad pool",
        "stage1_unit1": "norm1 act1 conv1 norm2 act2 conv2 norm3 act3 conv3 shortcut_conv merge",
        "stage1_unit2": "norm1 act1 conv1 norm2 act2 pad2 conv2 norm3 act3 conv3 shortcut_pool "
        "merge",
        "stage2_unit1": "norm1 act1 conv1 norm2 act2 conv2 norm3 act3 conv3 shortcut_conv merge",
        "": "final_norm final_act pool logits",
    },
    "cifar_wrn16_8": {
        "stem": "conv",
        "stage1_unit1": "norm1 act1 conv1 norm2 act2 conv2 shortcut_conv merge",
        "stage1_unit2": "norm1 act1 conv1 norm2 act2 conv2 merge",
        "stage2_unit1": "norm1 act1 pad1 conv1 norm2 act2 conv2 shortcut_conv merge",
        "": "final_norm final_act pool logits",
    },
    "cifar_fixup20": {
        "stem": "conv bias act",
        "stage1_unit1": "bias1a conv1 bias1b act1 bias2a conv2 scale bias2b merge out",
        "stage1_unit2": "bias1a conv1 bias1b act1 bias2a conv2 scale bias2b merge out",
        "stage2_unit1": "bias1a pad1 conv1 bias1b act1 bias2a conv2 scale bias2b shortcut_pad "
        "merge out",
        "": "pool logits_bias logits",
    },
    "cifar_highway20": {
        "stem": "conv norm act",
        "stage1_unit1": "conv1 norm1 act1 conv2 norm2 gate_conv merge out",
        "stage1_unit2": "conv1 norm1 act1 conv2 norm2 gate_conv merge out",
        "stage2_unit1": "pad1 conv1 norm1 act1 conv2 norm2 shortcut_pad gate_conv merge out",
        "": "pool logits",
    },
    "cifar_skipinit20": {
        "stem": "conv act",
        "stage1_unit1": "conv1 act2 conv2 scale merge",
        "stage1_unit2": "act1 conv1 act2 conv2 scale merge",
        "stage2_unit1": "act1 pad1 conv1 act2 conv2 shortcut_pad scale merge",
        "": "final_act pool logits",
    },
}


@on_one_backend
@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    spec = variants[name]
    spec = spec.replace(
        depths=(2, 1),
        widths=tuple(width // 8 for width in spec.widths[:2]),
        stem_width=spec.stem_width and spec.stem_width // 8,
    )
    wanted = {
        f"{part}_{end}".strip("_") for part, ends in NAMES[name].items() for end in ends.split()
    } | {f"{spec.name}_images"}
    names = [layer.name for layer in build(spec, input_shape=(32, 32, 3)).layers]
    assert len(names) == len(set(names))
    assert set(names) == wanted


@on_one_backend
def test_a_stage_of_one_unit_that_strides_last_projects_with_its_stride():
    spec = TINY.replace(depths=(1, 1), order="pre", stride_unit="last", branch="bottleneck")
    model = build(spec)
    assert model.get_layer("stage1_unit1_shortcut_conv").strides == (2, 2)
    assert model.get_layer("stage1_unit1_conv2").strides == (2, 2)
    assert model.get_layer("stage2_unit1_conv2").strides == (1, 1)
    assert "stage1_unit1_shortcut_pool" not in [layer.name for layer in model.layers]


@on_one_backend
def test_every_subsampling_of_a_blurred_net_is_filtered():
    """Zhang 2019, section 3.2: convolutions, max pool and shortcuts; not the stem's 7x7."""
    spec = variants["resnet50_blur"].replace(depths=(2, 1), widths=(8, 16))
    model = build(spec, input_shape=(32, 32, 3))
    strided = [
        layer.name for layer in model.layers if getattr(layer, "strides", (1, 1)) not in ((1, 1), 1)
    ]
    assert strided == ["stem_conv"]
    blurs = {layer.name: layer.stride for layer in model.layers if isinstance(layer, BlurPool)}
    assert blurs == {"stem_pool_blur": 2, "stage2_unit1_blur": 2, "stage2_unit1_shortcut_blur": 2}


# Dilation in place of stride.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"branch": "bottleneck", "order": "pre"},
        {"branch": "bottleneck", "stride_placement": "1x1", "shortcut": "C"},
        {"branch": "repvgg"},
        {"merge": "highway"},
    ],
    ids=["basic", "pre", "1x1", "repvgg", "highway"],
)
@pytest.mark.parametrize("size", [16, 15])
def test_a_dilated_net_holds_the_strided_one(changes, size, randomize):
    """Atrous convolution computes what the strided net does, at every position in between too."""
    spec = TINY.replace(depths=(1, 2, 2), widths=(4, 8, 12), **changes)
    shape = (size, size, 3)
    strided = build(spec, input_shape=shape, include_top=False)
    dilated = build(spec.replace(max_stride=1), input_shape=shape, include_top=False)
    randomize(strided, 5)
    for layer in strided.layers:
        if layer.weights:
            dilated.get_layer(layer.name).set_weights(layer.get_weights())
    x = _images(2, *shape)
    wanted, output = _run(strided, x), _run(dilated, x)
    assert wanted.shape[1:3] == (4, 4)
    assert output.shape[1:3] == (size, size)
    assert wanted.std() > 0.05
    np.testing.assert_allclose(output[:, ::4, ::4], wanted, atol=1e-5)


@on_one_backend
@pytest.mark.parametrize(("limit", "sizes"), [(8, [16, 8, 8, 8]), (16, [16, 8, 4, 4])])
def test_sizes_of_dilated_imagenet_nets(limit, sizes):
    spec = variants["resnet50"].replace(depths=(1, 2, 2, 1), widths=(4, 4, 4, 4), max_stride=limit)
    model = build(spec, input_shape=(64, 64, 3), features=True)
    assert [tensor.shape[1] for tensor in model.output.values()] == sizes
    assert spec.output_stride == limit
    dilated = {
        layer.name: layer.dilation_rate[0]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.dilation_rate != (1, 1)
    }
    # The stride stands in the 1x1: the first 3x3 behind it is dilated too.
    wanted = {"stage4_unit1_conv2": 2}
    if limit == 8:
        wanted = {"stage3_unit1_conv2": 2, "stage3_unit2_conv2": 2, "stage4_unit1_conv2": 4}
    assert dilated == wanted
    late = build(spec.replace(stride_placement="3x3"), input_shape=(64, 64, 3))
    assert late.get_layer("stage4_unit1_conv2").dilation_rate == ((2, 2) if limit == 8 else (1, 1))


# One and three space axes.


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"shortcut": "A"},
        {"shortcut": "D", "stem": "deep", "branch": "bottleneck"},
        {"order": "pre", "stem": "imagenet", "se_reduction": 4},
        {"stem": "imagenet", "order": "pre", "stem_activation": False, "shortcut": "C"},
        {"branch": "repvgg", "stem": "unit"},
        {"merge": "highway", "norm": "none", "conv_bias": True},
        {"norm": "fixup", "max_stride": 1},
        {"stem": "tiered", "widths": (8, 16), "stem_pool": "avg"},
        {"blur": 3, "stem": "imagenet"},
        {"order": "pre", "stride_unit": "last", "stochastic_depth": 0.5},
        {"order": "relu_before_add", "merge": "shortcut_gate"},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_another_space_axis_is_the_same_net(dims, changes, randomize):
    """Kernels that see the middle of a further axis alone, along which the input is constant."""
    if dims == 2 and "blur" in changes:
        pytest.skip("there is no blur of volumes")
    spec = TINY.replace(**changes)
    size = max(5, spec.smallest_input + 1)
    low = build(spec, dims=dims, input_shape=(size,) * dims + (3,))
    high = build(spec, dims=dims + 1, input_shape=(size,) * (dims + 1) + (3,))
    assert low.get_layer("stage1_unit1_conv1").kernel.ndim == dims + 2
    assert [layer.name for layer in low.layers] == [layer.name for layer in high.layers]
    randomize(low, 2)
    for layer in low.layers:
        weights = layer.get_weights()
        if isinstance(layer, StochasticDepth):
            continue
        for index, weight in enumerate(weights):
            if weight.ndim == dims + 2:
                wider = np.zeros((weight.shape[0], *weight.shape))
                wider[weight.shape[0] // 2] = weight
                weights[index] = wider
        high.get_layer(layer.name).set_weights(weights)
    x = _images(2, *(size,) * dims, 3)
    wanted = _run(low, x)
    assert wanted.shape == (2, 3)
    assert wanted.std() > 0.05
    output = _run(high, np.repeat(x[:, None], size, axis=1))
    np.testing.assert_allclose(output, wanted, atol=1e-4)


@pytest.mark.parametrize("dims", [1, 3])
def test_heads_and_sizes_of_signals_and_volumes(dims):
    def net(**options) -> ResNet:
        return build(TINY.replace(input_size=6), dims=dims, **options)

    assert net().input_shape == (None, *(6,) * dims, 3)
    assert net(include_top=False).output_shape == (None, *(3,) * dims, 8)
    assert net(include_top=False, pooling="max").output_shape == (None, 8)
    assert net(include_top=False, pooling="avg").output_shape == (None, 8)
    free = net(input_shape=(None,) * dims + (2,), features=["C3"])
    assert free.output["C3"].shape == (None, *(None,) * dims, 8)
    output = _run(free, _images(2, *(5,) * dims, 2))
    assert output["C3"].shape == (2, *(3,) * dims, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": 4}, "`dims` must be 1, 2 or 3. Received: dims=4"),
        ({"dims": 0}, "`dims` must be 1, 2 or 3. Received: dims=0"),
        (
            {"dims": 1, "input_shape": (8, 8, 3)},
            "`input_shape` must be (steps, channels). Received: input_shape=(8, 8, 3)",
        ),
        (
            {"dims": 3, "input_shape": (8, 8, 3)},
            "`input_shape` must be (depth, height, width, channels).",
        ),
        (
            {"dims": 1, "input_shape": (1, 3)},
            "tiny needs inputs of at least 2, the product of its strides. "
            "Received: input_shape=(1, 3) as (steps, channels)",
        ),
        (
            {"dims": 3, "input_shape": (8, 1, 8, 3)},
            "tiny needs inputs of at least 2 x 2 x 2, the product of its strides.",
        ),
        (
            {"dims": 3, "spec": TINY.replace(blur=3)},
            "BlurPool takes signals and images, one or two space axes.",
        ),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**({"spec": TINY} | arguments))


@pytest.mark.parametrize("dims", [1, 3])
def test_channels_first_signals_and_volumes(dims):
    keras.config.set_image_data_format("channels_first")
    model = build(TINY.replace(shortcut="A", input_size=6), dims=dims, include_top=False)
    assert model.input_shape == (None, 3, *(6,) * dims)
    assert model.output_shape == (None, 8, *(3,) * dims)


def test_a_signal_net_survives_saving(tmp_path, randomize):
    spec = TINY.replace(shortcut="C", blur=5, stem="imagenet")
    model = build(spec, dims=1, input_shape=(40, 2))
    randomize(model, 1)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert loaded.spec == spec
    x = _images(2, 40, 2)
    np.testing.assert_array_equal(_run(loaded, x), _run(model, x))


# Stochastic depth.

DROPPING = TINY.replace(depths=(2, 2), stochastic_depth=0.5)


def test_the_last_unit_drops_most():
    drops = {
        layer.name: layer.rate
        for layer in build(DROPPING).layers
        if isinstance(layer, StochasticDepth)
    }
    assert drops == pytest.approx(
        {
            "stage1_unit1_drop": 0.125,
            "stage1_unit2_drop": 0.25,
            "stage2_unit1_drop": 0.375,
            "stage2_unit2_drop": 0.5,
        }
    )
    assert not any(isinstance(layer, StochasticDepth) for layer in build(TINY).layers)


def test_a_dropped_unit_is_its_shortcut():
    model = build(DROPPING, seed=1)
    ends = [f"stage2_unit2_{end}" for end in ("norm2", "drop", "merge")]
    before = model.get_layer("stage2_unit1_out").output
    parts = keras.Model(model.input, [before, *(model.get_layer(end).output for end in ends)])
    carried, added, dropped, merged = _run(parts, _images(64, 8, 8, 3), training=True)
    gone = ~dropped.reshape(64, -1).any(1)
    assert 16 < gone.sum() < 48
    np.testing.assert_array_equal(merged[gone], carried[gone])
    np.testing.assert_allclose(dropped[~gone], 2 * added[~gone], rtol=1e-6)


def test_stochastic_depth_trains_and_survives_saving(tmp_path):
    model = build(DROPPING, seed=1)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=BACKEND == "jax",
    )
    x, y = _images(32, 8, 8, 3), np.arange(32) % 3
    start = model.get_weights()
    history = model.fit(x, y, batch_size=16, epochs=1, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"][0])
    moved = [not np.array_equal(a, b) for a, b in zip(start, model.get_weights(), strict=True)]
    assert all(moved), [w.path for w, m in zip(model.weights, moved, strict=True) if not m]
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert loaded.spec == DROPPING
    np.testing.assert_array_equal(_run(loaded, x), _run(model, x))
    assert loaded.get_layer("stage2_unit2_drop").rate == 0.5


def test_inference_is_that_of_the_net_without_drops():
    model, other = build(DROPPING, seed=1), build(DROPPING.replace(stochastic_depth=0.0), seed=1)
    x = _images(2, 8, 8, 3)
    np.testing.assert_array_equal(_run(model, x), _run(other, x))


def test_drops_are_a_function_of_the_seed():
    x = _images(16, 8, 8, 3)
    one, again, other = (_run(build(DROPPING, seed=s), x, training=True) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


# Seeds.


@pytest.mark.parametrize(
    "name",
    ["resnetrs50", "repvgg_a0", "cifar_fixup8", "cifar_highway8", "cifar_delta_orthogonal8"],
)
def test_equal_seeds_give_equal_nets(name):
    spec = variants[name]
    spec = spec.replace(
        depths=(1, 1),
        widths=tuple(width // 8 for width in spec.widths[:2]),
        stem_width=spec.stem_width and 8,
    )

    def kernels(seed: int) -> dict[str, np.ndarray]:
        model = build(spec, input_shape=(32, 32, 3), seed=seed)
        return {
            weight.path: keras.ops.convert_to_numpy(weight)
            for weight in model.weights
            if weight.ndim > 1
        }

    one, again, other = kernels(1), kernels(1), kernels(2)
    drawn = [path for path, kernel in one.items() if kernel.any()]  # Fixup has zeros
    assert len(drawn) >= 3
    for path in one:
        np.testing.assert_array_equal(one[path], again[path])
    assert not [path for path in drawn if np.allclose(one[path], other[path])]


@pytest.mark.parametrize(
    "changes",
    [
        {"shortcut": "D", "stem": "deep", "se_reduction": 4},
        {"merge": "rezero"},
        {"merge": "highway"},
        {"merge": "skipinit", "norm": "none", "order": "pre", "conv_bias": True},
        {"blur": 3, "branch": "bottleneck", "groups": 2},
        {"init": "delta_orthogonal", "stochastic_depth": 0.5},
        {"order": "norm_after_add", "shortcut_scale": 0.5, "shortcut_dropout": 0.5},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_plain_twins_start_from_equal_weights(changes):
    spec = TINY.replace(**changes)
    residual = build(spec, input_shape=(16, 16, 3), seed=7)
    plain = build(plain_twin(spec), input_shape=(16, 16, 3), seed=7)
    weighted = {layer.name: layer for layer in residual.layers if layer.weights}
    extra = ("shortcut", "scale", "gate", "drop")
    wanted = {name for name in weighted if not any(part in name for part in extra)}
    assert {layer.name for layer in plain.layers if layer.weights} == wanted
    for name in wanted:
        theirs = plain.get_layer(name).get_weights()
        for one, other in zip(weighted[name].get_weights(), theirs, strict=True):
            np.testing.assert_array_equal(one, other)


@on_one_backend
def test_counts_of_a_grouped_net_by_hand():
    spec = TINY.replace(depths=(1,), widths=(64,), branch="bottleneck", groups=4, base_width=2)
    counts = count(build(spec, input_shape=(4, 4, 3)))
    kernels = [27 * 64, 64 * 8, 9 * 2 * 8, 8 * 256, 64 * 256]
    assert counts.multiply_adds == 16 * sum(kernels) + 256 * 3
    assert counts.parameters == sum(kernels) + 2 * (64 + 8 + 8 + 256 + 256) + 257 * 3
