"""Files that nets were saved to: loaded by path, or refused with one clear error; copies."""

from __future__ import annotations

import functools
import pathlib
import re

import h5py
import keras
import numpy as np
import pytest

from keras_resnet import ResNet18, ResNetSpec, build, weights
from keras_resnet.weights.rebuild import clone_as_float32, copy_weights

TINY = ResNetSpec("tiny", (1, 1), (4, 8), stem="cifar", classes=3, input_size=8)


def _equal_weights(one: keras.Model, other: keras.Model) -> None:
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """A net with random weights that no test changes."""
    model = build(TINY)
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in model.weights])
    return model


@pytest.fixture(scope="module", params=[".weights.h5", ".keras"])
def path(request, trained, tmp_path_factory) -> pathlib.Path:
    """The net's file, of each kind."""
    path = tmp_path_factory.mktemp("saved") / f"net{request.param}"
    trained.save_weights(path) if request.param == ".weights.h5" else trained.save(path)
    return path


@functools.cache
def _built(spec: ResNetSpec, **form: object) -> keras.Model:
    return build(spec, **form)


def _net(spec: ResNetSpec = TINY, **form: object) -> keras.Model:
    """A net of zeros without preprocessing; built once per spec, reset at each call."""
    model = _built(spec, **form)
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    model.preprocess = None
    return model


def test_applications_take_a_path(resnet18, tmp_path):
    resnet18.save_weights(tmp_path / "net.weights.h5")
    model = ResNet18(weights=tmp_path / "net.weights.h5", classes=3, input_shape=(None, None, 3))
    _equal_weights(model, resnet18)


def test_load(path, trained):
    model = _net(classifier_activation="softmax", input_shape=(None, None, 3))
    weights.load(model, str(path))
    _equal_weights(model, trained)


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_weights_find_their_layer_by_name(tmp_path, trained, ending):
    """Even if the graph differs, and if the file also contains an optimizer."""
    source = keras.models.clone_model(trained)
    source.set_weights(trained.get_weights())
    source.compile("adam", "mse")
    file = tmp_path / f"net{ending}"
    source.save_weights(file) if ending == ".weights.h5" else source.save(file)
    start = keras.Input((8, 8, 3))
    model = build(TINY, input_tensor=keras.layers.Rescaling(2.0)(start))
    weights.load(model, file)
    _equal_weights(model, trained)


def test_keras_reads_what_the_package_reads(path, trained):
    if path.suffix == ".keras":
        theirs = keras.saving.load_model(path)
    else:
        theirs = _net()
        theirs.load_weights(path)
    _equal_weights(theirs, trained)


def test_refuses_h5_files_without_layers(tmp_path):
    h5py.File(tmp_path / "net.weights.h5", "w").close()
    with pytest.raises(
        ValueError, match="net.weights.h5' contains no readable weights: .*without Keras"
    ):
        weights.load(_net(), tmp_path / "net.weights.h5")


@pytest.mark.parametrize("name", ["imagenet", "net.h5", "net.pt", "", "a.keras", "a.weights.h5"])
def test_takes_files_only(tmp_path, name):
    """Published names are for `from_pretrained` and the applications."""
    with pytest.raises(FileNotFoundError, match=re.escape(f"No weights file at {name!r}")):
        weights.load(_net(), name)
    with pytest.raises(FileNotFoundError, match=r"The folder '.*' holds no weights: .*nothing$"):
        weights.load(_net(), tmp_path)


