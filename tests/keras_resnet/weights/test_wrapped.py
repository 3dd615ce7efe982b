"""A net in another library's wrapping: the same weights as in a plain file."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
import pickle
import re
import zipfile
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


def _numbered(tensors: Tensors) -> Tensors:
    """Names of `Sequential(*net.children())`."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "fc": 7}
    return {
        re.sub(r"^\w+", lambda match: str(numbers[match[0]]), name): array
        for name, array in tensors.items()
    }


def _renamed_backbone(tensors: Tensors, source: keras.Model) -> Tensors:
    """Names of transformers' `ResNetModel`."""
    theirs = dump_tensors(source, LAYOUTS["hf"])
    return {name.removeprefix("resnet."): array for name, array in theirs.items()}


ONE = np.ones((3, 3), "float32")
WRAPPED = {
    "DataParallel": ("module.", lambda t: _prefixed(t, "module.")),
    "torch.compile": ("module._orig_mod.", lambda t: _prefixed(t, "module._orig_mod.")),
    "Lightning": (
        "state_dict.model.",
        lambda t: {"state_dict": _prefixed(t, "model."), "epoch": 1},
    ),
    "mmpretrain": (
        "state_dict.backbone.",
        lambda t: {"state_dict": _prefixed(_body(t), "backbone.") | {"head.fc.weight": ONE}},
    ),
    "detection": (
        "backbone.body.",
        lambda t: _prefixed(_body(t), "backbone.body.", **{"rpn.head.conv.weight": ONE}),
    ),
    "SimCLR": ("", lambda t: {**_body(t), "fc.0.weight": ONE, "fc.3.weight": ONE}),
    "SWA": ("module.", lambda t: _prefixed(t, "module.", n_averaged=np.asarray(3))),
    "net": ("net.", lambda t: {"net": t, "acc": 91.0}),
    "weights": ("weights.", lambda t: {"weights": t}),
    "model_state_dict": (
        "model_state_dict.",
        lambda t: {"model_state_dict": t, "optimizer": {"state": {0: {"momentum": ONE}}}},
    ),
    "teacher": ("teacher.backbone.", lambda t: {"teacher": _prefixed(_body(t), "backbone.")}),
    "Sequential": ("", _numbered),
    "Sequential in SimCLR": (
        "f.",
        lambda t: _prefixed(_numbered(_body(t)), "f.", **{"g.0.weight": ONE}),
    ),
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.filterwarnings("ignore:.*left out:UserWarning")
def test_a_wrapped_net_is_found(source, tensors, how):
    prefix, wrap = WRAPPED[how]
    opened = open_weights(wrap(tensors))
    assert opened.prefix == prefix
    model = from_pretrained(opened, include_top=False, input_shape=(None, None, 3))
    _equal(model, source)
    report = weights.load(_random(model, 5), wrap(tensors))
    assert report.complete
    _equal(model, source)


def test_a_backbone_of_transformers(source, tensors):
    model = from_pretrained(_renamed_backbone(tensors, source), include_top=False)
    _equal(model, source)


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


def test_trained_and_averaged_weights_are_two_nets(tensors):
    with pytest.raises(ValueError, match="choose one: prefix='state_dict.', prefix='state_dict_em"):
        open_weights({"state_dict": tensors, "state_dict_ema": tensors | {"bn1.bias": ONE[0]}})


def test_a_head_of_several_layers_is_named(tensors, source):
    values = {**_body(tensors), "fc.0.weight": np.ones((8, 8)), "fc.3.weight": np.ones((2, 8))}
    message = "it holds fc.0.weight (8, 8), fc.3.weight (2, 8): use `include_top=False` to read"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_pretrained(values)
    with pytest.raises(ValueError, match=re.escape(message)):
        weights.load(source, values)
    with pytest.warns(UserWarning, match="left out 2 of fc"):
        model = from_pretrained(values, include_top=False)
    _equal(model, source)


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


def test_folders(tmp_path, source):
    theirs = dump_tensors(source, LAYOUTS["hf"])
    write_safetensors(tmp_path / "model.safetensors", theirs)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    _equal(from_pretrained(tmp_path), source)
    (tmp_path / "run").mkdir()
    source.save(tmp_path / "run" / "model.keras")
    _equal(from_pretrained(tmp_path / "run"), source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match="holds no weights: one of model.safetensors, .*nothing"
    ):
        from_pretrained(tmp_path / "empty")


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


def _sequential(source: keras.Model) -> keras.Model:
    body = build(BASIC, include_top=False, pooling="avg")
    for layer in body.layers:
        layer.set_weights(source.get_layer(layer.name).get_weights() if layer.weights else [])
    return keras.Sequential([keras.Input((16, 16, 3)), body, keras.layers.Dense(2, name="mine")])


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_our_net_in_another_model(tmp_path, source, ending):
    model = _sequential(source)
    path = tmp_path / f"net{ending}"
    model.save_weights(path) if ending == ".weights.h5" else model.save(path)
    net = BASIC if ending == ".weights.h5" else None
    with pytest.raises(ValueError, match="has no classifier .*mine.*: use `include_top=False`"):
        from_pretrained(path, net)
    with pytest.warns(UserWarning, match="left out 2 of .*mine"):
        _equal(from_pretrained(path, net, include_top=False), source)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_our_whole_model_in_h5(tmp_path, source):
    source.save(tmp_path / "net.h5")
    _equal(from_pretrained(tmp_path / "net.h5"), source)


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
    with pytest.raises(ValueError, match="the backbone of keras-retinanet"):
        open_weights(without)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bn_data/beta", "qubvel's classification_models"),
        ("layer1.0.conv1.0.weight", r"a video net of torchvision \(r3d_18"),
    ],
)
def test_nets_that_are_not_built_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        open_weights({name: ONE})


