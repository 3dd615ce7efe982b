"""Layers with the names of keras.applications: loops by name, files, and nets made from them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNetSpec, build, finetune, variants, weights
from keras_resnet.analysis import count, stage_table
from keras_resnet.nets.aliases import applications_name, own_names
from keras_resnet.nets.named_weights import layer_names, own_layers

SPEC = ResNetSpec("tiny", (2, 2), (4, 8), branch="bottleneck", classes=3, input_size=32)
V2 = SPEC.replace(order="pre")


def _theirs(spec: ResNetSpec = SPEC, **arguments):
    return build(spec, layer_names="keras.applications", seed=1, **arguments)


def _names(model):
    return [layer.name for layer in model.layers]


@pytest.fixture(scope="module")
def net():
    return _theirs()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")


@pytest.mark.usefixtures("undrawn")
def test_names_are_those_of_keras_applications():
    """All 177 layers of ResNet50, in order, so that slices such as `layers[:143]` agree too."""
    ours = keras_resnet.ResNet50(input_shape=(32, 32, 3))
    theirs = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3))
    assert _names(ours)[1:] == _names(theirs)[1:]
    assert len(ours.layers) == 177
    kinds = [(type(a).__mro__, type(b)) for a, b in zip(ours.layers, theirs.layers, strict=True)]
    assert all(theirs in mro for mro, theirs in kinds)
    # The loops of the tutorials.
    trained = False
    for layer in ours.layers:
        if layer.name == "conv5_block1_out":
            trained = True
        layer.trainable = trained
    assert sum(layer.trainable and bool(layer.weights) for layer in ours.layers) == 13
    assert _names(ours).index("conv4_block6_out") == _names(theirs).index("conv4_block6_out") == 142
    assert sum(layer.name.startswith("conv5") for layer in ours.layers) == 32


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        V2,
        SPEC.replace(branch="basic", se_reduction=4, stochastic_depth=0.2),
        V2.replace(branch="basic", depths=(1, 1)),
        SPEC.replace(stem="deep", shortcut="D", merge="rezero"),
        SPEC.replace(branch="basic", order="relu_only_pre"),
        variants["repvgg_a0"].replace(depths=(1, 2), widths=(4, 8)),
        variants["cifar_fixup20"].replace(depths=(1, 2), widths=(4, 8)),
    ],
    ids=lambda spec: f"{spec.branch}-{spec.order}-{spec.norm}-{spec.stem}",
)
def test_every_name_has_one_counterpart(spec):
    ours = build(spec, seed=1, input_shape=(32, 32, 3))
    theirs = _theirs(spec, input_shape=(32, 32, 3))
    first = spec.activates_first
    assert layer_names(theirs) == layer_names(ours)
    shown = [applications_name(name, preactivated=first) for name in layer_names(ours)]
    assert len({*shown}) == len(shown)
    assert [*own_names(shown, preactivated=first).values()] == layer_names(ours)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, layer in own_layers(theirs):
        assert theirs.get_layer(name) is theirs.get_layer(layer.name) is layer


def outputs(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images))


@pytest.fixture(scope="module", params=[SPEC, V2], ids=["post", "pre"])
def nets(request):
    """Spec, nets of both names to save, and nets to load into, with their own weights."""
    spec = request.param
    forms = ({}, {"layer_names": "keras.applications"})
    forms += ({**forms[1], "stacked": True},)
    targets = [build(spec, seed=2, **form) for form in forms]
    sources = [build(spec, seed=1), _theirs(spec)]
    return spec, sources, [(target, target.get_weights()) for target in targets]


@pytest.mark.parametrize("ending", ["keras", "weights.h5", "h5"])
def test_files_load_into_nets_of_either_names(tmp_path, image, nets, ending):
    """Files of earlier versions have the names of this package."""
    spec, sources, targets = nets
    for source in sources:
        for target, own in targets:
            target.set_weights(own)
        path = str(tmp_path / f"{source.layers[2].name}.{ending}")
        source.save_weights(path) if ending == "weights.h5" else source.save(path)
        wanted = outputs(source, image)
        for target, _ in targets[:2]:
            weights.load(target, path)
            np.testing.assert_array_equal(outputs(target, image), wanted)
        if ending == "weights.h5":
            target, _ = targets[2]
            target.load_weights(path)
            np.testing.assert_allclose(outputs(target, image), wanted, rtol=1e-5, atol=1e-6)
        else:
            again = keras.saving.load_model(path)
            assert _names(again) == _names(source)
            assert again.spec == spec
            np.testing.assert_array_equal(
                outputs(keras_resnet.from_pretrained(path), image), wanted
            )


def test_a_file_inside_another_model(tmp_path, net, image):
    app = keras.Sequential([keras.Input((32, 32, 3)), net, keras.layers.Dense(2, name="conv9_x")])
    app.save_weights(tmp_path / "app.weights.h5")
    target = build(SPEC, seed=2)
    report = weights.load(target, tmp_path / "app.weights.h5")
    np.testing.assert_array_equal(outputs(target, image), outputs(net, image))
    assert report.outside == {"conv9_x": 2}


def test_nets_made_from_a_net_keep_its_names(net, image):
    assert _names(finetune.with_classes(net, 5)) == _names(net)
    assert _names(finetune.with_input_channels(net, 1)) == _names(net)
    folded = keras_resnet.fold_batch_norm(net)
    assert "conv2_block1_1_conv" in _names(folded)
    np.testing.assert_allclose(outputs(folded, image), outputs(net, image), atol=1e-5)
    clone = keras.models.clone_model(net).describe_as(net)
    assert clone.get_layer("stage2_unit2_out").name == "conv3_block2_out"


def test_analyses_do_not_depend_on_names(net, image):
    ours = build(SPEC, seed=1)
    assert count(net) == count(ours)
    assert stage_table(net) == stage_table(ours)
    for level in ("C2", "C3", "pool", "conv2_block1_2_relu", "stage1_unit1_act2"):
        np.testing.assert_array_equal(
            keras_resnet.features(net, image, level), keras_resnet.features(ours, image, level)
        )
    np.testing.assert_array_equal(
        keras_resnet.gradcam(net, image), keras_resnet.gradcam(ours, image)
    )
    frozen = finetune.freeze(_theirs(), through=1)
    trained = [layer.name for layer in frozen.layers if layer.trainable and layer.weights]
    assert trained[0] == "conv3_block1_1_conv"
    assert len(frozen.trainable_weights) == len(finetune.freeze(ours, through=1).trainable_weights)
    assert net.pyramid_outputs.keys() == ours.pyramid_outputs.keys()


def test_names_are_checked():
    with pytest.raises(ValueError, match=r"must be 'own' or 'keras.applications'. Received: .*tf"):
        build(SPEC, layer_names="tf")
    with pytest.raises(ValueError, match="'stage4_unit3_out', which this net does not have"):
        _theirs().get_layer("conv5_block3_out")
