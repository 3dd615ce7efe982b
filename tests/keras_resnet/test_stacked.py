"""Stacked nets compute what the unrolled ones do, whatever the net, and take their weights."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_resnet
from keras_resnet import ResNetSpec, build
from keras_resnet.analysis import accepted_specs, count, count_spec, unit_outputs
from keras_resnet.analysis.autodiff import gradients
from keras_resnet.finetune import freeze, freeze_norms, unfreeze, with_classes, with_input_channels
from keras_resnet.nets import network, unit_loop
from keras_resnet.nets.geometry import runs
from keras_resnet.nets.named_weights import (
    layer_names,
    read_weights,
    write_weights,
)
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.stacked import StackedUnits
from keras_resnet.weights.files.tensor_file import read
from keras_resnet.weights.rebuild import clone_as_float32, copy_weights, rebuild, restack

BASIC = ResNetSpec("tiny", (3, 3), (4, 8), shortcut="A", stem="cifar", classes=5, input_size=8)
NETS = {
    "basic": BASIC,
    "bottleneck-pre": BASIC.replace(
        depths=(3,),
        widths=(4,),
        branch="bottleneck",
        shortcut="B",
        order="pre",
        se_reduction=4,
        groups=2,
    ),
    "both": BASIC.replace(shortcut_dropout=0.3, stochastic_depth=0.5),
}
# Units whose shapes differ within a stage.
SHAPES = [
    BASIC.replace(name="vd", shortcut="D", stage_projection=True),
    BASIC.replace(name="last-strides", order="pre", shortcut="B", stride_unit="last"),
    BASIC.replace(name="dilated", max_stride=1, shortcut="C", branch_scale=0.5),
]


def _pair(spec: ResNetSpec, **form) -> tuple[keras_resnet.ResNet, keras_resnet.ResNet]:
    return tuple(build(spec, seed=3, stacked=stacked, **form) for stacked in (False, True))


def _randomize(model: keras.Model) -> None:
    """Gives every weight a value that no initializer gives: scalars and moving statistics too."""
    rng = np.random.default_rng(5)
    stored = read_weights(model)
    for arrays in stored.values():
        for index, array in enumerate(arrays):
            arrays[index] = (array + rng.uniform(0.05, 0.2, array.shape)).astype("float32")
    write_weights(model, stored)


def _images(model: keras.Model, count: int = 3) -> np.ndarray:
    shape = model.inputs[0].shape[1:]
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


def _step(model: keras.Model, images: np.ndarray):
    """Return outputs, and gradients by the unrolled net's layers and places."""
    labels = np.arange(len(images)) % 5

    def loss(_):
        logits = model(images, training=True)
        return ops.mean(
            keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        )

    value, _, found = gradients(loss, [np.zeros(1, "float32")], model.trainable_variables)
    # A net of the same form whose weights are the gradients gives them by name.
    holder = rebuild(model, seed=0)
    stored = [np.zeros(tuple(w.shape), "float32") for w in holder.weights]
    places = {id(v): index for index, v in enumerate(model.weights)}
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        stored[places[id(variable)]] = gradient
    holder.set_weights(stored)
    return value, read_weights(holder)


def _assert_close(ours, theirs, rtol=1e-5):
    assert ours.keys() == theirs.keys()
    for name in ours:
        for a, b in zip(ours[name], theirs[name], strict=True):
            scale = max(1e-6, float(np.abs(b).max()))
            assert float(np.abs(a - b).max()) <= rtol * scale, name


@pytest.mark.parametrize("name", NETS)
def test_computes_what_the_unrolled_net_does(name):
    unrolled, stacked = _pair(NETS[name])
    assert stacked.stacked
    assert not unrolled.stacked
    start = read_weights(unrolled)
    _assert_close(read_weights(stacked), start, 0)  # the same seeds, the same start
    _randomize(unrolled)
    copy_weights(unrolled, stacked)
    images = _images(unrolled)
    np.testing.assert_allclose(
        ops.convert_to_numpy(stacked(images, training=False)),
        ops.convert_to_numpy(unrolled(images, training=False)),
        rtol=1e-5,
        atol=1e-5,
    )
    (loss, found), (wanted_loss, wanted) = _step(stacked, images), _step(unrolled, images)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    _assert_close(found, wanted, 1e-4)


