"""Files of weights as arrays by name, of each format; hostile and damaged ones are refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import pickle
import sys
import zipfile
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from keras_resnet.hdf5 import read_model_config
from keras_resnet.weights.files import tensor_file
from keras_resnet.weights.files.tensor_file import file_sha256, read, write_safetensors

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def is_read(path: Any, kind: str, names: list[str]) -> tensor_file.TensorFile:
    """Reads a file, and checks all but its arrays."""
    file = read(path)
    assert (file.path, file.kind, list(file.tensors)) == (str(path), kind, names)
    assert file.sha256 == hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    assert file.sha256 == file_sha256(path)
    return file


# safetensors


def test_safetensors(tmp_path):
    path = tmp_path / "net.bin"
    halves = {"half": VALUES.astype("f2"), "bfloat": VALUES.astype(ml_dtypes.bfloat16)}
    others = {"float": VALUES, "count": np.array(3), "flag": np.array([True])}
    safetensors.numpy.save_file(halves | others, path, {"about": "this"})
    file = is_read(path, "safetensors", ["bfloat", "count", "flag", "float", "half"])
    assert file.metadata == {"about": "this"}
    for name, values in (halves | others).items():
        np.testing.assert_array_equal(file.tensors[name], values.astype(np.float64))
    assert {str(file.tensors[name].dtype) for name in ("half", "bfloat", "float")} == {"float32"}
    assert (file.tensors["count"].dtype, file.tensors["count"].shape) == (np.int64, ())


def test_safetensors_without_metadata(tmp_path):
    safetensors.numpy.save_file({"a": VALUES}, tmp_path / "a")
    assert is_read(tmp_path / "a", "safetensors", ["a"]).metadata == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "not fully covered|MetadataIncompleteBuffer"),
        (lambda data: data + b"\0", "not fully covered|MetadataIncompleteBuffer"),
        (lambda data: data[:20], "net' is not a readable safetensors file"),
        (lambda data: (2**31).to_bytes(8, "little") + data[8:], "(?i)header ?too ?large"),
        (lambda data: data.replace(b"F32", b"F99"), "net' is not a readable safetensors file"),
        (lambda data: data.replace(b"[2,3]", b"[2,9]"), "net' is not a readable safetensors file"),
        (lambda data: data.replace(b"F32", b"XXX"), "net' is not a readable safetensors file"),
    ],
)
def test_damaged_safetensors(tmp_path, change, message):
    path = tmp_path / "net"
    path.write_bytes(change(safetensors.numpy.save({"a": VALUES})))
    with pytest.raises(ValueError, match=message):
        read(path)


def test_a_type_that_weights_have_not(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "net").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(ValueError, match="'a' in .*net' has the type float8|not a readable safe"):
        read(tmp_path / "net")


def test_writing_safetensors(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"older")
    arrays = {
        "turned": VALUES.T,
        "double": VALUES.astype(">f8"),
        "scalar": np.array(3),
        "empty": np.zeros((0, 3)),
        "stepped": VALUES[:, ::2],
    }
    write_safetensors(path, arrays, {"format": "pt"})
    assert os.listdir(tmp_path) == ["net.safetensors"]
    other = tmp_path.parent / "other"
    other.write_bytes(b"")
    assert path.stat().st_mode == other.stat().st_mode  # as readable as any new file
    file = read(path)
    assert file.metadata == {"format": "pt"}
    for name, array in arrays.items():
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        assert (file.tensors[name].dtype, file.tensors[name].shape) == (kind, array.shape)
        np.testing.assert_array_equal(file.tensors[name], array)


def test_writing_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"older")

    def fails(old: str, new: str) -> None:
        assert pathlib.Path(old).stat().st_size > 0
        raise OSError("full")

    monkeypatch.setattr("keras_resnet.weights.files.tensor_file.os.replace", fails)
    with pytest.raises(OSError, match="full"):
        write_safetensors(path, {"a": VALUES})
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["net.safetensors"]


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}])
def test_metadata_are_strings(tmp_path, metadata):
    with pytest.raises(ValueError, match="`metadata` must map strings to strings. Received: met"):
        write_safetensors(tmp_path / "net", {"a": VALUES}, metadata)
    assert os.listdir(tmp_path) == []


def test_without_the_package(tmp_path, monkeypatch):
    path = tmp_path / "net"
    write_safetensors(path, {"a": VALUES})
    for name in [name for name in sys.modules if name.split(".")[0] == "safetensors"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'keras3-resnet\[weights\]'"):
        read(path)
    with pytest.raises(ImportError, match=r"pip install 'keras3-resnet\[weights\]'"):
        write_safetensors(path, {"a": VALUES})


# PyTorch


def test_a_published_checkpoint(shared):
    file = read(shared / "weights" / "resnet20-12fca82f.th")
    assert (file.kind, len(file.tensors), file.sha256[:8]) == ("torch", 97, "12fca82f")
    assert file.metadata == {"best_prec1": pytest.approx(91.78)}


@pytest.mark.torch
@pytest.mark.parametrize("as_zip", [True, False])
def test_a_checkpoint(tmp_path, as_zip):
    torch = pytest.importorskip("torch")
    value = {"model": {"module.a": torch.ones(2).half()}, "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(value, tmp_path / "net", _use_new_zipfile_serialization=as_zip)
    file = is_read(tmp_path / "net", "torch", ["model.module.a"])
    assert file.metadata == {"epoch": 3}
    assert file.tensors["model.module.a"].dtype == np.float32


def test_a_hostile_checkpoint(tmp_path):
    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    for protocol in (2, 5):
        with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
            archive.writestr("net/data.pkl", pickle.dumps(Payload(), protocol=protocol))
        with pytest.raises(ValueError, match="refers to '(posix|nt).mkdir'.* no code was run"):
            read(tmp_path / "net.pth")
    assert not (tmp_path / "made").exists()


# Keras


def test_a_published_keras_2_file(shared):
    file = read(shared / "weights" / "mlperf_tiny_resnet8.h5")
    assert (file.kind, len(file.tensors)) == ("hdf5", 48)
    assert file.metadata == {"format": "keras 2", "keras_version": "2.4.0", "backend": "tensorflow"}
    shapes = {name: array.shape for name, array in file.tensors.items()}
    assert shapes["conv2d/kernel"] == (3, 3, 3, 16)
    assert shapes["conv2d/bias"] == (16,)
    assert shapes["dense/kernel"] == (64, 10)
    assert {name.split("/")[1] for name in shapes} == {
        "kernel",
        "bias",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    }


def keras_2(path: Any, layers: dict[str, dict[str, np.ndarray]], *, parts: int = 0) -> None:
    """Writes weights as Keras 2 did; `parts` splits lists of names as it does with long ones."""
    with h5py.File(path, "w") as file:
        _names(file, "layer_names", list(layers), parts)
        for layer, weights in layers.items():
            group = file.create_group(layer)
            _names(group, "weight_names", list(weights), parts)
            for name, array in weights.items():
                group[name] = array


def _names(group: Any, attribute: str, names: list[str], parts: int) -> None:
    encoded = [name.encode() for name in names]
    if not parts:
        group.attrs[attribute] = encoded
    for part in range(parts):
        group.attrs[f"{attribute}{part}"] = encoded[part::parts]


@pytest.mark.parametrize("parts", [0, 2])
def test_keras_2_names(tmp_path, parts):
    layers = {
        "conv": {"conv/kernel:0": VALUES, "conv/bias:0": VALUES[0]},
        "block/conv": {"block/conv/kernel:0": VALUES},
        "scoped": {"model/scoped/kernel:0": VALUES},
        "relu": {},
        "bn_conv1": {"bn_conv1_gamma:0": VALUES[0], "bn_conv1_running_std:0": VALUES[1]},
        "inner": {"first/kernel:0": VALUES, "second/kernel:0": VALUES + 1},
        "twice": {"twice/twice/kernel:0": VALUES, "twice/other/kernel:0": VALUES},
    }
    keras_2(tmp_path / "net.h5", layers, parts=parts)
    file = read(tmp_path / "net.h5")
    assert sorted(file.tensors) == sorted(
        [
            "conv/kernel",
            "conv/bias",
            "block/conv/kernel",
            "scoped/kernel",
            "bn_conv1/gamma",
            "bn_conv1/moving_variance",
            "inner/first/kernel",
            "inner/second/kernel",
            "twice/kernel",
            "twice/other/kernel",
        ]
    )
    np.testing.assert_array_equal(file.tensors["inner/second/kernel"], VALUES + 1)
    np.testing.assert_array_equal(file.tensors["conv/bias"], VALUES[0])


def small_net(nested: bool) -> keras.Model:
    start = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="stem")(start)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = keras.layers.Dropout(0.5, name="drop", seed=1)(x)
    body = keras.Model(start, x, name="body")
    if nested:
        again = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(3, 1, name="stem")(again)
        start, x = again, body(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(start, keras.layers.Dense(2, name="head")(x), name="net")


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("compiled", [True, False])
def test_keras_3(tmp_path, ending, compiled):
    net = small_net(nested=False)
    if compiled:
        net.compile("adam", "mse")
        net.optimizer.build(net.trainable_variables)
    path = tmp_path / f"net{ending}"
    net.save_weights(path) if ending == ".weights.h5" else net.save(path)
    file = read(path)
    assert (file.kind, file.metadata) == ("hdf5", {"format": "keras 3"})
    wanted = {
        f"{layer.name}/{index}": weight
        for layer in net.layers
        for index, weight in enumerate(layer.get_weights())
        if layer.name != "drop"
    }
    assert sorted(file.tensors) == sorted(wanted)
    for name, weight in wanted.items():
        np.testing.assert_array_equal(file.tensors[name], weight)


def test_a_model_in_a_model(tmp_path):
    """Names of the models stand in front where two layers would have one name, and only there."""
    net = small_net(nested=True)
    net.save_weights(tmp_path / "net.weights.h5")
    file = read(tmp_path / "net.weights.h5")
    assert sorted({name.rsplit("/", 1)[0] for name in file.tensors}) == [
        "body/stem",
        "head",
        "net/stem",
        "stem_norm",
    ]
    inner = net.get_layer("body").get_layer("stem").get_weights()
    np.testing.assert_array_equal(file.tensors["body/stem/0"], inner[0])
    assert file.tensors["net/stem/0"].shape == (1, 1, 3, 3)


def test_keras_3_halves(tmp_path):
    dense = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16", name="dense")]
    )
    dense.save_weights(tmp_path / "net.weights.h5")
    file = read(tmp_path / "net.weights.h5")
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(dense.layers[0].kernel, "float32"))
    assert file.tensors["dense/0"].dtype == np.float32
    np.testing.assert_array_equal(file.tensors["dense/0"], kernel)


def test_older_keras_3_files_have_no_names(tmp_path):
    with h5py.File(tmp_path / "a", "w") as file:
        file["layers/conv2d_1/vars/0"] = VALUES.astype("f2")
        file["layers/dropout/seed_generator/vars/0"] = np.array([1, 2], "u4")  # no weights
        file["optimizer/vars/0"] = np.array(1)
        for index in range(12):
            file[f"_layer_checkpoint_dependencies/many/vars/{index}"] = np.float32(index)
    read_back = read(tmp_path / "a").tensors
    assert read_back.pop("conv2d_1/0").dtype == np.float32
    assert list(read_back) == [f"many/{index}" for index in range(12)]


@pytest.mark.skipif(sys.platform == "win32", reason="keras-hub is not tested there")
def test_keras_hub(tmp_path):
    """A task nests its backbone; a preset holds them in two files."""
    hub = pytest.importorskip("keras_hub", exc_type=ImportError)
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        use_pre_activation=False,
        image_shape=(32, 32, 3),
    )
    task = hub.models.ResNetImageClassifier(backbone=backbone, num_classes=3)
    task.save_weights(tmp_path / "whole.weights.h5")
    whole = read(tmp_path / "whole.weights.h5").tensors
    assert {"stack0_block0_1_conv/0", "conv1_bn/3", "predictions/1"} <= set(whole)
    assert len(whole) == len(task.weights)


# Files that reach outside themselves, or for more than they hold.


def hdf5(path: Any, fill: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("layers/a/vars").attrs["name"] = "a"
        fill(file)


def secret(tmp_path: Any) -> str:
    path = str(tmp_path / "secret.h5")
    with h5py.File(path, "w") as file:
        file["vars/0"] = VALUES
    return path


def _virtual(file: Any, path: str) -> None:
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource(path, "vars/0", (2, 3))
    file.create_virtual_dataset("layers/a/vars/0", layout)


def _external(file: Any, path: str) -> None:
    file.create_dataset("layers/a/vars/0", (4,), "f4", external=[(path, 0, 16)])


def _links(where: str, link: Any) -> Any:
    def fill(file: Any, path: str) -> None:
        if where in file:
            del file[where]
        file[where] = link(path)

    return fill


def _huge(**how: Any) -> Any:
    return lambda file, _: file.create_dataset("layers/a/vars/0", (2**34,), "f4", **how)


def _deep(file: Any, _: str) -> None:
    file["/".join(["layers/a"] * 30) + "/vars/0"] = VALUES


def _ring(file: Any, _: str) -> None:
    file["layers/a/again"] = file["layers"]


def _twice(file: Any, _: str) -> None:
    file["layers/a/vars/0"] = VALUES
    file["layers/a/vars/1"] = file["layers/a/vars/0"]


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (_links("layers/a/vars/0", lambda path: h5py.ExternalLink(path, "vars/0")), "is a link"),
        (_links("layers/a/vars", lambda path: h5py.ExternalLink(path, "vars")), "is a link, w"),
        (_links("layers/b", lambda path: h5py.ExternalLink(path, "/")), "is a link, which is ref"),
        (_links("layers", lambda path: h5py.ExternalLink(path, "/")), "is a link, which is refuse"),
        (_links("layers/a/vars/0", lambda path: h5py.SoftLink("/layers")), "is a link, which is"),
        (_virtual, "is stored in other files, which is refused"),
        (_external, "is stored in other files, which is refused"),
        (_huge(), "declared larger than the stored data"),
        (_huge(chunks=(2**20,)), "larger than the file allows"),
        (_huge(chunks=(2**20,), compression="gzip"), "larger than the file allows"),
        (_deep, "nested more than 24 deep"),
        (_ring, "'/layers/a/again' occurs a second time, under another name"),
        (_twice, "occurs a second time, under another name"),
        (
            lambda file, _: file.create_dataset("layers/a/vars/0", data=["text"]),
            "does not hold numbers",
        ),
        (lambda file, _: file.create_group("layers/a/vars/0"), "is not an array"),
        (
            lambda file, _: file.create_dataset("layers/a/vars/0", dtype="f4", shape=None),
            "is not an array",
        ),
        (lambda file, _: None, "an HDF5 file without Keras weights"),
    ],
)
def test_hostile_keras_3_files(tmp_path, fill, message):
    path = tmp_path / "net.weights.h5"
    other = secret(tmp_path)
    hdf5(path, lambda file: fill(file, other))
    with pytest.raises(ValueError, match=f"h5' contains no readable weights: .*{message}"):
        read(path)


@pytest.mark.parametrize(
    ("layers", "change", "message"),
    [
        (["a"], None, "has no 'a'"),
        (["/"], None, "has no ''"),
        ([".."], None, "has no '..'"),
        (
            ["s"],
            lambda file, path: _links("s", lambda p: h5py.SoftLink("/b"))(file, path),
            "is a link, which is refused",
        ),
        (
            ["s"],
            lambda file, path: _links("s", lambda p: h5py.ExternalLink(p, "/"))(file, path),
            "is a link, which is refused",
        ),
        (
            ["b/x"],
            lambda file, path: _links("b", lambda p: h5py.ExternalLink(p, "/"))(file, path),
            "is a link, which is refused",
        ),
        (["b"], lambda file, path: file.create_dataset("b", data=[1]), "'/b' is not a group"),
        (
            ["b"],
            lambda file, path: file.create_group("b").attrs.create("weight_names", [b"../c"]),
            "has no '..'",
        ),
        (
            ["b"],
            lambda file, path: file.create_group("b").attrs.create("weight_names", [b"/c"]),
            "has no ''",
        ),
        (["b", "b"], lambda file, path: keras_2_group(file), "occurs a second time"),
    ],
)
def test_hostile_keras_2_files(tmp_path, layers, change, message):
    path, other = tmp_path / "net.h5", secret(tmp_path)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        if change is not None:
            change(file, other)
    with pytest.raises(ValueError, match=f"net.h5' contains no readable weights: .*{message}"):
        read(path)


def keras_2_group(file: Any) -> None:
    group = file.create_group("b")
    group.attrs["weight_names"] = [b"kernel:0"]
    group["kernel:0"] = VALUES


@pytest.mark.timeout(60)
@pytest.mark.parametrize("in_archive", [False, True])
@pytest.mark.parametrize(("place", "value"), [(8, 0x80), (24, 0xFF)])
def test_strings_over_which_hdf5_would_run_forever(tmp_path, place, value, in_archive):
    """Its issue 1707: a heap that is longer than its objects, or an object than its heap."""
    path = tmp_path / "net.weights.h5"
    hdf5(path, lambda file: file.create_dataset("layers/a/vars/0", data=VALUES))
    data = bytearray(path.read_bytes())
    data[data.index(b"GCOL") + place] = value
    path.write_bytes(archive_of(data) if in_archive else data)
    with pytest.raises(ValueError, match="its strings are damaged"):
        read(path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("name", ["layer_names", "weight_names", "keras_version", "model_config"])
def test_strings_that_state_gigabytes(tmp_path, libver, name):
    """HDF5 would reserve the length that a reference states before it looks at the heap.

    Later versions of the format have a checksum, which only an attacker corrects.
    """
    path = tmp_path / "net.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["layer_names"] = [b"a", b"b", b"c"]
        file.attrs["keras_version"], file.attrs["model_config"] = "2.15.0", "{}"
        for number, layer in enumerate("abc"):
            file.create_group(layer).attrs["weight_names"] = [b"kernel:0"]
            file[layer]["kernel:0"] = VALUES + number
    content = path.read_bytes()
    tensors = read(path).tensors
    assert list(tensors) == ["a/kernel", "b/kernel", "c/kernel"]
    heap = content.index(b"GCOL")
    reference = content.index(heap.to_bytes(8, "little"), content.index(name.encode()))
    for place, value in ((-1, 0x60), (-2, 1), (8, 200), (9, 1)):  # the length, then the index
        damaged = bytearray(content)
        damaged[reference + place] = value
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="its strings are damaged|metadata checksum"):
            read_model_config(str(path)) if name == "model_config" else read(path)
    # A fixed text becomes one of variable length.
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"a" * 16], "S16")
        keras_2_group(file)
    content = path.read_bytes()
    kind = content.index(b"layer_names") + 16
    path.write_bytes(content[:kind] + bytes([content[kind] ^ 0x0A]) + content[kind + 1 :])
    with pytest.raises(ValueError, match="net.h5' contains no readable weights"):
        read(path)


@pytest.mark.parametrize("link", ["soft", "external"])
def test_a_link_in_the_place_of_model_weights(tmp_path, link):
    other = secret(tmp_path)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        soft, external = h5py.SoftLink("/x"), h5py.ExternalLink(other, "/")
        file["model_weights"] = soft if link == "soft" else external
    with pytest.raises(ValueError, match="contains no readable weights: .*is a link"):
        read(tmp_path / "net.h5")


def archive_of(member: bytes, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as archive:
        archive.writestr("model.weights.h5", member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive_of(b"\0" * 10**6, compression=zipfile.ZIP_DEFLATED), "would expand to 1000000 b"),
        (archive_of(b"no HDF5"), "it is not an HDF5 file"),
        (archive_of(b"\0" * 3000, compression=zipfile.ZIP_DEFLATED)[:40] + b"x", "damaged archive"),
        (
            archive_of(os.urandom(99), compression=zipfile.ZIP_DEFLATED).replace(
                b"model.weights.h5", b"model.weights.h5\xff\xff", 1
            ),
            "contains no readable|damaged",
        ),
    ],
    ids=["bomb", "no HDF5", "cut", "forged"],  # else they would contain the time of writing
)
def test_damaged_archives(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr("keras_resnet.hdf5._FREE", 0)
    (tmp_path / "net.keras").write_bytes(content)
    with pytest.raises(ValueError, match=f"net.keras' .*{message}"):
        read(tmp_path / "net.keras")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"  \n<!DOCTYPE html><html>", "a web page: the URL is not that of the file"),
        (b"<html>", "a web page"),
        (b"<?xml version='1.0'?><Error>", "an XML document"),
        (b'{"error": "Entry not found"}', "JSON, perhaps a server's error message"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of git-lfs.*git lfs pull"),
        (b"\x1f\x8b\x08\0", "compressed by gzip"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"BZh91AY&SY", "compressed by bzip2"),
        (b"\x28\xb5\x2f\xfd", "compressed by Zstandard"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"\x1c\0\0\0TFL3\0\0", "a TFLite model"),
        (b"Entry not found", r"a file that begins with b'Entry not fo'"),
        (archive_of(b"").replace(b"model.weights.h5", b"model.somethings"), "a zip archive of mod"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # an archive contains the time
)
def test_what_is_found_in_the_place_of_weights(tmp_path, content, message):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=f"net.safetensors' must be .*Received: {message}"):
        read(tmp_path / "net.safetensors")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="No weights file at '.*absent'"):
        read(tmp_path / "absent")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["keras 2", "keras 3", "archive", "safetensors"])
def test_damaged_bytes_are_an_error_or_harmless(tmp_path, kind):
    path = tmp_path / "net"
    if kind == "keras 2":
        keras_2(path, {"a": {"a/kernel:0": VALUES}})
    elif kind == "safetensors":
        write_safetensors(path, {"a": VALUES})
    else:
        hdf5(path, lambda file: file.create_dataset("layers/a/vars/0", data=VALUES))
        if kind == "archive":
            path.write_bytes(archive_of(path.read_bytes(), compression=zipfile.ZIP_DEFLATED))
    data = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for attempt in range(150):
        damaged = data[: rng.integers(len(data))].copy() if attempt % 3 == 0 else data.copy()
        places = rng.integers(max(len(damaged), 1), size=min(len(damaged), 4))
        damaged[places] = rng.integers(256, size=len(places))
        damaged.tofile(path)
        try:
            read(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 50
