"""A net whose activations are computed again: the same function, run with less memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_resnet import Rematerialized, ResNetSpec, build
from keras_resnet.analysis.autodiff import gradients

TINY = ResNetSpec(
    "tiny", depths=(2, 2), widths=(4, 8), stem="cifar", input_size=8, input_channels=1, classes=3
)
LABELS = np.arange(6) % 3
# TensorFlow runs them all; the other backends differ only in the form of the graph.
NETS = [
    ({"order": "pre", "se_reduction": 2, "stochastic_depth": 0.6}, "unit"),
    ({"order": "norm_after_add", "branch": "bottleneck", "shortcut_dropout": 0.5}, "stage"),
    ({"norm": "fixup", "shortcut": "A"}, "unit"),
    ({"merge": "highway", "stem": "deep", "input_size": 32}, "stage"),
    ({"branch": "repvgg", "stem": "unit", "first_stride": 2, "input_size": 16}, "unit"),
    ({"stride_unit": "last", "order": "pre", "stem": "imagenet", "input_size": 32}, "stage"),
]


def _images(spec, seed=0):
    shape = (len(LABELS), spec.input_size, spec.input_size, spec.input_channels)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _derivatives(run, model, images):
    """Loss, and gradients with respect to the images and the trainable variables."""

    def loss(inputs):
        logits = ops.cast(run(inputs[0], training=True), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(LABELS, logits, from_logits=True)
        return ops.mean(losses)

    return gradients(loss, [images], model.trainable_variables)


def _state(model):
    # Seed generators are no weights.
    return [np.asarray(ops.convert_to_numpy(v.value)) for v in model.non_trainable_variables]


def _same(found, expected, **tolerances):
    assert len(found) == len(expected)
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, **tolerances)


@pytest.mark.parametrize(
    ("changes", "grain"),
    NETS if keras.backend.backend() == "tensorflow" else NETS[:3],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_outputs_gradients_and_state_are_the_nets(changes, grain, randomize):
    spec = TINY.replace(**changes)
    model, twin = build(spec, seed=3), build(spec, seed=3)
    randomize(model, 7)
    twin.set_weights(model.get_weights())
    run = Rematerialized(twin, grain)
    images = _images(spec)
    # What is drawn at random is drawn again alike, or the gradients would be others'.
    value, (at_images,), at_weights = _derivatives(run, twin, images)
    expected, (want_images,), want_weights = _derivatives(model, model, images)
    assert value == pytest.approx(expected, rel=1e-5)
    largest = max(float(np.abs(gradient).max()) for gradient in want_weights)
    assert largest > 1e-3
    _same([at_images, *at_weights], [want_images, *want_weights], rtol=1e-3, atol=1e-5 * largest)
    before = _state(twin)
    for seed in (1, 2):  # the second call draws anew
        images = _images(spec, seed)
        outputs = ops.convert_to_numpy(ops.stop_gradient(run(images, training=True)))
        wanted = ops.convert_to_numpy(ops.stop_gradient(model(images, training=True)))
        np.testing.assert_allclose(outputs, wanted, rtol=1e-4, atol=1e-5)
    _same(_state(twin), _state(model), rtol=1e-5, atol=1e-6)
    assert not before or any((a != b).any() for a, b in zip(before, _state(twin), strict=True))
    wanted = ops.convert_to_numpy(ops.stop_gradient(model(images, training=False)))
    outputs = ops.convert_to_numpy(ops.stop_gradient(run(images, training=False)))
    np.testing.assert_allclose(outputs, wanted, rtol=1e-4, atol=1e-5)


def test_the_net_and_its_files_stay_as_they_are(tmp_path):
    model = build(TINY, seed=0)
    before = json.dumps(model.get_config(), default=str), [w.path for w in model.weights]
    images = _images(TINY)
    wanted = ops.convert_to_numpy(ops.stop_gradient(model(images)))
    for grain in ("unit", "stage"):
        Rematerialized(model, grain)(images)
    after = json.dumps(model.get_config(), default=str), [w.path for w in model.weights]
    assert after == before
    model = build(TINY, seed=0)
    Rematerialized(model)
    model.save(tmp_path / "net.keras")
    model.save_weights(tmp_path / "net.weights.h5")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    other = build(TINY, seed=1)
    other.load_weights(tmp_path / "net.weights.h5")
    for net in (loaded, other, keras.models.clone_model(model)):
        net.set_weights(model.get_weights())
        found = ops.convert_to_numpy(ops.stop_gradient(net(images)))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_frozen_layers_stay_frozen(randomize):
    model, twin = build(TINY, seed=0), build(TINY, seed=0)
    randomize(model, 5)
    twin.set_weights(model.get_weights())
    run = Rematerialized(twin, "unit")
    for net in (model, twin):  # after the cut: what is trained is asked at each call
        for layer in net.layers:
            layer.trainable = not layer.name.startswith(("stem", "stage1"))
    before = twin.get_weights()
    value, _, found = _derivatives(run, twin, _images(TINY))
    wanted_value, _, wanted = _derivatives(model, model, _images(TINY))
    assert value == pytest.approx(wanted_value, rel=1e-5)
    _same(found, wanted, rtol=1e-3, atol=1e-5)
    run(_images(TINY), training=True)
    moved = {
        weight.path.split("/")[-2]
        for weight, old in zip(twin.weights, before, strict=True)
        if (ops.convert_to_numpy(weight.value) != old).any()
    }
    assert moved
    assert all(name.startswith("stage2") for name in moved)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    spec = TINY.replace(stochastic_depth=0.5)
    model, twin = build(spec, seed=0), build(spec, seed=0)
    run = Rematerialized(twin, "unit")
    value, _, found = _derivatives(run, twin, _images(spec))
    expected, _, wanted = _derivatives(model, model, _images(spec))
    assert value == pytest.approx(expected, rel=2e-2)
    assert {array.dtype for array in found} == {np.dtype("float32")}
    largest = max(float(np.abs(gradient).max()) for gradient in wanted)
    _same(found, wanted, rtol=0.1, atol=0.05 * largest)
    run(_images(spec))
    model(_images(spec), training=True)
    _same(_state(twin), _state(model), rtol=2e-2, atol=1e-2)


def test_what_cannot_be_rematerialized_is_said():
    with pytest.raises(ValueError, match="`grain` must be 'unit' or 'stage'. Received: g"):
        Rematerialized(build(TINY), "layer")
    with pytest.raises(ValueError, match="without `features`. Received: 'tiny' with 1 and 2"):
        Rematerialized(build(TINY, features=True))
    with pytest.raises(TypeError, match="must be a net made by `build`. Received: Functional"):
        inputs = keras.Input((4,))
        Rematerialized(keras.Model(inputs, keras.layers.Dense(1)(inputs)))


def test_segments_are_units_or_stages():
    model = build(TINY)
    unit, stage = Rematerialized(model, "unit"), Rematerialized(model, "stage")
    assert [len(run._segments) for run in (unit, stage)] == [
        3,
        1,
    ]  # the last stage is not among them
    assert "stage1_unit2_conv1" in {layer.name for layer in stage._segments[0].layers}
    assert "stem_conv" in {layer.name for layer in stage._segments[0].layers}
    single = build(TINY.replace(depths=(3,), widths=(4,)))
    assert [len(Rematerialized(single, grain)._segments) for grain in ("unit", "stage")] == [3, 0]


@pytest.mark.tf
@pytest.mark.parametrize("xla", [False, True])
def test_a_graph_computes_twice(xla):
    """What a compiler may merge would be kept; XLA shows what it made of the step."""
    import tensorflow as tf

    images = tf.constant(_images(TINY))

    def step_of(run, model):
        @tf.function(jit_compile=xla)
        def step(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(run(x, training=True) ** 2)
            return tape.gradient(loss, [v.value for v in model.trainable_variables])

        return step

    def convolutions(step):
        if xla:
            text = step.experimental_get_compiler_ir(images)(stage="optimized_hlo")
            return text.count("convolution(") + text.count("__onednn$conv")
        operations = step.get_concrete_function(images).graph.get_operations()
        return sum(operation.type == "Conv2D" for operation in operations)

    spec = TINY.replace(depths=(1, 1))
    model, twin = build(spec, seed=0), build(spec, seed=0)
    plain, again = step_of(model, model), step_of(Rematerialized(twin, "unit"), twin)
    once, twice = convolutions(plain), convolutions(again)
    found = again(images)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    wanted = tape.gradient(loss, [v.value for v in model.trainable_variables])
    largest = max(float(np.abs(gradient).max()) for gradient in wanted)
    _same(found, wanted, rtol=1e-3, atol=1e-5 * largest)
    # All but the last stage's: the stem's, and two in the first unit.
    assert twice - once == 1 + 2, (once, twice)


PEAK = """
import numpy as np, tensorflow as tf
from keras_resnet import Rematerialized, build