@pytest.mark.parametrize("name", ["basic", "both"])
def test_updates_statistics_once_and_draws_anew(name):
    unrolled, stacked = _pair(NETS[name])
    images = _images(unrolled)
    outputs = []
    for _ in range(3):
        outputs.append(ops.convert_to_numpy(stacked(images, training=True)))
        np.testing.assert_allclose(
            outputs[-1], ops.convert_to_numpy(unrolled(images, training=True)), rtol=1e-4, atol=1e-5
        )
    _assert_close(read_weights(stacked), read_weights(unrolled))
    draws = not np.allclose(outputs[0], outputs[1])
    assert draws == (name == "both")


def _each_value_once() -> list[ResNetSpec]:
    """Specs in which every branch, order, merge and norm occurs.

    A stack runs whatever unit it is given, so values need not meet in every combination.
    """
    fields, seen, chosen = ("branch", "order", "merge", "norm"), set(), []
    for spec in accepted_specs():
        values = {(field, getattr(spec, field)) for field in fields}
        if values - seen:
            seen |= values
            chosen.append(spec.replace(depths=(3,)))
    return chosen


CHOSEN = [*SHAPES, *_each_value_once()]


@pytest.mark.parametrize("spec", CHOSEN, ids=[spec.name for spec in CHOSEN])
def test_every_branch_order_and_merge(spec):
    unrolled, stacked = _pair(spec.replace(name="unit"))
    _randomize(unrolled)
    copy_weights(unrolled, stacked)
    images = _images(unrolled, 2)
    np.testing.assert_allclose(
        ops.convert_to_numpy(stacked(images, training=True)),
        ops.convert_to_numpy(unrolled(images, training=True)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_runs_are_units_that_are_alike():
    spec = keras_resnet.get_spec("cifar_resnet1202")
    assert [len(run) for run in runs(spec)] == [200, 1, 199, 1, 199]
    bottlenecks = [len(run) for run in runs(keras_resnet.get_spec("resnet152"))]
    assert bottlenecks == [1, 2, 1, 7, 1, 35, 1, 2]
    # The first unit of a pre-activation net has no activation of its own.
    assert [len(run) for run in runs(BASIC.replace(order="pre"))] == [1, 2, 1, 2]
    last = BASIC.replace(stride_unit="last", shortcut="B")
    assert [len(run) for run in runs(last)] == [2, 1, 1, 2]


def test_deep_nets_are_stacked_by_default(monkeypatch):
    assert network.STACKED_FROM == 300
    assert build("cifar_resnet302", features=["C2"]).stacked
    monkeypatch.setattr(network, "STACKED_FROM", BASIC.layers)
    assert build(BASIC).stacked
    assert not build(BASIC, stacked=False).stacked
    assert not build(BASIC.replace(depths=(3, 2))).stacked
    with pytest.raises(TypeError, match="`stacked` must be True, False or None. Received: .*'yes'"):
        build(BASIC, stacked="yes")


def test_has_the_unrolled_nets_names_counts_and_features():
    unrolled, stacked = _pair(BASIC)
    assert layer_names(stacked) == [layer.name for layer in unrolled.layers]
    assert stacked.count_params() == unrolled.count_params()
    assert count(stacked) == count(unrolled) == count_spec(BASIC)
    dropping = build(NETS["both"], stacked=True)
    assert dropping.count_params() == unrolled.count_params()
    assert build(BASIC, stacked=True, features=True).output.keys() == {"C2", "C3"}
    assert stacked.pyramid_outputs.keys() == unrolled.pyramid_outputs.keys()


def test_unit_outputs():
    unrolled, stacked = _pair(NETS["both"])
    images = _images(unrolled)
    before = read_weights(stacked)
    for training in (False, True):
        ours = unit_outputs(stacked, images, training=training)
        theirs = unit_outputs(unrolled, images, training=training)
        names = [f"stage{stage}_unit{unit}" for stage in (1, 2) for unit in (1, 2, 3)]
        assert list(ours) == list(theirs) == names
        for unit in ours:
            np.testing.assert_allclose(ours[unit], theirs[unit], rtol=1e-4, atol=1e-5)
    _assert_close(read_weights(stacked), before, 0)
    with pytest.raises(TypeError, match="`model` must be a net made by `build`"):
        unit_outputs(keras.Sequential(), images)


def test_keras_file_round_trip(tmp_path):
    model = freeze_norms(build(NETS["both"], stacked=True, seed=1))
    _randomize(model)
    path = tmp_path / "net.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    assert again.stacked
    assert again.spec == model.spec
    _assert_close(read_weights(again), read_weights(model), 0)
    images = _images(model)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(images)), ops.convert_to_numpy(model(images))
    )
    stack = next(layer for layer in again.layers if isinstance(layer, StackedUnits))
    assert not stack.norms_trainable
    trained = [variable.path for variable in model.trainable_variables]
    assert [variable.path for variable in again.trainable_variables] == trained


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("stacked", [False, True])
def test_files_of_one_form_load_into_the_other(tmp_path, suffix, stacked):
    source = build(BASIC, stacked=stacked, seed=1)
    _randomize(source)
    path = tmp_path / f"net{suffix}"
    source.save(path) if suffix == ".keras" else source.save_weights(path)
    target = build(BASIC, stacked=not stacked, seed=2)
    report = keras_resnet.weights.load(target, path)
    assert report.complete
    _assert_close(read_weights(target), read_weights(source), 0)
    if suffix == ".weights.h5":
        other = build(BASIC, stacked=not stacked, seed=2)
        other.load_weights(path)
        _assert_close(read_weights(other), read_weights(source), 0)


