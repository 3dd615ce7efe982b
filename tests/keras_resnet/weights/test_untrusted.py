"""Hostile and damaged files through every public way in: one guarded reader, bounded costs."""

from __future__ import annotations

import io
import json
import os
import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNetSpec, build
from keras_resnet.nets.budget import kernel_parameters
from keras_resnet.weights import hub
from keras_resnet.weights.files.json_object import MAX_BYTES, parse_object, read_object
from keras_resnet.weights.files.tensor_file import read, write_safetensors
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.saved_nets import load_keras_file, read_saved
from keras_resnet.weights.transfer import load_tensors

SPEC = ResNetSpec("small", (3, 1), (8, 16), classes=3, input_size=16)


@pytest.fixture(scope="module")
def nets() -> dict[str, keras.Model]:
    return {"unrolled": build(SPEC, seed=1), "stacked": build(SPEC, seed=1, stacked=True)}


def by_load(model: keras.Model, path: str) -> None:
    keras_resnet.weights.load(model, path)


def by_load_weights(model: keras.Model, path: str) -> None:
    model.load_weights(path)


def by_from_pretrained(model: keras.Model, path: str) -> None:
    keras_resnet.from_pretrained(path, model.spec, input_shape=(16, 16, 3))


WAYS = [by_load, by_load_weights, by_from_pretrained]


def _vars(file: Any) -> Any:
    """Returns the group of the stem's variables."""
    groups = file["layers"].values()
    return next(each["vars"] for each in groups if each["vars"].attrs.get("name") == "stem_conv")


def _other(path: pathlib.Path) -> str:
    """Returns a file with another's numbers."""
    other = str(path.with_name("other.h5"))
    with h5py.File(other, "w") as file:
        file["x"] = np.full((3, 3, 3, 8), 7, "float32")
    return other


def _link(path: pathlib.Path, variables: Any) -> None:
    del variables["0"]
    variables["0"] = h5py.ExternalLink(_other(path), "x")


def _virtual(path: pathlib.Path, variables: Any) -> None:
    del variables["0"]
    layout = h5py.VirtualLayout((3, 3, 3, 8), "f4")
    layout[:] = h5py.VirtualSource(_other(path), "x", (3, 3, 3, 8))
    variables.create_virtual_dataset("0", layout)


def _external(path: pathlib.Path, variables: Any) -> None:
    del variables["0"]
    variables.create_dataset("0", (3, 3, 3, 8), "f4", external=[(_other(path), 0, 3 * 3 * 3 * 32)])


def _declared(path: pathlib.Path, variables: Any) -> None:
    del path, variables["0"]
    variables.create_dataset("0", (2**40,), "f4", chunks=(2**20,), compression="gzip")


def _nan(path: pathlib.Path, variables: Any) -> None:
    del path
    variables["0"][0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("form", ["unrolled", "stacked"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_link, "is a link, which is refused"),
        (_virtual, "is stored in other files"),
        (_external, "is stored in other files"),
        (_declared, "larger than the file allows"),
        (_nan, "not finite"),
    ],
)
def test_hdf5_of_this_package(tmp_path, nets, form, change, message):
    path = tmp_path / "net.weights.h5"
    nets[form].save_weights(path)
    with h5py.File(path, "r+") as file:
        change(path, _vars(file))
    before = nets[form].get_weights()
    for way in WAYS:
        with pytest.raises(ValueError, match=f"net.weights.h5'.*{message}"):
            way(nets[form], str(path))
    for now, then in zip(nets[form].get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.timeout(60)
def test_strings_over_which_hdf5_would_run_forever(tmp_path, nets):
    path = tmp_path / "net.weights.h5"
    nets["unrolled"].save_weights(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"GCOL") + 8 : data.index(b"GCOL") + 16] = bytes(8)
    path.write_bytes(data)
    for way in WAYS:
        with pytest.raises(ValueError, match="net.weights.h5' contains no readable weights"):
            way(nets["unrolled"], str(path))


def test_values_that_are_not_finite_on_request(tmp_path, nets):
    path, model = str(tmp_path / "net.weights.h5"), build(SPEC)
    nets["unrolled"].save_weights(path)
    with h5py.File(path, "r+") as file:
        _nan(tmp_path, _vars(file))
    target = build(SPEC)
    with pytest.raises(ValueError, match="1 of 21 layers .* first 'stem_conv'"):
        keras_resnet.weights.load(target, path)
    assert keras_resnet.weights.load(target, path, allow_nonfinite=True).complete
    assert np.isnan(target.get_layer("stem_conv").get_weights()[0]).sum() == 1
    target.load_weights(path, allow_nonfinite=True)
    foreign = {"conv1.weight": np.full((8, 3, 7, 7), np.inf, "float32")}
    with pytest.raises(ValueError, match="'conv1.weight' .* not finite; `allow_nonfinite=True` l"):
        load_tensors(model, foreign, LAYOUTS["torchvision"], source="it", strict=False)
    assert load_tensors(
        model, foreign, LAYOUTS["torchvision"], source="it", strict=False, allow_nonfinite=True
    ).loaded == ("conv1.weight",)


