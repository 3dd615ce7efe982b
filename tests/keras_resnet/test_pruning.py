"""`prune` and `Lesions`: units removed and moved, channels removed, weights kept."""

from __future__ import annotations

import re
from collections.abc import Callable

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNetSpec, get_spec
from keras_resnet.analysis import Lesions, count
from keras_resnet.nets.named_weights import read_weights, write_weights
from keras_resnet.pruning import (
    channel_importance,
    prune_to,
    removable_units,
    unit_importance,
)

SMALL = ResNetSpec(
    "small", depths=(3, 3), widths=(4, 8), stem="cifar", shortcut="A", classes=5, input_size=8
)
IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
LABELS = np.arange(16) % 5


def net(randomize: Callable[[keras.Model, int], None], **changes: object) -> keras_resnet.ResNet:
    model = keras_resnet.build(SMALL.replace(**changes), input_shape=(8, 8, 3), seed=0)
    randomize(model, 1)
    return model


def logits(model: keras.Model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(IMAGES, training=False))


def loss(values: np.ndarray) -> float:
    values = values.astype("float64")
    norm = np.log(np.exp(values).sum(axis=1))
    return float((norm - values[np.arange(16), LABELS]).mean())


@pytest.mark.parametrize(
    "changes",
    [{}, {"order": "pre"}, {"branch": "bottleneck", "se_reduction": 2, "shortcut": "B"}],
)
def test_a_unit_without_effect_is_removed_without_effect(
    changes: dict[str, object], randomize: Callable[[keras.Model, int], None]
) -> None:
    """A branch that is zero has no importance, and the pruned net computes the same."""
    model = net(randomize, **changes)
    last = 3 if model.spec.branch == "bottleneck" else 2
    zeroed = [f"stage1_unit2_conv{last}", f"stage2_unit3_conv{last}"]
    stored = read_weights(model)
    for name in list(zeroed):
        zeroed.append(name.replace("conv", "norm"))
    if model.spec.order == "pre":  # the norms precede the convolutions
        zeroed = zeroed[:2]
    write_weights(model, {name: [array * 0 for array in stored[name]] for name in zeroed})
    assert removable_units(model.spec) == (
        *("stage1_unit2", "stage1_unit3", "stage2_unit2", "stage2_unit3"),
    )
    scores = unit_importance(model, IMAGES, LABELS)
    assert scores["stage1_unit2"] == pytest.approx(0, abs=1e-6)
    assert scores["stage2_unit3"] == pytest.approx(0, abs=1e-6)
    assert abs(scores["stage2_unit2"]) > 1e-3
    scores = {name: abs(score) for name, score in scores.items()}
    # Each unit that is removed has the same cost, about an eighth.
    share = 1 - 1.5 * (
        1
        - count(keras_resnet.prune(model, 0.99, method="depth", importance=scores)).multiply_adds
        / count(model).multiply_adds
    )
    small = keras_resnet.prune(model, share, method="depth", importance=scores)
    assert small.spec.depths == (2, 2)
    assert count(small).multiply_adds <= share * count(model).multiply_adds
    np.testing.assert_allclose(logits(small), logits(model), atol=1e-5)
    assert small.spec.name == "small"


@pytest.mark.parametrize(
    "changes",
    [{}, {"order": "pre"}, {"branch": "bottleneck"}, {"branch": "bottleneck", "order": "pre"}],
)
def test_channels_without_effect_are_removed_without_effect(
    changes: dict[str, object], randomize: Callable[[keras.Model, int], None]
) -> None:
    model = net(randomize, **changes, shortcut="B")
    behind = int(model.spec.order == "pre")
    inner = 2 if model.spec.branch == "bottleneck" else 1
    stored = read_weights(model)
    for stage, width in ((1, 4), (2, 8)):
        for unit in (1, 2, 3):
            for number in range(1, inner + 1):
                norm = f"stage{stage}_unit{unit}_norm{number + behind}"
                dead = np.arange(width) % 2 == unit % 2  # every other one, not the same in all
                gamma, beta, *rest = stored[norm]
                assert gamma.shape == (width,)
                stored[norm] = [gamma * ~dead, beta * ~dead, *rest]
    write_weights(model, stored)
    small = prune_to(model, (2, 4))
    assert small.spec.inner_widths == (2, 4)
    assert small.spec.widths == model.spec.widths
    np.testing.assert_allclose(logits(small), logits(model), atol=1e-5)
    # The share is kept, and as much as possible of it is used.
    share = 1.001 * count(small).multiply_adds / count(model).multiply_adds
    again = keras_resnet.prune(model, share)
    assert again.spec.inner_widths == (2, 4)
    np.testing.assert_array_equal(logits(again), logits(small))
    restored = ResNetSpec.from_dict(small.spec.to_dict())
    assert restored == small.spec