def test_weights_of_another_net_are_refused(tmp_path):
    path = tmp_path / "net.weights.h5"
    build(BASIC, stacked=False).save_weights(path)
    deeper = build(BASIC.replace(depths=(4, 3)), stacked=True)
    before = read_weights(deeper)
    with pytest.raises(ValueError, match="no 'stage1_unit4_conv1' in the source"):
        deeper.load_weights(path)
    _assert_close(read_weights(deeper), before, 0)
    build(BASIC.replace(depths=(4, 3)), stacked=True).save_weights(path)
    with pytest.raises(ValueError, match="no 'stage1_unit4_conv1' in the target"):
        build(BASIC, stacked=True).load_weights(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="contains no readable weights: it is not an HDF5 file"):
        deeper.load_weights(path)


def test_weights_of_other_libraries(tmp_path):
    unrolled, stacked = _pair(
        BASIC.replace(branch="bottleneck", shortcut="B", stem="imagenet", input_size=32)
    )
    _randomize(unrolled)
    path = tmp_path / "net.safetensors"
    keras_resnet.weights.save(unrolled, path)
    assert keras_resnet.weights.load(stacked, path).complete
    _assert_close(read_weights(stacked), read_weights(unrolled), 0)
    again = tmp_path / "again.safetensors"
    keras_resnet.weights.save(stacked, again)
    ours, theirs = (read(str(each)).tensors for each in (again, path))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_restack_and_clone_as_float32():
    model = build(BASIC, stacked=True, seed=1)
    _randomize(model)
    twin = restack(model, stacked=False)
    assert not twin.stacked
    assert restack(twin, stacked=False) is twin
    _assert_close(read_weights(twin), read_weights(model), 0)
    assert clone_as_float32(model).stacked
    assert not clone_as_float32(model, stacked=False).stacked


