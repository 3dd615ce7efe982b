"""A net in another program's wrapping, beyond the cases of tests/keras_resnet/test_reports.py."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNetSpec, build, from_pretrained, weights
from keras_resnet.weights import open_weights
from keras_resnet.weights.files.tensor_file import write_safetensors
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.transfer import dump_tensors

# Most files here show less than the net computes; test_assumed.py has the warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not show:UserWarning")

BASIC = ResNetSpec("basic", (1, 1), (4, 8), classes=3, input_size=16)
BOTTLENECK = BASIC.replace(name="bottleneck", branch="bottleneck", stride_placement="3x3")
Tensors = dict[str, np.ndarray]


def _random(model: keras.Model, seed: int = 1) -> keras.Model:
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1.5, each.shape) for each in model.weights])
    return model


def _equal(one: keras.Model, other: keras.Model) -> None:
    """The two nets, or their common layers, hold the same weights."""
    common = [layer.name for layer in one.layers if layer.weights and layer.name != "logits"]
    assert len(common) > 10
    for name in common:
        pairs = [model.get_layer(name).get_weights() for model in (one, other)]
        for ours, theirs in zip(*pairs, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def source() -> keras.Model:
    return _random(build(BASIC))


@pytest.fixture(scope="module")
def tensors(source) -> Tensors:
    return dump_tensors(source, LAYOUTS["torchvision"])


def _prefixed(tensors: Tensors, prefix: str, **more: Any) -> Tensors:
    return {**{f"{prefix}{name}": array for name, array in tensors.items()}, **more}


def _body(tensors: Tensors) -> Tensors:
    return {name: array for name, array in tensors.items() if not name.startswith("fc.")}


ONE = np.ones((3, 3), "float32")


def test_counts_of_what_is_left_out(tensors):
    values = {"model": tensors, "optimizer": [ONE, ONE], "args": argparse.Namespace(lr=1)}
    opened = open_weights(values)
    assert opened.left_out == {"optimizer": 2, "argparse.Namespace": 1}
    assert opened.describe_rest() == (
        "prefix 'model.'; left out 2 of optimizer, 1 of argparse.Namespace"
    )
    with pytest.warns(UserWarning, match=r"left out 2 of optimizer, 1 of argparse.Namespace"):
        from_pretrained(values)


def test_several_nets_are_listed(source, tensors):
    both = {
        **_prefixed(tensors, "module.encoder_q."),
        **_prefixed({name: 2 * array for name, array in tensors.items()}, "module.encoder_k."),
    }
    message = "2 nets; choose one: prefix='module.encoder_q.', prefix='module.encoder_k.'"
    with pytest.raises(ValueError, match=re.escape(message)):
        open_weights(both)
    for prefix in ("module.encoder_q.", "module.encoder_q"):
        with pytest.warns(UserWarning, match="left out .* of module.encoder_k"):
            _equal(from_pretrained(both, prefix=prefix), source)
    nested = {"student": _prefixed(tensors, "module."), "teacher": _prefixed(tensors, "module.")}
    assert open_weights(nested, prefix="teacher").prefix == "teacher.module."
    with pytest.raises(ValueError, match="no net under prefix='queue'. Prefixes with the names"):
        open_weights(both, prefix="queue")


def test_tensors_of_another_body_are_no_head(tensors):
    values = {**tensors, "layer1.0.attention.weight": ONE}
    with pytest.raises(ValueError, match=r"1 unexpected: layer1.0.attention.weight"):
        from_pretrained(values, include_top=False)


@pytest.mark.torch
def test_tensors_of_pytorch(tensors, source):
    import torch

    values = {name: torch.as_tensor(array) for name, array in tensors.items()}
    values["bn1.bias"] = values["bn1.bias"].bfloat16()
    source_bias = values["bn1.bias"].float().numpy()
    model = from_pretrained(values)
    np.testing.assert_array_equal(model.get_layer("stem_norm").get_weights()[1], source_bias)


def test_tensors_of_keras(tensors, source):
    values = {name: keras.ops.convert_to_tensor(array) for name, array in tensors.items()}
    _equal(from_pretrained(values), source)


def test_a_file_of_shards(tmp_path, source, tensors):
    names = sorted(tensors)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, chosen in parts.items():
        write_safetensors(tmp_path / file, {name: tensors[name] for name in chosen})
    table = {name: file for file, chosen in parts.items() for name in chosen}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    for path in (tmp_path, index):
        _equal(from_pretrained(path), source)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"No weights file at '.*b.safetensors', which"):
        from_pretrained(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(ValueError, match="which is not a plain file name"):
        from_pretrained(tmp_path)


def test_the_folder_of_a_run(tmp_path, source):
    (tmp_path / "run").mkdir()
    source.save(tmp_path / "run" / "model.keras")
    _equal(from_pretrained(tmp_path / "run"), source)


# Models of Keras with a net inside.


@pytest.fixture(scope="module")
def applied() -> keras.Model:
    """A net of keras.applications with a user's head."""
    theirs = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(theirs.output)
    x = keras.layers.Dense(8, name="dense")(x)
    return keras.Model(theirs.input, keras.layers.Dense(2, name="dense_1")(x))


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_a_users_head_on_keras_applications(tmp_path, applied, ending):
    path = tmp_path / f"net{ending}"
    applied.save(path) if ending == ".keras" else applied.save_weights(path)
    message = "it holds dense/0 (2048, 8), dense/1 (8,), dense_1/0 (8, 2), dense_1/1 (2,): use `i"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_pretrained(path)
    with pytest.warns(UserWarning, match="left out 2 of dense, 2 of dense_1"):
        model = keras_resnet.ResNet50(weights=path, include_top=False, input_shape=(32, 32, 3))
    x = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype("float32")
    inner = keras.Model(applied.input, applied.get_layer("conv5_block3_out").output)
    wanted, found = (keras.ops.convert_to_numpy(net(x, training=False)) for net in (inner, model))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_our_net_need_its_name(tmp_path, source):
    source.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(ValueError, match="does not say which: give its name or spec as `net`"):
        from_pretrained(tmp_path / "net.weights.h5")
    _equal(from_pretrained(tmp_path / "net.weights.h5", BASIC), source)


