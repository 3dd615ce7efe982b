"""Gradients along a net and its Jacobian's singular values, against independent computations."""

from __future__ import annotations

import pathlib
import random

import keras
import numpy as np
import pytest
from keras import ops

from keras_resnet import ResNetSpec, build
from keras_resnet.analysis import (
    Chain,
    GradientFlow,
    gradient_flow,
    jacobian_singular_values,
    read_gradient_flow,
)
from keras_resnet.analysis.autodiff import jacobian
from keras_resnet.nets.geometry import units

# One channel and 4 x 4 pixels: few enough values for finite differences of each.
DOT = ResNetSpec(
    "dot", (2,), (1,), stem="cifar", classes=3, input_size=4, input_channels=1, norm_eps=1e-3
)
TINY = DOT.replace(name="tiny", depths=(2, 2), widths=(4, 8), input_size=8)
LABELS = np.array([0, 2])


def _images(spec: ResNetSpec, count: int = 2) -> np.ndarray:
    shape = (count, spec.input_size, spec.input_size, spec.input_channels)
    return np.random.default_rng(5).normal(size=shape).astype("float32")


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _run(model: keras.Model, x: np.ndarray, *, training: bool) -> np.ndarray:
    with keras.StatelessScope():
        return ops.convert_to_numpy(ops.stop_gradient(model(x, training=training)))


def _loss(model: keras.Model, x: np.ndarray) -> float:
    probabilities = _softmax(_run(model, x, training=True).astype("float64"))
    return float(-np.log(probabilities[np.arange(len(LABELS)), LABELS]).mean())


def _differences(function, x: np.ndarray, step: float = 2e-3) -> np.ndarray:
    """The derivatives of `function` with respect to each value of `x`: a row each."""
    rows = []
    for index in range(x.size):
        moved = np.zeros(x.size, "float32")
        moved[index] = step
        moved = moved.reshape(x.shape)
        rows.append((function(x + moved) - function(x - moved)) / (2 * step))
    return np.asarray(rows)


@pytest.fixture(scope="module")
def dot() -> keras.Model:
    return build(DOT, seed=4)


@pytest.fixture(scope="module")
def chain(dot: keras.Model) -> Chain:
    return Chain(dot)


def test_gradients_of_the_head_by_hand(dot, chain):
    images = _images(DOT)
    flow = gradient_flow(chain, images, LABELS)
    taps = keras.Model(dot.input, [dot.get_layer("pool").output, dot.output])
    pooled, logits = (
        ops.convert_to_numpy(ops.stop_gradient(value)) for value in taps(images, training=True)
    )
    kernel, bias = dot.get_layer("logits").get_weights()
    wrong = (_softmax(logits) - np.eye(3)[LABELS]) / len(LABELS)
    head, last = flow.parts[-1], flow.parts[-2]
    assert flow.loss == pytest.approx(-np.log(_softmax(logits)[[0, 1], LABELS]).mean(), rel=1e-5)
    assert head.output_norm == pytest.approx(np.linalg.norm(wrong), rel=1e-4)
    at_weights = np.sqrt(np.sum((pooled.T @ wrong) ** 2) + np.sum(wrong.sum(axis=0) ** 2))
    assert head.weight_norm == pytest.approx(at_weights, rel=1e-4)
    assert head.weights == pytest.approx(np.sqrt(np.sum(kernel**2) + np.sum(bias**2)), rel=1e-5)
    # Each of the 16 pixels gets a sixteenth of the gradient of their mean.
    at_pixels = np.linalg.norm(wrong @ kernel.T) / np.sqrt(16)
    assert last.output_norm == pytest.approx(at_pixels, rel=1e-4)


def test_gradient_at_a_unit_output_by_finite_differences(dot, chain):
    images = _images(DOT)
    end = dot.get_layer("stage1_unit1_out").output
    before, behind = keras.Model(dot.input, end), keras.Model(end, dot.output)
    at = _run(before, images, training=True)
    expected = np.linalg.norm(_differences(lambda x: _loss(behind, x), at))
    unit = gradient_flow(chain, images, LABELS).units[0]
    assert unit.name == "stage1_unit1"
    assert unit.output_norm == pytest.approx(expected, rel=0.02)


def test_gradient_at_a_unit_weights_by_finite_differences(dot, chain):
    images = _images(DOT)
    squares = 0.0
    for layer in dot.layers:
        if not layer.name.startswith("stage1_unit2"):
            continue
        for variable in layer.trainable_variables:
            value = ops.convert_to_numpy(variable)

            def at(moved, variable=variable):
                variable.assign(moved)
                return _loss(dot, images)

            squares += np.sum(_differences(at, value) ** 2)
            variable.assign(value)
    unit = gradient_flow(chain, images, LABELS).units[1]
    assert unit.weight_norm == pytest.approx(np.sqrt(squares), rel=0.02)