def test_folding_unrolls():
    model = build(BASIC, stacked=True, seed=1)
    _randomize(model)
    folded = keras_resnet.fold_batch_norm(model)
    names = {layer.name for layer in folded.layers}
    assert "stage1_unit2_conv1" in names
    assert not any("norm" in name for name in names)
    images = _images(model)
    np.testing.assert_allclose(
        ops.convert_to_numpy(folded(images)),
        ops.convert_to_numpy(model(images)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_freezing():
    model = build(BASIC, stacked=True, seed=1)
    images = _images(model)
    trained = len(model.trainable_variables)
    freeze_norms(model)
    before = read_weights(model)
    assert not any("gamma" in v.path or "beta" in v.path for v in model.trainable_variables)
    model(images, training=True)
    _assert_close(read_weights(model), before, 0)
    unfreeze(model)
    assert len(model.trainable_variables) == trained
    freeze(model, through=1)
    model(images, training=True)
    after = read_weights(model)
    for name in before:
        changed = not all(map(np.array_equal, before[name], after[name]))
        assert changed == (name.startswith("stage2") and "norm" in name), name


def test_finetuning_keeps_the_form():
    model = build(BASIC, stacked=True, seed=1)
    assert with_classes(model, 3).stacked
    gray = with_input_channels(model, 1)
    assert gray.stacked
    np.testing.assert_allclose(
        ops.convert_to_numpy(gray(_images(gray))),
        ops.convert_to_numpy(model(np.repeat(_images(gray), 3, axis=-1))),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("dims", [1, 3])
def test_other_numbers_of_axes(dims):
    unrolled, stacked = _pair(BASIC, dims=dims)
    images = _images(unrolled, 2)
    np.testing.assert_allclose(
        ops.convert_to_numpy(stacked(images)),
        ops.convert_to_numpy(unrolled(images)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_inputs_of_any_size():
    unrolled, stacked = _pair(BASIC, input_shape=(None, None, 3))
    images = np.random.default_rng(0).normal(size=(2, 12, 9, 3)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(stacked(images)),
        ops.convert_to_numpy(unrolled(images)),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["basic", "both"])
def test_mixed_precision(name):
    with dtype_policy("mixed_bfloat16"):
        unrolled, stacked = _pair(NETS[name])
    images = _images(unrolled)
    for training in (False, True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(stacked(images, training=training)),
            ops.convert_to_numpy(unrolled(images, training=training)),
            rtol=0.05,
            atol=0.05,
        )
    assert {str(v.dtype) for v in stacked.weights} == {"float32"}


def test_fit_learns():
    model = build(BASIC, stacked=True, seed=1)
    images = _images(model, 16)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(images, np.arange(16) % 5, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    assert model.predict(images, verbose=0).shape == (16, 5)


def test_config_and_errors():
    layer = StackedUnits(BASIC, 1, 1)
    assert layer.name == "stage1_units1to3"
    assert [unit.index for unit in layer.members] == [1, 2, 3]
    config = json.loads(json.dumps(layer.get_config()))
    again = StackedUnits.from_config(config)
    assert again.members == layer.members
    assert again.spec == BASIC
    with pytest.raises(ValueError, match="No run of equal units of tiny begins at unit 2"):
        StackedUnits(BASIC, 1, 2)
    layer.build((None, 8, 8, 4))
    with pytest.raises(ValueError, match="holds 00.conv1.kernel, .* Received: a file with other"):
        layer.load_own_variables({"other": 0})


def test_rates_of_stochastic_depth_differ_by_unit():
    layer = StackedUnits(NETS["both"], 1, 1)
    rates = [unit.drop_rate for unit in layer.members]
    assert rates == pytest.approx([0.5 * n / 6 for n in range(1, 4)])
    # Alike but for the rate: dropping everything leaves the input of a rectified stage.
    spec = dataclasses.replace(BASIC, stochastic_depth=0.999999)
    model = build(spec, stacked=True, seed=0)
    outputs = unit_outputs(model, _images(model), training=True)
    np.testing.assert_array_equal(outputs["stage2_unit3"], outputs["stage2_unit2"])


def test_writing_one_unit_leaves_the_others():
    model = build(BASIC, stacked=True, seed=1)
    before = read_weights(model)
    kernel = np.full_like(before["stage1_unit2_conv1"][0], 0.5)
    write_weights(model, {"stage1_unit2_conv1": [kernel], "other": [kernel]})
    _assert_close(read_weights(model), before | {"stage1_unit2_conv1": [kernel]}, 0)


def test_freezing_norms_before_the_weights_exist():
    layer = StackedUnits(BASIC, 1, 1)
    layer.norms_trainable = False
    layer.build((None, 8, 8, 4))
    roles = {variable.name.rsplit("_", 1)[1] for variable in layer.trainable_variables}
    assert roles == {"kernel"}


@pytest.mark.parametrize("collect", [False, True])
def test_an_unrolled_loop_computes_the_same(collect):
    """On TensorFlow it runs where replicas average statistics within a unit."""

    def body(x, trained, state, constants):
        return x * trained[0] + constants[0], [state[0] + ops.sum(x)]

    numbers = [np.arange(1.0, 4.0, dtype="float32") * scale for scale in (1.0, 2.0, 3.0)]
    rows = unit_loop.Rows(*([ops.convert_to_tensor(each)] for each in numbers))
    x = ops.ones((2,))
    loop, unrolled = (
        unit_loop.run(body, x, rows, 3, training=False, collect=collect, unrolled=unrolled)
        for unrolled in (False, True)
    )
    # 1, 1 * 1 + 3 = 4, 4 * 2 + 6 = 14, 14 * 3 + 9 = 51
    for outcome in (loop, unrolled):
        np.testing.assert_array_equal(ops.convert_to_numpy(outcome.x), [51, 51])
        np.testing.assert_array_equal(ops.convert_to_numpy(outcome.state[0]), [4, 12, 34])
        assert (outcome.outputs is not None) == collect
        if collect:
            outputs = ops.convert_to_numpy(outcome.outputs)
            np.testing.assert_array_equal(outputs[:, 0], [4, 14, 51])
