"""Draws that are a function of seed, step and position: stochastic depth and dropout."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet import Rematerialized, build, get_spec
from keras_resnet.finetune import with_classes
from keras_resnet.nets.draws import keyed_draws
from keras_resnet.nets.layers import Dropout, StochasticDepth

TINY = get_spec("cifar_resnet20").replace(
    depths=(3, 2), widths=(4, 8), stochastic_depth=0.5, head_dropout=0.25
)


def at(step: int, first: int = 0, batch: int = 4000, seed: int = 1) -> Any:
    import tensorflow as tf

    return keyed_draws(seed, tf.constant(step, tf.int64), tf.constant(first, tf.int64), batch)


@pytest.mark.tf
def test_an_example_is_dropped_by_its_position() -> None:
    import tensorflow as tf

    layer = StochasticDepth(0.3, seed=5)
    x = tf.ones((4000, 1))

    def kept(images: Any = x, own: Any = layer, **where: Any) -> np.ndarray:
        with at(**where):
            return own(images, training=True).numpy()[:, 0] > 0

    whole = kept(step=3)
    assert whole.mean() == pytest.approx(0.7, abs=0.03)  # 4 standard deviations
    parts = [kept(x[:1000], step=3, first=first) for first in range(0, 4000, 1000)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for other in (
        kept(step=4),
        kept(step=3, seed=2),
        kept(step=3, own=StochasticDepth(0.3, seed=6)),
    ):
        assert (other == whole).mean() == pytest.approx(0.58, abs=0.04)
    compiled = tf.function(lambda: layer(x[:1000], training=True), jit_compile=True)
    with at(step=3, first=1000):
        np.testing.assert_array_equal(compiled().numpy()[:, 0] > 0, parts[1])
    assert layer.seed_generator.state.numpy()[1] == 0  # no state to save


@pytest.mark.tf
def test_values_are_dropped_by_position() -> None:
    x = np.ones((64, 5, 5, 2), "float32")
    layer = Dropout(0.25, seed=3)
    with at(step=0, batch=64):
        whole = layer(x, training=True).numpy()
    with at(step=0, first=16, batch=64):
        np.testing.assert_array_equal(layer(x[:16], training=True), whole[16:32])
    assert sorted({*whole.ravel().tolist()}) == pytest.approx([0, 4 / 3])
    assert (whole > 0).mean() == pytest.approx(0.75, abs=0.04)
    assert (whole[0] != whole[1]).any()


@pytest.mark.tf
def test_stacked_and_rematerialized_units_draw_as_unrolled_ones() -> None:
    import tensorflow as tf

    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    found = []
    for stacked, remat in ((False, False), (True, False), (False, True)):
        model = build(TINY, input_shape=(8, 8, 3), stacked=stacked, seed=0)
        forward = Rematerialized(model, "unit") if remat else model
        with at(step=2, batch=8), tf.GradientTape() as tape:
            outputs = forward(images, training=True)
            gradient = tape.gradient(outputs, model.get_layer("stem_conv").kernel.value)
        found.append((outputs.numpy(), gradient.numpy()))
    for outputs, gradient in found[1:]:
        np.testing.assert_allclose(outputs, found[0][0], atol=1e-5)
        np.testing.assert_allclose(gradient, found[0][1], rtol=1e-3, atol=1e-4)


def test_dropout_before_the_classifier(tmp_path) -> None:
    """Its layer has no weights: the net's function in inference and its files stay."""
    model = build(TINY, input_shape=(8, 8, 3), seed=0)
    plain = build(TINY.replace(head_dropout=0.0), input_shape=(8, 8, 3), seed=0)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    outputs = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_array_equal(outputs, keras.ops.convert_to_numpy(plain(x)))
    assert "head_drop" not in {layer.name for layer in plain.layers}
    pool, dropped = (model.get_layer(name).output for name in ("pool", "head_drop"))
    ends = keras.Model(model.input, [pool, dropped])(x, training=True)
    before, after = (keras.ops.convert_to_numpy(end) for end in ends)
    zero = after == 0
    np.testing.assert_allclose(after[~zero], before[~zero] / 0.75, rtol=1e-6)
    assert 0 < zero.sum() < zero.size
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert again.spec.head_dropout == again.get_layer("head_drop").rate == 0.25
    inferred = keras.ops.convert_to_numpy(model(x))  # training has moved the statistics
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(x)), inferred)
    other = with_classes(model, 3)
    assert other.spec.head_dropout == 0.25
    assert "head_drop" in {layer.name for layer in other.layers}
    with pytest.raises(ValueError, match=r"`head_dropout` must lie in \[0, 1\)"):
        TINY.replace(head_dropout=1.0)