def test_the_importance_of_channels(randomize: Callable[[keras.Model, int], None]) -> None:
    """The literal criteria of both papers."""
    model = net(randomize)
    gamma = model.get_layer("stage2_unit2_norm1").get_weights()[0]
    kernel = model.get_layer("stage2_unit2_conv1").get_weights()[0]
    by_norm = channel_importance(model)["stage2_unit2_conv1"]
    by_sum = channel_importance(model, "l1")["stage2_unit2_conv1"]
    np.testing.assert_allclose(by_norm, np.abs(gamma))
    np.testing.assert_allclose(by_sum, [np.abs(kernel[..., n]).sum() for n in range(8)], rtol=1e-6)
    small = prune_to(model, (4, 3), criterion="l1")
    kept = np.sort(np.argsort(-by_sum)[:3])
    np.testing.assert_array_equal(
        small.get_layer("stage2_unit2_conv1").get_weights()[0], kernel[..., kept]
    )
    both = keras_resnet.prune(model, 0.4, method="both")
    assert sum(both.spec.depths) < 6
    assert both.spec.inner_widths is not None
    assert count(both).multiply_adds <= 0.4 * count(model).multiply_adds
    # Nothing to remove, or too little for the square root: was refused, advising method='both'.
    for depths, share in (((1, 1), 0.5), ((1, 2), 0.3)):
        whole = net(randomize, depths=depths)
        few = keras_resnet.prune(whole, share, method="both", images=IMAGES, labels=LABELS)
        assert few.spec.depths == (1, 1)
        assert count(few).multiply_adds <= share * count(whole).multiply_adds


def test_lesions_against_the_layers(randomize: Callable[[keras.Model, int], None]) -> None:
    """Deleted and moved units, of a residual and of a plain net, by hand."""
    model = net(randomize)
    lesions = Lesions(model, IMAGES, LABELS, batch_size=7)
    assert lesions.names[1] == "stage1_unit2"
    assert lesions.movable == (0, 1, 2, 4, 5)  # the first of stage 2 strides
    assert lesions.measure().loss == pytest.approx(loss(logits(model)), rel=1e-5)
    changed = keras_resnet.build(SMALL, input_shape=(8, 8, 3))
    changed.set_weights(model.get_weights())
    norm = changed.get_layer("stage1_unit2_norm2")
    norm.set_weights([array * 0 for array in norm.get_weights()])
    assert lesions.without([1]).loss == pytest.approx(loss(logits(changed)), rel=1e-5)
    assert dict(lesions.each())["stage1_unit2"] == lesions.without([1])
    changed.set_weights(model.get_weights())
    stored = read_weights(model)
    for layer in ("conv1", "norm1", "conv2", "norm2"):
        one, two = f"stage1_unit1_{layer}", f"stage1_unit2_{layer}"
        write_weights(changed, {one: stored[two], two: stored[one]})
    moved = lesions.measure([1, 0, 2, 3, 4, 5])
    assert moved.loss == pytest.approx(loss(logits(changed)), rel=1e-5)
    plain = net(randomize, merge="none")
    lesions = Lesions(plain, IMAGES, LABELS)
    assert lesions.without([2]).loss != pytest.approx(lesions.measure().loss)
    with pytest.raises(ValueError, match="Only units that keep the shape can be deleted or moved"):
        lesions.without([3])
    with pytest.raises(ValueError, match="must lie in 0..4, the model's classes"):
        Lesions(model, IMAGES, LABELS + 1)


def test_errors(randomize: Callable[[keras.Model, int], None]) -> None:
    model = net(randomize)
    for keywords, message in (
        ({"macs": 1.0}, "`macs` must be above 0 and below 1"),
        ({"macs": 0.1, "method": "depth"}, "of the multiply-adds are left; channels can be pruned"),
        ({"macs": 0.001}, "With one channel inside each unit small still has"),
        ({"method": "width"}, "`method` must be one of 'depth', 'channels', 'both'"),
        ({"criterion": "l2"}, "`criterion` must be 'norm' or 'l1'"),
        ({"method": "depth", "macs": 0.9, "importance": {}}, "Missing: stage1_unit2"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            keras_resnet.prune(model, **keywords)
    # A KeyError: 'stage1_unit1_norm1'.
    with pytest.raises(ValueError, match="quantise-aware: prune the net that it was made from"):
        keras_resnet.prune(keras_resnet.quantize_aware(model), 0.5)
    for changes, method, message in (
        ({"merge": "none"}, "depth", "a shortcut is left in their place"),
        ({"shortcut": "C"}, "depth", "which projects in every unit"),
        ({"branch": "bottleneck", "groups": 2, "shortcut": "B"}, "channels", "groups is 1"),
        ({"order": "pre"}, "depth", "give `images` and `labels`"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            keras_resnet.prune(net(randomize, **changes), 0.8, method=method)
    for inner, message in (
        ((4,), "`inner_widths` needs one entry per stage (2)"),
        ((4, 0), "`inner_widths` must hold one positive integer per stage"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            SMALL.replace(inner_widths=inner)
    with pytest.raises(ValueError, match="not those of groups"):
        get_spec("resnext50_32x4d").replace(inner_widths=(128, 256, 512, 1024))
    with pytest.raises(ValueError, match="at most \\(4, 8\\)"):
        prune_to(model, (5, 8))
