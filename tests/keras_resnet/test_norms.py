"""Our batch norm against Keras's: values, gradients, moving statistics, files, graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from keras_resnet import ResNetSpec, build
from keras_resnet.nets.batch_norm import BatchNormalization

TINY = ResNetSpec("tiny", (2,), (4,), stem="cifar", classes=3, input_size=8)
KINDS = (keras.layers.BatchNormalization, BatchNormalization)


def _batches(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(1.0, 2.0, (3, *shape)).astype("float32")


def _numpy(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def _drawn(kind: type, shape: tuple[int | None, ...], **options: Any) -> Any:
    """A layer whose weights are drawn, alike for both kinds."""
    layer = kind(**options)
    layer.build(shape)
    rng = np.random.default_rng(2)
    layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return layer


def _nodes(function: Callable[[Any], Any], shape: tuple[int | None, ...], dtype: Any) -> list[str]:
    import tensorflow as tf

    graph = tf.function(function).get_concrete_function(tf.TensorSpec(shape, dtype)).graph
    return [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(4, 5, 8), (4, 6, 6, 8), (2, 3, 4, 2, 5), (1, 1, 1, 3)])
def test_outputs_and_statistics_are_keras(shape, momentum, training):
    pair = [_drawn(kind, shape, momentum=momentum) for kind in KINDS]
    for x in _batches(*shape):
        theirs, ours = (_numpy(layer(x, training=training)) for layer in pair)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for theirs, ours in zip(*(layer.get_weights() for layer in pair), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert np.ptp(pair[1].get_weights()[2]) > 0


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"epsilon": 0.1}])
def test_options_are_keras(options):
    x = _batches(4, 6, 6, 8)[0]
    pair = [_drawn(kind, x.shape, **options) for kind in KINDS]
    theirs, ours = (_numpy(layer(x, training=True)) for layer in pair)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", "mixed_bfloat16", "bfloat16", pytest.param("float64", marks=pytest.mark.tf)],
)
def test_other_precisions_are_keras(policy):
    pair = [_drawn(kind, (4, 6, 6, 8), dtype=policy) for kind in KINDS]
    for x in _batches(4, 6, 6, 8):
        theirs, ours = (layer(x, training=True) for layer in pair)
        assert keras.backend.standardize_dtype(ours.dtype) == pair[0].compute_dtype
        # To the last digit of 8 bits, after a rounding that may fall to either side.
        np.testing.assert_allclose(_numpy(ours), _numpy(theirs), rtol=2**-7, atol=1e-6)
    for theirs, ours in zip(*(layer.weights for layer in pair), strict=True):
        assert theirs.dtype == ours.dtype
        np.testing.assert_allclose(_numpy(ours), _numpy(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"axis": 1}, {"renorm": True}],
    ids=["channels_first", "renorm"],
)
def test_what_is_not_fused_is_keras(options):
    if "renorm" in options and not hasattr(keras.layers.BatchNormalization(), "renorm"):
        pytest.skip("Keras has `renorm` from 3.14 on")
    x = _batches(4, 6, 6, 8)[0]
    theirs, ours = (_drawn(kind, x.shape, **options)(x, training=True) for kind in KINDS)
    np.testing.assert_array_equal(_numpy(ours), _numpy(theirs))


def test_a_mask_is_keras():
    x = _batches(4, 5, 8)[0]
    mask = np.arange(5) < np.asarray([[1], [3], [5], [2]])
    pair = [_drawn(kind, x.shape) for kind in KINDS]
    theirs, ours = (_numpy(layer(x, training=True, mask=ops.array(mask))) for layer in pair)
    np.testing.assert_array_equal(ours, theirs)


def test_a_frozen_norm_keeps_its_statistics():
    x = _batches(4, 6, 6, 8)[0]
    layer = _drawn(BatchNormalization, x.shape)
    before, still = layer.get_weights(), _numpy(layer(x, training=False))
    layer.trainable = False
    np.testing.assert_array_equal(_numpy(layer(x, training=True)), still)
    np.testing.assert_array_equal(layer.get_weights(), before)


def test_a_stateless_call_returns_the_statistics_and_keeps_its_own():
    x = _batches(4, 6, 6, 8)[0]
    new = []
    for kind in KINDS:
        layer = _drawn(kind, x.shape)
        before = layer.get_weights()
        trained, others = ([v.value for v in group] for group in _variables(layer))
        y, others = layer.stateless_call(trained, [2.0 * v for v in others], x, training=True)
        np.testing.assert_array_equal(layer.get_weights(), before)
        new.append([_numpy(value) for value in (y, *others)])
    for theirs, ours in zip(*new, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def _variables(layer: Any) -> tuple[list[Any], list[Any]]:
    return layer.trainable_variables, layer.non_trainable_variables


@pytest.mark.tf
@pytest.mark.parametrize(
    ("frozen", "batch", "compiled"),
    [(False, 4, False), (False, None, True), (True, None, False), (True, 4, True)],
    ids=["graph", "unknown-XLA", "frozen-unknown-graph", "frozen-XLA"],
)
def test_gradients_are_keras_in_graphs(frozen, batch, compiled):
    import tensorflow as tf

    found = []
    for kind in KINDS:
        layer = _drawn(kind, (4, 6, 6, 8))
        layer.trainable = not frozen

        @tf.function(
            input_signature=[tf.TensorSpec((batch, 6, 6, 8))], jit_compile=compiled or None
        )
        def gradients(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch([x, layer.gamma.value, layer.beta.value])
                loss = tf.reduce_sum(layer(x, training=True) ** 3)
            return tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

        values = [gradients(tf.constant(x)) for x in _batches(4, 6, 6, 8)][-1]
        found.append([_numpy(value) for value in values] + layer.get_weights())
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.tf
@pytest.mark.parametrize("batch", [0, None], ids=["known", "unknown"])
def test_an_empty_batch_leaves_the_statistics(batch):
    import tensorflow as tf

    layer = _drawn(BatchNormalization, (None, 6, 6, 8))
    before = layer.get_weights()
    run = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((batch, 6, 6, 8))]
    )
    assert run(tf.zeros((0, 6, 6, 8))).shape == (0, 6, 6, 8)
    np.testing.assert_array_equal(layer.get_weights(), before)


@pytest.mark.tf
@pytest.mark.parametrize("training", [True, False])
def test_a_norm_is_one_operation(training):
    layer = _drawn(BatchNormalization, (None, 6, 6, 8))
    nodes = _nodes(lambda x: layer(x, training=training), (4, 6, 6, 8), "float32")
    assert nodes.count("FusedBatchNormV3") == 1
    assert not {"Mean", "SquaredDifference", "Rsqrt"} & set(nodes)
    double = _drawn(BatchNormalization, (None, 6, 6, 8), dtype="float64")
    nodes = _nodes(lambda x: double(x, training=training), (4, 6, 6, 8), "float64")
    assert "FusedBatchNormV3" not in nodes


def test_a_net_has_these_norms_and_keeps_them_in_files(tmp_path):
    model = build(TINY, seed=0)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 5
    assert {type(norm) for norm in norms} == {BatchNormalization}
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    kinds = {type(x) for x in again.layers if isinstance(x, keras.layers.BatchNormalization)}
    assert kinds == {BatchNormalization}
    x = _batches(2, 8, 8, 3)[0]
    np.testing.assert_array_equal(_numpy(again(x)), _numpy(model(x)))


@pytest.mark.parametrize("kinds", [KINDS, KINDS[::-1]], ids=["to ours", "from ours"])
def test_weight_files_are_those_of_keras(kinds, tmp_path):
    """As a file of before this layer was: without names, by the class's."""
    source, target = (
        keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), kind(), kind()])
        for kind in kinds
    )
    rng = np.random.default_rng(0)
    source.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in source.weights])
    source.save_weights(tmp_path / "net.weights.h5")
    target.load_weights(tmp_path / "net.weights.h5")
    for ours, theirs in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_net_saved_with_keras_norms_still_loads(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_resnet.nets.primitives.BatchNormalization", KINDS[0])
    old = build(TINY, seed=0)
    old.save(tmp_path / "old.keras")
    monkeypatch.undo()
    again = keras.saving.load_model(tmp_path / "old.keras")
    x = _batches(2, 8, 8, 3)[0]
    np.testing.assert_array_equal(_numpy(again(x)), _numpy(old(x)))