# Older libraries.


def test_names_of_keras_2(tmp_path):
    spec = keras_resnet.variants["keras_resnet50"].replace(
        depths=(2, 1), widths=(4, 8), stem_width=None, classes=3
    )
    model = _random(build(spec, input_shape=(32, 32, 3)))
    theirs = {}
    for name, array in dump_tensors(model, LAYOUTS["keras"]).items():
        layer, _, role = name.rpartition("/")
        match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer)
        if match is not None:
            kind = "res" if match[4] == "conv" else "bn"
            branch = "branch1" if match[3] == "0" else "branch2" + " abc"[int(match[3])]
            layer = f"{kind}{match[1]}{' ab'[int(match[2])]}_{branch}"
        layer = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1", "predictions": "fc1000"}.get(
            layer, layer
        )
        theirs[f"{layer}/{role}"] = array
    assert "res2b_branch2a/kernel" in theirs
    opened = open_weights(theirs)
    assert opened.spec.norm_eps == 1e-3
    assert "stem_pool" in opened.assumed
    _equal(from_pretrained(opened, input_shape=(32, 32, 3)), model)
    without = {name: array for name, array in theirs.items() if not name.endswith("bias")}
    assert open_weights(without).spec.padding == "same"  # keras-retinanet's backbone


# One and three dimensions.


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(tmp_path, dims):
    shape = (16,) * dims + (1,)
    model = _random(build(BASIC.replace(input_channels=1), dims=dims, input_shape=shape))
    weights.save(model, tmp_path / "net.safetensors")
    saved = from_pretrained(tmp_path / "net.safetensors", input_shape=shape)
    _equal(saved, model)
    tensors = dump_tensors(model, LAYOUTS["torchvision"])
    loaded = from_pretrained({"state_dict": _prefixed(tensors, "module.")})
    assert loaded.input_shape[-1] == 1
    _equal(loaded, model)
    assert weights.load(_random(saved, 3), tensors).complete
    _equal(saved, model)
    assert ("stem" in open_weights(tensors).assumed) == (dims == 3)


def _keras_retinanet(blocks: tuple[int, ...], width: int) -> keras.Model:
    """keras-resnet's `ResNet2D` with `bottleneck_2d`, written anew from its description."""
    layers = keras.layers
    inputs = keras.Input((37, 45, 3))
    x = layers.Conv2D(width, 7, 2, "same", use_bias=False, name="conv1")(inputs)
    x = layers.BatchNormalization(epsilon=1e-5, name="bn_conv1")(x)
    x = layers.MaxPooling2D(3, 2, "same")(layers.ReLU()(x))
    for stage, count in enumerate(blocks, start=2):
        for block in range(count):
            unit = f"{stage}{'a' if block == 0 else f'b{block}'}_branch"
            filters, stride = width * 2 ** (stage - 2), 2 if stage > 2 and block == 0 else 1
            y = x
            for part, size, out in (("2a", 1, 1), ("2b", 3, 1), ("2c", 1, 4)):
                y = layers.ZeroPadding2D(size // 2)(y)
                step = stride if part == "2a" else 1
                conv = layers.Conv2D(
                    filters * out, size, step, use_bias=False, name=f"res{unit}{part}"
                )
                y = layers.BatchNormalization(epsilon=1e-5, name=f"bn{unit}{part}")(conv(y))
                y = y if part == "2c" else layers.ReLU()(y)
            if block == 0:
                conv = layers.Conv2D(filters * 4, 1, stride, use_bias=False, name=f"res{unit}1")
                x = layers.BatchNormalization(epsilon=1e-5, name=f"bn{unit}1")(conv(x))
            x = layers.ReLU()(layers.Add()([y, x]))
    x = layers.Dense(3, activation="softmax", name="fc1000")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


@pytest.mark.parametrize("ending", ["h5", "weights.h5"])
def test_backbones_of_keras_retinanet(tmp_path, ending):
    theirs = _keras_retinanet((3, 2), 4)
    rng = np.random.default_rng(0)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, each.shape) for each in layer.weights])
    path = tmp_path / f"ResNet-50-model.keras.{ending}"
    theirs.save_weights(path) if ending == "weights.h5" else theirs.save(path)
    opened = open_weights(path)
    assert (opened.spec.padding, opened.spec.norm_eps, opened.spec.depths) == ("same", 1e-5, (3, 2))
    assert not {"padding", "norm_eps", "stride_placement", "conv_bias"} & {*opened.assumed}
    assert opened.preprocess.channel_order == "bgr"
    ours = from_pretrained(path, input_shape=(37, 45, 3), classifier_activation="softmax")
    x = rng.normal(size=(2, 37, 45, 3)).astype("float32")
    wanted = keras.ops.convert_to_numpy(theirs(x))
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours(x)), wanted, rtol=1e-5, atol=1e-6)


def test_small_backbones_of_keras_retinanet_are_refused():
    with pytest.raises(ValueError, match="keras-resnet with basic branches .18 or 34 layers."):
        open_weights(
            {"res2a_branch2a/kernel": np.ones((3, 3, 4, 4)), "bn2a_branch2a/gamma": np.ones(4)}
        )
