"""Nets rebuilt with a change: what the model has is kept, or refused by name."""

from __future__ import annotations

import re
import warnings

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNet, ResNetSpec, build
from keras_resnet.finetune import with_classes, with_input_channels
from keras_resnet.nets.named_weights import classifier_of, read_weights
from keras_resnet.weights.rebuild import (
    clone_as_float32,
    copy_weights,
    rebuild,
    restack,
    without_activation,
)

SPEC = ResNetSpec("tiny", (1, 3), (4, 8), stem="cifar", classes=3, input_size=8)
PIXELS = PreprocessSpec((8, 8), (127.5,), (127.5,))


def _run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def _images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, 8, 8, channels)).astype("float32")


def _with_front(randomize, **form: object) -> ResNet:
    """A net after a Rescaling and a convolution, which has weights."""
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Rescaling(1 / 255, name="scale")(inputs)
    x = keras.layers.Conv2D(3, 1, name="colours")(x)
    model = build(SPEC, input_tensor=x, **form)
    randomize(model, 1)
    model.preprocess = PIXELS
    return model


@pytest.mark.parametrize("stacked", [False, True])
def test_layers_before_the_net_are_kept(randomize, stacked):
    model, x = _with_front(randomize, stacked=stacked), _images(2)
    assert model.front == ("scale", "colours")
    assert not {"scale", "colours"} & read_weights(model).keys()
    wanted = _run(model, x)
    for twin in (restack(model, stacked=not stacked), clone_as_float32(model)):
        assert twin.front == ("scale", "colours")
        names = [[layer.name for layer in net.layers[:3]] for net in (model, twin)]
        assert names[0] == names[1]
        assert twin.preprocess == PIXELS
        np.testing.assert_allclose(_run(twin, x), wanted, rtol=1e-4, atol=1e-5)
    seven = with_classes(model, 7)
    assert seven.output_shape == (None, 7)
    maps = [keras.Model(net.input, net.get_layer("pool").output) for net in (model, seven)]
    np.testing.assert_allclose(_run(maps[1], x), _run(maps[0], x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="before the net, which fix its input: scale, colours"):
        with_input_channels(model, 1)


def test_layers_before_the_net_are_fused_and_folded_with_it(randomize):
    spec = ResNetSpec("rep", (2,), (4,), "repvgg", stem="unit", classes=3)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Normalization(mean=3.0, variance=4.0)(inputs)
    x = keras.layers.Conv2D(3, 1, name="colours")(x)
    model = build(spec.replace(input_size=16), input_tensor=x)
    randomize(model, 1)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    for deployed in (keras_resnet.reparam.fuse(model), keras_resnet.fold_batch_norm(model)):
        np.testing.assert_allclose(_run(deployed, images), _run(model, images), atol=1e-4)


def test_a_net_without_top_keeps_its_pool_and_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(SPEC, include_top=False, pooling="max", seed=1)
    keras.config.set_dtype_policy("float32")
    twin = with_classes(model, 5, seed=2)
    assert isinstance(twin.get_layer("pool"), keras.layers.GlobalMaxPooling2D)
    assert twin.get_layer("stage1_unit1_conv1").compute_dtype == "bfloat16"
    assert twin.get_layer("logits").compute_dtype == "float32"
    again = clone_as_float32(twin)
    assert isinstance(again.get_layer("pool"), keras.layers.GlobalMaxPooling2D)
    kernel, bias = twin.get_layer("logits").get_weights()
    x = _images()
    wanted = _run(model, x).astype("float32") @ kernel + bias
    np.testing.assert_allclose(_run(twin, x), wanted, rtol=0.02, atol=0.02)


def test_input_is_kept():
    tensor = keras.Input(batch_shape=(4, 8, 8, 3), dtype="uint8", name="photo")
    twin = rebuild(build(SPEC, input_tensor=tensor))
    assert (twin.inputs[0].name, twin.inputs[0].dtype) == ("photo", "uint8")
    assert twin.input_shape == (4, 8, 8, 3)


@pytest.mark.parametrize("change", [{"norm_sync": False}, {"name": "other"}])
def test_layers_inside_are_not_lost_with_another_spec(change):
    net = build(SPEC)
    x = keras.layers.Dropout(0.5, name="drop")(net.get_layer("pool").output)
    model = ResNet(net.input, net.get_layer("logits")(x), name="dropping")
    model._describe(net.spec, ())
    with pytest.raises(ValueError, match="does not create and that would be lost: drop"):
        rebuild(model, spec=SPEC.replace(**change))
    with pytest.raises(ValueError, match="does not create and that would be lost: drop"):
        clone_as_float32(model)


def _regularized() -> ResNet:
    """A net with a frozen stem, a regularizer and a constraint, made anew as Keras applies them."""
    config = build(SPEC).get_config()
    for layer in config["layers"]:
        if layer["config"]["name"] in ("stage1_unit1_conv1", "stage2_unit2_conv1"):
            layer["config"]["kernel_regularizer"] = keras.regularizers.serialize(
                keras.regularizers.L2(0.25)
            )
            layer["config"]["kernel_constraint"] = keras.constraints.serialize(
                keras.constraints.MaxNorm(2.0)
            )
    model = ResNet.from_config(config)
    for name in ("stem_conv", "stage2_unit2_norm1"):
        model.get_layer(name).trainable = False
    return model


@pytest.mark.parametrize("change", [{"classes": 5}, {"seed": 3}, {"shape": (8, 8, 1)}])
def test_flags_and_regularizers_are_kept(change):
    model = _regularized()
    twin = rebuild(model, **change)
    assert len(twin.losses) == len(model.losses) == 2
    conv = twin.get_layer("stage2_unit2_conv1")
    assert conv.get_config()["kernel_regularizer"]["config"] == {"l2": 0.25}
    assert conv.kernel.constraint.max_value == 2.0
    frozen = {layer.name for layer in twin.layers if layer.weights and not layer.trainable}
    assert frozen == {"stem_conv", "stage2_unit2_norm1"}


def test_a_new_classifier_is_trained():
    model = build(SPEC)
    model.trainable = False
    twin = with_classes(model, 5)
    assert [weight.name for weight in twin.trainable_weights] == ["kernel", "bias"]


def test_settings_of_single_units_in_stacks():
    model = _regularized()
    message = "cannot keep the settings of single layers: 1 frozen, 1 with a regularizer or constr"
    with pytest.warns(UserWarning, match=message):
        stacked = restack(model, stacked=True)
    assert not stacked.get_layer("stem_conv").trainable
    whole = keras_resnet.finetune.freeze(build(SPEC, stacked=True), through=2)
    norms = keras_resnet.finetune.freeze_norms(build(SPEC, stacked=True))
    for net in (whole, norms):
        unrolled = restack(net, stacked=False)
        names = {layer.name for layer in unrolled.layers if layer.weights and not layer.trainable}
        again = restack(unrolled, stacked=True)
        assert len(again.trainable_weights) == len(net.trainable_weights)
        assert ("stage2_unit3_conv1" in names) == (net is whole)
        assert "stage2_unit3_norm1" in names


def test_several_precisions_are_refused():
    model = build(SPEC)
    model.get_layer("stage1_unit1_conv1").dtype_policy = "mixed_bfloat16"
    with pytest.raises(ValueError, match="several dtype policies, .*: float32, mixed_bfloat16"):
        rebuild(model)


def test_clones_and_subclasses_take_spec_and_preprocessing():
    class Mine(ResNet):
        pass

    model = build(SPEC, seed=1)
    model.preprocess = PIXELS
    for copy in (keras.models.clone_model(model), Mine(model.input, model.output)):
        with pytest.raises(ValueError, match="has no ResNetSpec.*model.describe_as"):
            _ = copy.spec
        assert copy.describe_as(model) is copy
        assert (copy.spec, copy.preprocess) == (SPEC, PIXELS)
        assert copy.pyramid_outputs.keys() == {"P2", "P3"}
        assert with_classes(copy, 4).output_shape == (None, 4)
    with pytest.raises(ValueError, match="must have the same layers. They differ in: logits"):
        copy.describe_as(build(SPEC, include_top=False))


# One classifier, under two names.


def test_the_classifier_is_one_layer_with_its_activation():
    names = [layer.name for layer in build(SPEC, classifier_activation="softmax").layers]
    assert names[-2:] == ["pool", "predictions"]
    assert build(SPEC).layers[-1].name == "logits"
    linear = build(SPEC, classifier_activation="linear")
    assert rebuild(linear).layers[-1].name == "predictions"


def _in_two_layers() -> ResNet:
    """A net as earlier versions built it: `logits` and an `Activation` named `predictions`."""
    net = build(SPEC, seed=1)
    chances = keras.layers.Activation("softmax", name="predictions")(net.output)
    model = ResNet(net.input, chances, name="tiny")
    model._describe(SPEC, ())
    return model


@pytest.mark.parametrize("stacked", [False, True])
def test_nets_with_activation_and_classifier_apart(tmp_path, stacked):
    old, x = _in_two_layers(), _images()
    wanted = _run(old, x)
    old.save(tmp_path / "old.keras")
    old.save_weights(tmp_path / "old.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "old.keras")
    np.testing.assert_array_equal(_run(loaded, x), wanted)
    for name in ("old.keras", "old.weights.h5"):
        new = build(SPEC, classifier_activation="softmax", stacked=stacked, seed=2)
        keras_resnet.weights.load(new, tmp_path / name)
        np.testing.assert_allclose(_run(new, x), wanted, atol=1e-6)
    new.set_weights([value * 0 for value in new.get_weights()])
    new.load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_allclose(_run(new, x), wanted, atol=1e-6)
    assert with_classes(old, 5).layers[-1].activation is keras.activations.softmax
    twin = rebuild(old)
    copy_weights(old, twin)
    np.testing.assert_allclose(_run(twin, x), wanted, atol=1e-6)


def test_without_activation():
    model, x = build(SPEC, classifier_activation="softmax"), _images()
    logits = without_activation(model)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(_run(logits, x)))
    np.testing.assert_allclose(probabilities, _run(model, x), rtol=1e-4, atol=1e-6)
    assert without_activation(logits) is logits
    assert classifier_of(build(SPEC, include_top=False)) is None
    with pytest.raises(ValueError, match="has no classifier"):
        without_activation(build(SPEC, include_top=False))
    chain = keras_resnet.analysis.Chain(model)
    np.testing.assert_allclose(_run(chain.twin, x), _run(logits, x), atol=1e-5)


# Weights beside those of the net, and files of another form.


def test_weights_of_layers_before_the_net_are_not_the_nets(tmp_path, randomize):
    plain = build(SPEC)
    randomize(plain, 3)
    model = _with_front(randomize)
    own = model.get_layer("colours").get_weights()
    plain.save(tmp_path / "net.keras")
    plain.save_weights(tmp_path / "net.weights.h5")
    for name in ("net.keras", "net.weights.h5"):
        path = tmp_path / name
        randomize(model, 1)
        assert keras_resnet.weights.load(model, path).complete
        np.testing.assert_array_equal(
            read_weights(model)["stem_conv"], read_weights(plain)["stem_conv"]
        )
        np.testing.assert_array_equal(model.get_layer("colours").get_weights()[0], own[0])
    model.save(tmp_path / "front.keras")
    loaded = keras.saving.load_model(tmp_path / "front.keras")
    assert loaded.front == ("scale", "colours")
    assert keras_resnet.weights.load(plain, tmp_path / "front.keras").complete


@pytest.mark.parametrize("stacked", [False, True])
def test_mismatches_are_skipped_by_name_across_forms(tmp_path, stacked):
    source = build(SPEC, stacked=stacked, seed=1)
    source.save_weights(tmp_path / "net.weights.h5")
    target = build(SPEC, classes=5, stacked=not stacked, seed=2)
    head = read_weights(target)["logits"]
    message = r"1 of 21 layers with weights were skipped .* 'logits' has shapes"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        target.load_weights(tmp_path / "net.weights.h5", skip_mismatch=True)
    (warning,) = (each for each in warned if each.category is UserWarning)
    assert re.match(message, str(warning.message))
    given, stored = read_weights(target), read_weights(source)
    np.testing.assert_array_equal(given.pop("logits")[0], head[0])
    for name, arrays in given.items():
        for array, wanted in zip(arrays, stored[name], strict=True):
            np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_whole_models_in_hdf5(tmp_path, stacked):
    model, x = build(SPEC, stacked=stacked, seed=1), _images()
    model.preprocess = PIXELS
    model.save(tmp_path / "net.h5")
    loaded = keras.saving.load_model(tmp_path / "net.h5", compile=False)
    assert type(loaded) is ResNet
    assert (loaded.spec, loaded.preprocess) == (SPEC, PIXELS)
    np.testing.assert_array_equal(_run(loaded, x), _run(model, x))


@pytest.mark.parametrize("stacked", [False, True])
def test_files_of_the_other_form_load_with_the_layers_before_the_net(tmp_path, randomize, stacked):
    source, x = _with_front(randomize, stacked=stacked), _images(2)
    source.save_weights(tmp_path / "net.weights.h5")
    target = _with_front(randomize, stacked=not stacked)
    target.set_weights([weight + 1 for weight in target.get_weights()])
    target.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_allclose(_run(target, x), _run(source, x), rtol=1e-5, atol=1e-6)
    other = _with_front(randomize, stacked=not stacked, classes=4)
    kept = [weight + 1 for weight in other.get_weights()]
    other.set_weights(kept)
    with pytest.raises(ValueError, match="'logits' has shapes"):
        other.load_weights(tmp_path / "net.weights.h5")
    for weight, value in zip(other.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(weight, value)


@keras.saving.register_keras_serializable(package="app")
class Classifier(ResNet):
    """A user's subclass."""


@pytest.mark.parametrize("name", ["net.h5", "net.keras"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_of_a_users_subclass(tmp_path, name):
    net = build(SPEC, seed=1)
    model, x = Classifier(net.input, net.output, name="mine"), _images()
    model.describe_as(net)
    model.preprocess = PIXELS
    model.save(tmp_path / name)
    objects = {"Classifier": Classifier}  # HDF5 files hold the bare name of a class
    loaded = keras.saving.load_model(tmp_path / name, custom_objects=objects, compile=False)
    read = keras_resnet.from_pretrained(tmp_path / name)
    assert (type(loaded), type(read)) == (Classifier, ResNet)
    for each in (loaded, read):
        assert (each.spec, each.preprocess) == (SPEC, PIXELS)
        np.testing.assert_array_equal(_run(each, x), _run(model, x))