def test_the_net_is_not_changed_and_computes_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    spec = DOT.replace(stochastic_depth=0.5)
    model = build(spec, seed=1)
    drops = [layer for layer in model.layers if layer.name.endswith("_drop")]

    def state() -> list[np.ndarray]:
        seeds = [ops.convert_to_numpy(layer.seed_generator.state) for layer in drops]
        return [*model.get_weights(), *seeds]

    before, drawn = state(), random.getstate()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    flow = gradient_flow(model, _images(spec), LABELS)
    assert drops
    assert all(np.array_equal(a, b) for a, b in zip(before, state(), strict=True))
    assert random.getstate() == drawn
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert keras.config.dtype_policy().name == "mixed_float16"
    # Precision makes no difference, nor do frozen weights; the same branches are dropped.
    keras.config.set_dtype_policy("float32")
    again = build(spec, seed=1)
    again.get_layer("logits").trainable = False
    assert gradient_flow(again, _images(spec), LABELS) == flow


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order": "pre", "stem_activation": False, "se_reduction": 2},
        {"order": "norm_after_add", "branch": "bottleneck", "stem": "deep", "input_size": 32},
        {"order": "relu_only_pre", "merge": "highway", "shortcut": "A"},
        {"norm": "fixup", "shortcut": "A"},
        {"branch": "repvgg", "stem": "unit", "first_stride": 2, "input_size": 16},
        {"stride_unit": "last", "order": "pre", "stem": "imagenet", "input_size": 32},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "post",
)
def test_a_chain_is_the_net(changes, randomize):
    spec = TINY.replace(**changes)
    model = build(spec)
    randomize(model, 7)
    chain = Chain(model)
    x = images = _images(spec)
    for segment in chain.segments:
        x = segment(x, training=False)[0]
    names = [segment.name for segment in chain.segments]
    assert names == ["stem", *(unit.name for unit in units(spec)), "head"]
    cut = [{v.path for v in s.model.trainable_variables} for s in chain.segments]
    assert sum(map(len, cut)) == len(set().union(*cut)) == len(model.trainable_variables)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.stop_gradient(x)), _run(model, images, training=False), atol=1e-5
    )


def test_a_chain_follows_the_weights_and_the_size_may_be_open(randomize):
    model = build(DOT, input_shape=(None, None, 1), seed=4)
    chain = Chain(model)
    before = gradient_flow(chain, _images(DOT), LABELS)
    randomize(model, 3)
    after = gradient_flow(chain, _images(DOT), LABELS)
    assert after != before
    assert after == gradient_flow(model, _images(DOT), LABELS)


def test_the_gradient_explodes_without_shortcuts():
    images, labels = _images(TINY, 8), np.arange(8) % 3
    growth = {
        merge: gradient_flow(
            build(TINY.replace(depths=(14,), widths=(8,), merge=merge), seed=0), images, labels
        ).growth
        for merge in ("none", "add")
    }
    assert growth["none"] > 10 * growth["add"]
    assert growth["add"] < 14


def test_wrong_input_is_named(dot, chain):
    with pytest.raises(ValueError, match=r"`images` must be a batch .*\(batch, 4, 4, 1\)"):
        gradient_flow(chain, _images(DOT)[0], LABELS)
    with pytest.raises(ValueError, match=r"`labels` must be 2 integers, .* 0 to 2.*0 to 3"):
        gradient_flow(chain, _images(DOT), np.array([0, 3]))
    with pytest.raises(ValueError, match=r"`labels` must be 2 integers.*float64"):
        gradient_flow(chain, _images(DOT), np.array([0.0, 1.0]))
    with pytest.raises(TypeError, match="made by `build`. Received: Functional"):
        gradient_flow(keras.Model(dot.input, dot.output), _images(DOT), LABELS)
    with pytest.raises(ValueError, match="include_top=True"):
        gradient_flow(build(DOT, include_top=False), _images(DOT), LABELS)


# Jacobians.


def test_jacobian_rows_by_finite_differences():
    weights = np.random.default_rng(2).normal(size=(3, 40)).astype("float32")

    def function(x):
        return ops.tanh(ops.reshape(ops.matmul(x, weights), (-1,)))

    x = np.array([[0.3, -0.2, 0.1]], "float32")
    computed = jacobian(function, x)
    assert computed.shape == (40, 1, 3)
    slopes = 1 - np.tanh(x @ weights) ** 2
    np.testing.assert_allclose(computed[:, 0], (slopes * weights).T, rtol=1e-4, atol=1e-5)


def test_identity_units_have_singular_values_of_one():
    spec = TINY.replace(depths=(2,), widths=(4,), merge="rezero", input_size=4)
    model = build(spec, seed=1)
    spectrum = jacobian_singular_values(model, _images(spec), example=1)
    stem = keras.Model(model.input, model.get_layer("stem_act").output)
    passed = int(np.sum(_run(stem, _images(spec), training=True)[1] > 0))
    assert (spectrum.inputs, spectrum.outputs, spectrum.rank) == (64, 64, passed)
    np.testing.assert_allclose(spectrum.values[:passed], 1, atol=1e-5)
    assert (spectrum.largest, spectrum.condition) == pytest.approx((1, 1), abs=1e-5)
    assert spectrum.log_spread == pytest.approx(0, abs=1e-5)
    assert 0 < passed < 64