@pytest.mark.parametrize(("rows", "key"), [(3, "00.conv1"), (9, "00.conv1.kernel")])
def test_a_stack_that_does_not_hold_its_units(tmp_path, nets, rows, key):
    path = str(tmp_path / "net.weights.h5")
    nets["stacked"].save_weights(path)
    with h5py.File(path, "r+") as file:
        stack = next(
            each["vars"]
            for each in file["layers"].values()
            if "units" in str(each["vars"].attrs.get("name"))
        )
        if key not in stack:
            stack[key] = np.zeros((rows, 3, 3, 8, 8), "float32")
        stack.attrs["name"] = f"stage1_units2to{rows}"
    with pytest.raises(ValueError, match=f"The layer 'stage1_units2to{rows}' does not hold its un"):
        keras_resnet.weights.load(nets["stacked"], path)


# `.keras` archives: their config is read before anything is built.


def change_config(path: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = change(json.loads(members["config.json"]))
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, text if name == "config.json" else data)


def _in_spec(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    def change(config: dict[str, Any]) -> dict[str, Any]:
        config["config"]["spec"] |= fields
        return config

    return change


def _wide_layer(config: dict[str, Any]) -> dict[str, Any]:
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Conv2D":
            layer["config"]["filters"] = 10**7
    return config


def _wide_input(config: dict[str, Any]) -> dict[str, Any]:
    """By the shape that a layer is built with, not by a field of the layer."""
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Dense":
            layer["build_config"]["input_shape"][-1] = 10**9
    return config


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "change",
    [
        _in_spec(depths=[10**9, 1]),
        _in_spec(depths=[5000, 1]),
        _in_spec(widths=[10**7, 10**7]),
        _in_spec(widths=[4096, 16]),
        _in_spec(stem_width=65536),
        _in_spec(widths=[2048, 65536]),
        _in_spec(branch="bottleneck", inner_widths=[65536, 65536]),
        _in_spec(groups=10**6),
        _in_spec(depths=["a"]),
        _in_spec(classes=10**12),
        _wide_layer,
        _wide_input,
        lambda _: "[" * 10**6,
        lambda _: b'{"config": "' + b" " * (MAX_BYTES + 9) + b'"}',
        lambda _: "[]",
    ],
)
def test_configs_of_keras_archives(tmp_path, nets, change, monkeypatch):
    path = tmp_path / "net.keras"
    nets["unrolled"].save(path)
    change_config(path, change)
    for way in (
        lambda: keras_resnet.from_pretrained(path),
        lambda: load_keras_file(path),
        lambda: keras_resnet.ResNet50(weights=path),
    ):
        try:
            way()
        except ValueError as error:
            assert str(error).strip()
        else:
            # The layers of the config are not used where the spec is right.
            assert change in (_wide_layer, _wide_input)
            assert "load_keras_file" not in way.__code__.co_names
    # Keras gives variables that were made without values theirs at the end of any later scope.
    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", lambda *_, **__: 1 / 0)
    with keras.StatelessScope():
        pass


def test_nets_of_more_weights_than_are_built():
    assert kernel_parameters(keras_resnet.get_spec("resnet18")) == 11_678_912
    assert kernel_parameters(keras_resnet.get_spec("seresnet50")) == 28_017_856
    assert kernel_parameters(keras_resnet.get_spec("repvgg_a0")) == 9_084_320
    for spec, classes in ((SPEC.replace(widths=(65536, 65536)), 3), (SPEC, 2**30)):
        with pytest.raises(ValueError, match=r"make a net of .* weights .*; at most 4.3e\+09"):
            build(spec, classes=classes)


def test_an_archive_of_large_assets(tmp_path, nets):
    """Keras would unpack them to the disk."""
    path = tmp_path / "net.keras"
    nets["unrolled"].save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/x", b"0")
        archive.getinfo("assets/x").file_size = 10**10
    for way in (load_keras_file, keras_resnet.from_pretrained, read):
        with pytest.raises(ValueError, match="its members would expand to 1000[0-9]{7} bytes"):
            way(path)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "assets/x"])
def test_an_archive_that_holds_a_name_twice(tmp_path, nets, name):
    """Readers differ in which member they take: what is checked might not be what is read."""
    path = tmp_path / "net.keras"
    nets["unrolled"].save(path)
    for _ in range(2):
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(name, b"{}")
    for way in (by_load, by_from_pretrained, lambda _, file: load_keras_file(file)):
        with pytest.raises(ValueError, match=f"it holds '{name}' more than once"):
            way(nets["unrolled"], str(path))


def test_names_of_tensors_are_escaped(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"a\x1b[2J": np.zeros(3, "float32")})
    with pytest.raises(ValueError, match=r"Its tensors: a\\x1b\[2J \.\.\."):
        keras_resnet.from_pretrained(tmp_path / "x.safetensors")


