"""Batch-norm folding: the same function with fewer layers, on any graph."""

import inspect
import sys

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.nets.layers import BlurPool, GatedSum, Scalar, StochasticDepth
from keras_resnet.nets.model import ResNet, deep_graph
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.reparam import fold_batch_norm

SMALL = ResNetSpec("small", (2, 2), (4, 8), stem="cifar", classes=5, input_size=12)


def randomize(model, seed=0):
    """Random weights and statistics everywhere, so that every mistake has an effect."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            randomize(layer, seed + 1)
        elif isinstance(layer, keras.layers.BatchNormalization):
            values = []
            for weight in layer.weights:
                positive = "gamma" in weight.path or "variance" in weight.path
                low, high = (0.5, 2.0) if positive else (-0.5, 0.5)
                values.append(rng.uniform(low, high, tuple(weight.shape)))
            layer.set_weights(values)
        elif layer.weights:
            layer.set_weights(
                [
                    rng.normal(0, 1 / np.sqrt(max(1, w[..., 0].size)), w.shape)
                    if w.ndim > 1
                    else rng.normal(0, 0.3, w.shape)
                    for w in layer.get_weights()
                ]
            )
    return model


def norms(model):
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            found.append(layer.name)
    return found


def run(model, size=12, channels=3):
    x = np.random.default_rng(7).normal(0, 1, (2, size, size, channels)).astype("float32")
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def assert_same(model, folded, **shape):
    for ours, theirs in zip(
        keras.tree.flatten(run(folded, **shape)),
        keras.tree.flatten(run(model, **shape)),
        strict=True,
    ):
        assert np.abs(theirs).max() > 1e-2
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


PRE_NORMS = ["stage1_unit2_norm1", "stage2_unit1_norm1", "stage2_unit2_norm1", "final_norm"]
# The norms that stay read a merge, a pool or a sum.
FAMILIES = {
    "post": (SMALL, []),
    "plain": (SMALL.replace(merge="none", conv_bias=True), []),
    "same": (SMALL.replace(padding="same", shortcut_norm=False, norm_eps=1e-3), []),
    "imagenet": (SMALL.replace(stem="imagenet", shortcut="C", blur=3, input_size=32), []),
    "rs": (
        SMALL.replace(stem="deep", shortcut="D", stem_pool="conv", se_reduction=4, input_size=17),
        [],
    ),
    "vd": (SMALL.replace(shortcut="D", stage_projection=True, stochastic_depth=0.5), []),
    "blur bottleneck": (SMALL.replace(branch="bottleneck", blur=3, input_size=17), []),
    "rezero": (SMALL.replace(merge="rezero"), []),
    "highway": (SMALL.replace(merge="highway", shortcut="A"), []),
    "resnext": (
        SMALL.replace(branch="bottleneck", groups=4, base_width=32, stride_placement="1x1"),
        [],
    ),
    "dilated": (SMALL.replace(depths=(2, 2, 2), widths=(4, 8, 8), max_stride=2), []),
    "no norms": (
        SMALL.replace(merge="none", norm="none", conv_bias=True, init="delta_orthogonal"),
        [],
    ),
    # The first unit has no norm1: the stem's norm comes before it.
    "pre": (SMALL.replace(order="pre"), PRE_NORMS),
    "pre skipinit": (SMALL.replace(merge="skipinit", order="pre", shortcut="A"), PRE_NORMS),
    # Without merges each norm1 reads the convolution before it alone.
    "pre plain": (SMALL.replace(order="pre", merge="none"), []),
    "wrn": (
        SMALL.replace(order="pre", stem_width=4, widths=(8, 12), stem_activation=False),
        PRE_NORMS,
    ),
    # The norm after the stem's pool does not commute with it.
    "keras v2": (
        SMALL.replace(
            branch="bottleneck",
            order="pre",
            stride_unit="last",
            stem="imagenet",
            stem_pool="max_zero",
            stem_activation=False,
            conv_bias="unnormed",
            input_size=33,
        ),
        ["stage1_unit1_norm1", *PRE_NORMS],
    ),
    "repvgg": (
        SMALL.replace(branch="repvgg", stem="unit", input_size=17),
        ["stage1_unit1_shortcut_norm", "stage1_unit2_shortcut_norm", "stage2_unit2_shortcut_norm"],
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    spec, stay = FAMILIES[name]
    model = randomize(keras_resnet.build(spec, seed=0))
    folded = fold_batch_norm(model)
    assert norms(folded) == stay
    assert isinstance(folded, ResNet)
    assert_same(model, folded, size=spec.input_size)
    left = {layer.name for layer in model.layers} - (set(norms(model)) - set(stay))
    assert {layer.name for layer in folded.layers} == left


def test_features_stay_a_dict():
    spec = SMALL.replace(order="pre")
    model = randomize(keras_resnet.build(spec, features=("C3", "C2"), seed=0))
    model.preprocess = keras_resnet.PreprocessSpec((12, 12), (1.0,), (2.0,))
    folded = fold_batch_norm(model)
    x = np.ones((1, 12, 12, 3), "float32")
    assert set(folded.output) == set(folded(x)) == {"C2", "C3"}
    assert isinstance(folded, ResNet)
    assert folded.preprocess == model.preprocess
    with pytest.raises(ValueError, match="has no ResNetSpec"):
        folded.spec  # noqa: B018
    for level in ("C2", "C3"):
        assert_same(
            keras.Model(model.input, model.output[level]),
            keras.Model(folded.input, folded.output[level]),
        )


# Each pair of number of axes, groups and options. Twelve outputs: two in each of six groups, so
# that a wrong order would show.
@pytest.mark.parametrize(
    ("dims", "groups", "options"),
    [
        (1, 1, {}),
        (1, 2, {"dilation_rate": 2}),
        (1, 6, {"strides": 2, "use_bias": False}),
        (2, 1, {"dilation_rate": 2}),
        (2, 2, {"strides": 2, "use_bias": False}),
        (2, 6, {}),
        (3, 1, {"strides": 2, "use_bias": False}),
        (3, 2, {}),
        (3, 6, {"dilation_rate": 2}),
    ],
)
def test_grouped_and_dilated_convolutions_of_all_ranks(dims, groups, options):
    inputs = keras.Input((9,) * dims + (6,))
    conv = getattr(keras.layers, f"Conv{dims}D")
    x = conv(12, 3, groups=groups, padding="same", name="conv", **options)(inputs)
    model = randomize(keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x)))
    folded = fold_batch_norm(model)
    assert norms(folded) == []
    x = np.random.default_rng(5).normal(size=(2, *(9,) * dims, 6)).astype("float32")
    ours, theirs = (keras.ops.convert_to_numpy(net(x, training=False)) for net in (folded, model))
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_a_causal_convolution():
    inputs = keras.Input((9, 3))
    x = keras.layers.Conv1D(4, 3, padding="causal", name="conv")(inputs)
    model = randomize(keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x)))
    folded = fold_batch_norm(model)
    assert norms(folded) == []
    x = np.random.default_rng(5).normal(size=(2, 9, 3)).astype("float32")
    ours, theirs = (keras.ops.convert_to_numpy(net(x, training=False)) for net in (folded, model))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 3])
def test_nets_of_signals_and_volumes(dims):
    spec = SMALL.replace(branch="bottleneck", groups=4, base_width=32)
    shape = (8,) * dims + (2,)
    model = randomize(keras_resnet.build(spec, dims=dims, input_shape=shape, seed=0))
    folded = fold_batch_norm(model)
    assert norms(folded) == []
    x = np.random.default_rng(5).normal(size=(2, *shape)).astype("float32")
    ours, theirs = (keras.ops.convert_to_numpy(net(x, training=False)) for net in (folded, model))
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("between", ["scalar", "drop", "blur", "pad", "gate"])
def test_nothing_is_folded_across_a_custom_layer(between):
    inputs = keras.Input((12, 12, 3))
    conv = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    layer = {
        "scalar": Scalar("add", 0.7),
        "drop": StochasticDepth(0.5),
        "blur": BlurPool(3, 2),
        "pad": keras_resnet.PadChannels(6),
        "gate": GatedSum(),
    }[between]
    x = layer([conv, inputs[:, 1:-1, 1:-1, :1] * conv, conv] if between == "gate" else conv)
    model = randomize(keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x)))
    folded = fold_batch_norm(model)
    assert norms(folded) == ["norm"]
    assert_same(model, folded)


def test_the_model_is_not_changed():
    model = randomize(keras_resnet.build(SMALL, seed=0))
    before = [value.copy() for value in model.get_weights()]
    names = [layer.name for layer in model.layers]
    folded = fold_batch_norm(model)
    again = fold_batch_norm(folded)
    for old, new in zip(folded.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    folded.set_weights([value * 0 for value in folded.get_weights()])
    assert [layer.name for layer in model.layers] == names
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.get_layer("stem_conv").output  # noqa: B018  # fails if a second call was recorded

    model.compile("sgd", "mse")
    folded = fold_batch_norm(model)
    assert model.compiled
    assert not folded.compiled
    assert isinstance(folded, ResNet)
    assert_same(model, folded)


def test_cut_and_extended_with_operators_and_several_outputs():
    model = keras_resnet.build(SMALL, seed=0)
    x = model.get_layer("stage2_unit1_out").output
    x = keras.ops.relu(x * 0.5 + 1.0)
    x = keras.layers.Conv2D(6, 3, groups=2, name="new_conv")(x)
    x = keras.layers.BatchNormalization(name="new_norm")(x)
    features = keras.layers.Activation("relu", name="features")(x)
    pooled = keras.layers.GlobalAveragePooling2D(name="new_pool")(features)
    rewired = randomize(keras.Model(model.input, {"map": features, "pooled": pooled}))
    folded = fold_batch_norm(rewired)
    assert norms(folded) == []
    assert set(folded.output) == {"map", "pooled"}
    assert_same(rewired, folded)


def test_nested_models():
    backbone = keras_resnet.build(SMALL, include_top=False, seed=0)
    head = keras.Sequential(
        [
            keras.Input((6, 6, 8)),
            keras.layers.Conv2D(4, 1, name="head_conv"),
            keras.layers.BatchNormalization(name="head_norm"),
            keras.layers.Flatten(name="flat"),
        ],
        name="head",
    )
    inputs = keras.Input((12, 12, 3))
    model = randomize(keras.Model(inputs, head(backbone(inputs))))
    # The backbone has a second call now, on which `layer.output` of a Keras model would fail.
    folded = fold_batch_norm(model)
    assert norms(folded) == []
    assert_same(model, folded)


def graph(name):
    """A graph whose one norm must stay."""
    inputs = keras.Input((12, 12, 3))
    conv = keras.layers.Conv2D(4, 3, name="conv", activation="relu" if name == "relu" else None)
    norm = keras.layers.BatchNormalization(axis=1 if name == "axis" else -1, name="norm")
    x = conv(inputs)
    outputs = norm(x, training=True) if name == "training" else norm(x)
    if name == "read twice":
        outputs = keras.layers.Add()([outputs, x])
    elif name == "returned":
        outputs = [outputs, x]
    elif name == "called twice":
        outputs = keras.layers.Add()([outputs, conv(keras.layers.ReLU()(inputs))])
    elif name == "norm twice":
        outputs = norm(outputs)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    "name", ["relu", "axis", "training", "read twice", "returned", "called twice", "norm twice"]
)
def test_norms_that_stay(name):
    model = randomize(graph(name))
    folded = fold_batch_norm(model)
    assert norms(folded) == ["norm"]
    assert_same(model, folded)


def test_a_subclassed_convolution_stays():
    class Doubled(keras.layers.Conv2D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    inputs = keras.Input((12, 12, 3))
    x = keras.layers.BatchNormalization(name="norm")(Doubled(4, 3, name="conv")(inputs))
    model = randomize(keras.Model(inputs, x))
    folded = fold_batch_norm(model)
    assert norms(folded) == ["norm"]
    assert_same(model, folded)


@pytest.mark.parametrize(("scale", "center"), [(False, True), (True, False)])
def test_norms_without_gamma_or_beta(scale, center):
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(scale=scale, center=center, name="norm")(x)
    model = randomize(keras.Model(inputs, x))
    folded = fold_batch_norm(model)
    assert norms(folded) == []
    assert_same(model, folded)


def test_a_sequential_model():
    model = keras.Sequential(
        [keras.Input((12, 12, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    )
    folded = fold_batch_norm(randomize(model))
    assert norms(folded) == []
    assert_same(model, folded)


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(TypeError, match="functional and sequential models"):
        fold_batch_norm(Subclassed())


def test_graphs_deeper_than_the_recursion_limit():
    before = sys.getrecursionlimit()
    limit = len(inspect.stack(0)) + 300  # fewer layers than the usual 1,000 build sooner
    sys.setrecursionlimit(limit)
    try:
        inputs = x = keras.Input((4, 4, 3))
        for _ in range(limit + 100):
            x = keras.layers.ReLU()(x)
        x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(2, 3)(x))
        with pytest.raises(RecursionError, match="maximum recursion depth exceeded"):
            keras.Model(inputs, x)
        with deep_graph():
            model = randomize(keras.Model(inputs, x))
        folded = fold_batch_norm(model)
        assert sys.getrecursionlimit() == limit
    finally:
        sys.setrecursionlimit(before)
    assert norms(folded) == []
    assert len(folded.layers) == limit + 102