def test_jacobian_of_a_unit_by_finite_differences(dot, chain):
    images = _images(DOT)
    start = keras.Model(dot.input, dot.get_layer("stem_act").output)
    rest = keras.Model(start.output, dot.get_layer("stage1_unit2_out").output)
    at = _run(start, images, training=True)

    def outputs(x):
        return _run(rest, np.concatenate([x, at[1:]]), training=True)[0].ravel()

    expected = _differences(outputs, at[:1])
    values = np.linalg.svd(expected, compute_uv=False)
    spectrum = jacobian_singular_values(chain, images)
    assert spectrum.largest == pytest.approx(values[0], rel=0.02)
    assert np.sum(np.square(spectrum.values)) == pytest.approx(np.sum(values**2), rel=0.02)


def test_a_jacobian_too_large_is_refused(chain):
    spec = TINY.replace(depths=(1,), widths=(80,))
    with pytest.raises(ValueError, match=r"at most 4,096 outputs.*tiny with 5,120"):
        jacobian_singular_values(build(spec), _images(spec))
    with pytest.raises(ValueError, match=r"`example` must be in 0\.\.1"):
        jacobian_singular_values(chain, _images(DOT), example=2)


# The callback.


def _fit(callbacks: list[keras.callbacks.Callback], epochs: int) -> keras.Model:
    model = build(DOT, seed=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    images, labels = np.tile(_images(DOT), (3, 1, 1, 1)), np.tile(LABELS, 3)
    model.fit(
        images,
        labels,
        batch_size=2,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    return model


def test_callback_measures_what_the_function_does(tmp_path):
    path = tmp_path / "new" / "flow.csv"
    flow = GradientFlow(_images(DOT), LABELS, every=2, csv_path=path)
    model = _fit([flow], epochs=2)  # three steps per epoch
    assert list(flow.history) == [0, 2, 4, 6]
    assert flow.history[0] == gradient_flow(build(DOT, seed=4), _images(DOT), LABELS)
    assert flow.history[6] == gradient_flow(model, _images(DOT), LABELS)
    assert read_gradient_flow(path) == flow.history
    for one, other in zip(model.get_weights(), _fit([], epochs=2).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_callback_continues_where_a_run_resumes(tmp_path):
    path = tmp_path / "flow.csv"
    logs = tmp_path if keras.backend.backend() == "tensorflow" else None
    flow = GradientFlow(_images(DOT), LABELS, every=4, csv_path=path, log_dir=logs)

    def session(start: int, ends: list[int], seed: int) -> list[int]:
        flow.set_model(build(DOT, seed=seed))
        flow.on_train_begin({"step": start})
        for end in ends:
            flow.on_train_batch_end(end - 1)
        flow.on_train_end()
        return list(flow.history)

    assert session(0, [3, 6, 9], seed=4) == [0, 6, 9]
    killed = dict(flow.history)
    # From the checkpoint at step 6: its row and those after it are measured again.
    assert session(6, [9, 11], seed=5) == [0, 6, 9]
    assert flow.history[0] == killed[0]
    assert all(flow.history[step] != killed[step] for step in (6, 9))
    assert session(10, [11, 12], seed=6) == [0, 6, 9, 12]
    assert read_gradient_flow(path) == flow.history
    if logs:
        _assert_events(tmp_path / "gradient_flow", flow)


def _assert_events(directory: pathlib.Path, flow: GradientFlow) -> None:
    """Checks that TensorBoard's only file has the whole history."""
    import tensorflow as tf

    (file,) = directory.iterdir()
    events = {
        (event.step, value.tag): float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    for step, row in flow.history.items():
        assert events[step, "gradient_growth"] == pytest.approx(row.growth)
        for part in row.parts:
            assert events[step, f"gradient_at_output/{part.name}"] == pytest.approx(
                part.output_norm
            )
            assert events[step, f"gradient_at_weights/{part.name}"] == pytest.approx(
                part.weight_norm
            )


def test_callback_refuses_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="`every` must be a positive integer. Received: every=0"):
        GradientFlow(_images(DOT), LABELS, every=0)
    path = tmp_path / "flow.csv"
    path.write_text("step,loss\n1,2\n")
    flow = GradientFlow(_images(DOT), LABELS, csv_path=path)
    flow.set_model(keras.Sequential([keras.Input((1,))]))
    with pytest.raises(ValueError, match="was not written by GradientFlow"):
        flow.on_train_begin({"step": 0})


def test_callback_without_files_in_a_custom_loop(dot, chain):
    flow = GradientFlow(_images(DOT), LABELS, every=4)
    flow.set_model(dot)
    flow.on_train_begin({"step": 0})
    flow.on_epoch_begin(0)
    flow.on_train_batch_end(2)
    assert flow.history == {0: gradient_flow(chain, _images(DOT), LABELS)}