def test_a_right_archive_passes(tmp_path, nets):
    nets["unrolled"].save(tmp_path / "net.keras")
    for model in (load_keras_file(tmp_path / "net.keras"), build(SPEC)):
        model.load_weights(tmp_path / "net.keras")
        for now, then in zip(model.get_weights(), nets["unrolled"].get_weights(), strict=True):
            np.testing.assert_array_equal(now, then)
    assert read_saved(str(tmp_path / "net.keras")).spec == SPEC


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10**6, "'x' is not a JSON file: it is nested too deep"),
        (b"\xff{}", "'x' is not a JSON file: "),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "'x' is not a JSON file: an object has the key 'b' 2"),
        ("[1]", "'x' does not contain a JSON object"),
        (b" " * (MAX_BYTES + 1), f"'x' has {MAX_BYTES + 1} bytes of JSON; at most {MAX_BYTES}"),
    ],
)
def test_json(text, message):
    with pytest.raises(ValueError, match=message):
        parse_object(text, "'x'")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["net.pth", "net.keras", "net.weights.h5", "net.safetensors"])
def test_a_pipe_in_the_place_of_a_file(tmp_path, nets, name):
    os.mkfifo(tmp_path / name)
    for way in (by_load, by_from_pretrained):
        with pytest.raises(ValueError, match=f"{name}' is not a regular file"):
            way(nets["unrolled"], str(tmp_path / name))
    with pytest.raises(ValueError, match="is not a regular file"):
        read_object(str(tmp_path / name))


def test_tensors_that_share_one_storage(tmp_path):
    """4,000 views of one megabyte would take 4 GB as soon as somebody copies each of them."""
    torch_name = "torch._utils\n_rebuild_tensor_v2\n"
    storage = pickle.dumps(("storage", 0, "0", "cpu", 2**18), 2)[2:-1]
    storage = storage.replace(b"K\x00", b"ctorch\nFloatStorage\n", 1) + b"Q"
    shared = b"(" + storage + b"q\xc8K\x00J\x00\x00\x04\x00\x85K\x01\x85\x89}tq\xc9"
    body = b"\x80\x02}(" + b"".join(
        b"X\x05\0\0\0" + f"{index:05d}".encode() + b"c" + torch_name.encode()
        + (shared if index == 0 else b"h\xc9") + b"R"
        for index in range(4000)
    ) + b"u."  # fmt: off
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", body)
        archive.writestr("net/data/0", bytes(2**20))
    (tmp_path / "net.pth").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="its tensors share storages and are together larger"):
        read(tmp_path / "net.pth")


def test_a_long_name_that_is_named_again_and_again(tmp_path):
    body = (
        b"\x80\x04X\x00\x00\x10\x00" + b"a" * 2**20 + b"\x94" + (b"h\x00h\x00\x930") * 9000 + b"N."
    )
    (tmp_path / "net.pth").write_bytes(body)
    with pytest.raises(ValueError, match="a name of over 1000 characters"):
        read(tmp_path / "net.pth")


TIMM, HF = {"architecture": "resnet50"}, {"model_type": "resnet"}
HUB = {"class_name": "ResNetBackbone", "config": {}}


@pytest.mark.parametrize(
    ("config", "processor"),
    [
        (TIMM | {"model_args": [1]}, {}),
        (TIMM | {"model_args": {"layers": 3}}, {}),
        (TIMM | {"pretrained_cfg": 3}, {}),
        (TIMM | {"mean": ["a"] * 3}, {}),
        (TIMM | {"input_size": 3}, {}),
        (TIMM | {"input_size": [10**9] * 3}, {}),
        (TIMM | {"crop_pct": 10**400}, {}),
        (TIMM | {"crop_pct": []}, {}),
        (HF | {"hidden_sizes": ["a"], "layer_type": "basic"}, {}),
        (HF, {"size": "a"}),
        (HF, {"size": 10**9}),
        (HF, {"resample": []}),
        (HF, {"image_mean": 3}),
        (HUB | {"config": 3}, {}),
        (HUB | {"config": {"stackwise_num_blocks": 3}}, {}),
        (HUB, {"config": 3}),
        (HUB, {"config": {"image_converter": {"config": {"image_size": 3}}}}),
    ],
)
def test_absurd_configs_of_the_hub(config, processor):
    with pytest.raises(ValueError, match="wrong type|must |not supported|could not convert"):
        hub.describe("owner/net", config, processor)


def test_an_absurd_depth_in_the_config_beside_weights(tmp_path):
    path = tmp_path / "net.safetensors"
    spec = keras_resnet.get_spec("resnet18").replace(depths=(1, 1, 1, 1), widths=(4, 4, 8, 8))
    keras_resnet.weights.save(build(spec, input_shape=(32, 32, 3), classes=2), path)
    (tmp_path / "config.json").write_text(json.dumps(HF | {"depths": [10**9, 1]}))
    with pytest.raises(ValueError, match=r"describes another net .* depths=\(1000000000, 1\)"):
        keras_resnet.from_pretrained(path)