def _caffe2(tensors: Tensors) -> Tensors:
    """Names of detectron2's MSRA nets, whose norms are an affine map."""
    theirs = {}
    for name, array in tensors.items():
        unit = re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn|downsample\.)(\d)\.(weight|bias)", name)
        if unit is not None:
            stage, block, kind, number, role = unit.groups()
            short = kind == "downsample."
            branch = "branch1" if short else "branch2" + " abc"[int(number)]
            conv = kind == "conv" or (short and number == "0")
            end = "w" if conv else {"weight": "bn_s", "bias": "bn_b"}[role]
            theirs[f"res{int(stage) + 1}_{block}_{branch}_{end}"] = array
        elif name in ("conv1.weight", "bn1.weight", "bn1.bias"):
            new = {"conv1.weight": "conv1_w", "bn1.weight": "res_conv1_bn_s"}
            theirs[new.get(name, "res_conv1_bn_b")] = array
    return theirs


def test_detectron2_in_caffe2s_names(tmp_path):
    model = _random(build(BOTTLENECK, include_top=False))
    for layer in model.layers:
        if layer.name.endswith(("norm", "norm1", "norm2", "norm3")):
            scale, offset, mean, variance = layer.get_weights()
            layer.set_weights([scale, offset, 0 * mean, 0 * variance + np.float32(1 - 1e-5)])
    theirs = _caffe2(dump_tensors(model, LAYOUTS["torchvision"]))
    path = tmp_path / "R-50.pkl"
    for protocol in (2, 5):
        content = {"model": theirs, "__author__": "MSRA", "matching_heuristics": True}
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        opened = open_weights(path)
        assert opened.spec.stride_placement == "1x1"
        assert "stride_placement" in opened.assumed
        _equal(from_pretrained(path, include_top=False), model)


def test_detectron2_in_its_own_names(source, tensors):
    theirs = {}
    for name, array in _body(tensors).items():
        new = re.sub(r"layer(\d)", lambda match: f"backbone.bottom_up.res{int(match[1]) + 1}", name)
        new = re.sub(r"bn(\d)", r"conv\1.norm", new)
        new = new.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        if new.startswith("conv1"):
            new = f"backbone.bottom_up.stem.{new}"
        theirs[new] = array
    opened = open_weights({"model": theirs})
    assert opened.prefix == "model.backbone.bottom_up."
    assert "stride_placement" in opened.assumed
    _equal(from_pretrained(opened, include_top=False), source)


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


# Objects beside the tensors.


class Settings:
    """A user's class."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def _torch_file(path: pathlib.Path, value: Any) -> pathlib.Path:
    """Writes a zip checkpoint without tensors of PyTorch: its arrays are NumPy's."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(value, protocol=2))
    return path


def test_objects_beside_the_tensors_are_left_out(tmp_path, tensors, source):
    beside = {
        "array": np.arange(4),
        "objects": np.array([None, "a"], dtype=object),
        "names": np.array(["a", "b"]),
        "set": {1, 2},
        "frozen": frozenset("ab"),
        "counts": collections.defaultdict(int, a=1),
        "path": pathlib.PurePosixPath("/a/b"),
        "date": datetime.datetime(2020, 1, 2),
        "args": argparse.Namespace(lr=0.1, inner=argparse.Namespace(a=1)),
        "settings": Settings(lr=0.1, values=[1, 2]),
        "class": Settings,
        "function": collections.OrderedDict,
        "keys": {(1, 2): 3, np.int64(4): 5},
        "complex": 3j,
        "bytes": b"x" * 100,
    }
    path = _torch_file(tmp_path / "net.pth", {"model": tensors, **beside})
    opened = open_weights(path)
    assert opened.prefix == "model."
    assert opened.left_out["argparse.Namespace"] == 1
    assert any(name.endswith("Settings") for name in opened.left_out)
    with pytest.warns(UserWarning, match=r"net.pth'.*left out 1 of array, 2 of numpy.ndarray, "):
        _equal(from_pretrained(path), source)


def test_a_pickled_model_is_answered_with_the_way(tmp_path):
    path = _torch_file(tmp_path / "net.pth", Settings(conv1=ONE))
    with pytest.raises(ValueError, match=r"object of '.*Settings'; .*torch.save\(model.state_dict"):
        open_weights(path)