model = build("cifar_resnet20", seed=0)

def step(run, x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(run(x, training=True))
    return tape.gradient(loss, [v.value for v in model.trainable_variables])

def peak():
    # Not `ru_maxrss`, which begins at the parent's.
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0])

x = tf.constant(np.random.default_rng(0).normal(size=(128, 32, 32, 3)).astype("float32"))
start = peak()
# The lower peak first: a process's peak never falls.
for run in (Rematerialized(model, "unit"), model):
    tf.function(step)(run, x)
    print(peak() - start)
"""


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_memory_falls():
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    unit, none = map(int, done.stdout.split())
    assert unit < 0.7 * none, (unit, none)


@pytest.mark.jax
def test_what_jax_keeps_for_the_gradient_falls():
    if keras.backend.backend() != "jax":
        pytest.skip("needs the JAX backend")
    import jax

    model = build(TINY.replace(depths=(6,), widths=(8,)), seed=0)
    variables = model.variables

    def kept(run):
        def loss(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return ops.sum(run(_images(TINY), training=True))

        _, pull = jax.vjp(loss, [v.value for v in variables])
        return sum(leaf.nbytes for leaf in jax.tree.leaves(pull))

    assert kept(Rematerialized(model, "unit")) < 0.5 * kept(model)


def test_stacked_units_are_segments_too():
    spec = TINY.replace(depths=(3, 3), stochastic_depth=0.5)
    model, twin = (build(spec, seed=0, stacked=True) for _ in range(2))
    run = Rematerialized(twin, "stage")
    value, _, found = _derivatives(run, twin, _images(spec))
    expected, _, wanted = _derivatives(model, model, _images(spec))
    assert value == pytest.approx(expected, rel=1e-5)
    largest = max(float(np.abs(gradient).max()) for gradient in wanted)
    _same(found, wanted, rtol=1e-3, atol=1e-5 * largest)
    run(_images(spec))
    model(_images(spec), training=True)
    _same(_state(twin), _state(model), rtol=1e-5, atol=1e-6)