def test_a_net_without_the_top_takes_the_file_of_one_with_it(path, trained):
    model = _net(include_top=False)
    report = weights.load(model, path)
    assert report.left_out == ("logits",)
    assert report.complete
    for layer in model.layers:
        for one, other in zip(
            layer.get_weights(), trained.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_what_fits_is_loaded_where_asked(path, trained):
    model = _net(TINY.replace(depths=(2, 1), shortcut="A", classes=4))
    report = weights.load(model, path, strict=False)
    assert not report.complete
    assert report.missing == tuple(
        f"stage1_unit2_{kind}{number}" for number in (1, 2) for kind in ("conv", "norm")
    )
    assert set(report.unexpected) == {"stage2_unit1_shortcut_conv", "stage2_unit1_shortcut_norm"}
    assert report.misshaped == (("logits", (8, 3), (8, 4)),)
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").get_weights()[0], trained.get_weights()[0]
    )
    assert not model.get_layer("logits").get_weights()[0].any()


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_refuses_damaged_files(tmp_path, ending):
    file = tmp_path / f"net{ending}"
    file.write_bytes(b"not a file of this kind")
    with pytest.raises(
        ValueError, match="Received: a file that begins with b'not a file"
    ) as caught:
        weights.load(_net(), file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": (4, 12)},
        {"depths": (2, 1)},
        {"shortcut": "A"},
        {"conv_bias": True},
        {"classes": 4},
        {"order": "pre"},  # Keras's own load_weights accepts these
        {"merge": "none"},
    ],
    ids=str,
)
def test_refuses_another_architecture(path, changes):
    model = _net(TINY.replace(name="target", **changes))
    with pytest.raises(ValueError, match=r"^Weights of .* do not fit target: ") as caught:
        weights.load(model, path)
    assert "\n" not in str(caught.value)
    assert not any(weight.any() for weight in model.get_weights())


def test_mismatches_name_the_layers(trained):
    target = _net(TINY.replace(name="target", shortcut="A", classes=4))
    message = (
        "Weights of tiny do not fit target: no 'stage2_unit1_shortcut_conv' in the target; "
        "no 'stage2_unit1_shortcut_norm' in the target; "
        "'logits' has shapes [(8, 3), (3,)], not [(8, 4), (4,)]"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        copy_weights(trained, target)
    with pytest.raises(ValueError, match=r"no 'stage1_unit2_conv1' in the source; .*; and 4 more"):
        copy_weights(trained, _net(TINY.replace(depths=(2, 2))))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_clone_as_float32(policy, randomize):
    keras.config.set_dtype_policy(policy)
    model = build(TINY, input_shape=(None, None, 3), classes=5)
    randomize(model, 1)
    twin = clone_as_float32(model)
    assert keras.config.dtype_policy().name == policy
    assert {layer.compute_dtype for layer in twin.layers} == {"float32"}
    assert twin.output_shape == (None, 5)
    assert twin.spec == model.spec
    _equal_weights(model, twin)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    wanted = twin.predict(x, verbose=0)
    output = model.predict(x, verbose=0)
    np.testing.assert_allclose(output, wanted, atol=0.03 * np.abs(wanted).max())
    assert not np.array_equal(output, wanted)


def test_clone_as_float32_gives_the_policy_back_on_errors(monkeypatch):
    keras.config.set_dtype_policy("mixed_float16")
    model = build(TINY)
    monkeypatch.setattr(ResNetSpec, "replace", lambda spec, **changes: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clone_as_float32(model)
    assert keras.config.dtype_policy().name == "mixed_float16"


def test_clone_as_float32_keeps_the_head():
    twin = clone_as_float32(build(TINY, classifier_activation="softmax", name="mine"))
    assert twin.name == "mine"
    assert twin.get_layer("predictions").activation is keras.activations.softmax
    with pytest.raises(ValueError, match="has no layer 'logits': build it with include_top=True"):
        clone_as_float32(build(TINY, include_top=False))


@pytest.mark.tf
def test_clone_as_float32_drops_synchronized_norms():
    twin = clone_as_float32(build(TINY.replace(norm_sync=True)))
    assert twin.spec == TINY
    assert not twin.get_layer("stem_norm").synchronized


def test_a_file_of_the_same_layers_and_another_function(tmp_path, trained):
    """Names and shapes agree; the spec in the file differs."""
    trained.save(tmp_path / "net.keras")
    model = _net(TINY.replace(norm_eps=1e-3, padding="same"))
    message = "its net has padding='symmetric', not 'same'; norm_eps=1e-05, not 0.001"
    with pytest.raises(ValueError, match=message):
        weights.load(model, tmp_path / "net.keras")


def test_our_own_file_says_what_net_it_holds(tmp_path, trained):
    trained.save(tmp_path / "net.keras")
    model = weights.from_pretrained(tmp_path / "net.keras")
    assert model.spec == trained.spec
    for one, other in zip(trained.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    headless = weights.from_pretrained(tmp_path / "net.keras", include_top=False, pooling="avg")
    assert headless.output_shape == (None, 8)
    with pytest.raises(ValueError, match="for another head, use `keras_resnet.finetune.with_cl"):
        weights.from_pretrained(tmp_path / "net.keras", classes=7)
