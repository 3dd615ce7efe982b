"""Arrays in files that others wrote: sizes are checked before memory is reserved."""

from __future__ import annotations

import io
import os
import pathlib
import resource
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNetSpec
from keras_resnet_train.arrays import read_array, read_arrays, read_either

pytestmark = pytest.mark.tf

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=5, input_size=8)
Command = Callable[..., Any]


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    stream = io.BytesIO()
    values = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, values)
    return stream.getvalue()


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name.replace("__", "."), content)
    return stream.getvalue()


def unfolding_to(size: int) -> bytes:
    """Returns an archive whose directory states a size for its member."""
    content = bytearray(archive(x__npy=b"a"))
    directory = content.index(b"PK\1\2")
    content[directory + 24 : directory + 28] = size.to_bytes(4, "little")
    return bytes(content)


def with_a_name_twice() -> bytes:
    content = archive(a__npy=header((1,)), b__npy=header((1,)))
    return content.replace(b"b.npy", b"a.npy")


def test_right_files(tmp_path: pathlib.Path) -> None:
    x = np.arange(6, dtype="int16").reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "a.npz", x=x, y=x[:0], z=np.float32(1.5))
    np.savez_compressed(tmp_path / "b.npz", x=np.asfortranarray(x))
    assert read_array(tmp_path / "x.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    found = read_arrays(tmp_path / "a.npz")
    assert (found["x"].tolist(), found["y"].shape, found["z"]) == (x.tolist(), (0, 3), 1.5)
    assert read_either(tmp_path / "b.npz", "n")["x"].tolist() == x.tolist()
    assert read_either(tmp_path / "x.npy", "n")["n"].tolist() == x.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no readable array: "),
        (header((10**12, 8, 8, 1)), "states 64,000,000,000,000 bytes of values and has 128"),
        (header((3,)) + b"ab", "states 3 bytes of values and has 130"),
        (header((2**62, 4)), "states 18,446,744,073,709,551,616 bytes"),
        (header((-1,)) + b"ab", r"states the shape \(-1,\)"),
        (header((10**18,), "|S0"), r"states the shape \(1000000000000000000,\) of \|S0"),
        (header((1,), "|O") + b"cos\nsystem\n.", "holds Python objects"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xffabc", "expected 4294967295 bytes got 3"),
        (b"\x93NUMPY\x09\x00\x02\x00\x00\x00{}", "no readable array"),
        (archive(x__txt=b"hello"), "its member 'x.txt' is no array"),
        (archive(x=b"hello"), "its member 'x' is no array"),
        (archive(x__npy=header((9,)) + b"a"), "'x.npy' states 9 bytes of values and has 129"),
        (archive(x__npy=header((1,), "|O") + b"."), "holds Python objects"),
        (unfolding_to(300 << 20), r"unfold from 111 to 314,572,800 bytes, more than twice"),
        (with_a_name_twice(), "holds 'a.npy' twice"),
    ],
)
def test_damaged_files(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"^{tmp_path}/x is .*{message}"):
        read_either(tmp_path / "x", "inputs")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_pipes_and_devices(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    for path in (tmp_path / "x.npy", pathlib.Path("/dev/zero"), tmp_path):
        for read in (read_array, read_arrays, lambda each: read_either(each, "n")):
            with pytest.raises(ValueError, match="is not a regular file"):
                read(path)
    with pytest.raises(FileNotFoundError):
        read_either(tmp_path / "none", "n")


def test_examples_of_an_export(tmp_path: pathlib.Path, command: Command) -> None:
    """Refused before the net is converted, with what would be right."""
    net = tmp_path / "signals.keras"
    keras_resnet.build(SPEC, dims=1, input_shape=(32, 2), seed=0).save(net)
    x = np.zeros((4, 32, 2), "float32")
    nan, huge = x.copy(), x.astype("float64")
    nan[2, 3, 1], huge[1] = np.nan, 1e300
    os.mkfifo(tmp_path / "pipe.npz")
    words = ("export", net, "--output", tmp_path / "out", "--formats", "tflite")
    right = "`labels` of --examples must hold the number of a class for each of the 4 inputs"
    for arrays, message in (
        ({"inputs": x, "labels": np.int64(3)}, f"{right}. Received: int64, shape ()"),
        ({"inputs": x, "labels": np.arange(3)}, f"{right}. Received: int64, shape (3,)"),
        ({"inputs": nan}, "NaN or infinity in 1 of 4, the first is number 2"),
        ({"inputs": huge}, "`inputs` of --examples must be finite in float32"),
        ({"inputs": x, **{f"a{n}": x for n in range(99)}}, "with inputs, a0, a1, ..."),
        (None, "pipe.npz is not a regular file"),
    ):
        path = tmp_path / ("pipe.npz" if arrays is None else "x.npz")
        if arrays is not None:
            np.savez(path, **arrays)
        ended = command(*words, "--examples", path)
        assert (ended.status, message in ended.err) == (1, True), ended.err
    assert not (tmp_path / "out").exists()
