"""PyTorch's checkpoints, read without PyTorch: equal arrays, and no code is executed."""

from __future__ import annotations

import collections
import copyreg
import os
import pickle
import re
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_resnet.weights.files.pickle_objects import IgnoredObject
from keras_resnet.weights.files.tensor_tree import flatten
from keras_resnet.weights.files.torch_checkpoint import read_checkpoint

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_state_dict(path: str) -> dict[str, np.ndarray]:
    return flatten(read_checkpoint(path), source=repr(path))[0]


# A small assembler of pickles: each function returns opcodes that leave one object.


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(function: bytes, *items: bytes) -> bytes:
    return function + row(*items) + b"R"


def storage(kind: str, count: int, key: str = "0", *more: bytes) -> bytes:
    entry = row(text("storage"), name("torch", kind), text(key), text("cpu"), number(count), *more)
    return entry + b"Q"


REBUILD = name("torch._utils", "_rebuild_tensor_v2")
ORDERED = name("collections", "OrderedDict")


def tensor(
    shape: tuple[int, ...] = (2,),
    strides: tuple[int, ...] = (1,),
    offset: int = 0,
    *,
    kind: str = "FloatStorage",
    count: int = 2,
    key: str = "0",
) -> bytes:
    sizes = [row(*map(number, each)) for each in (shape, strides)]
    return call(REBUILD, storage(kind, count, key), number(offset), *sizes, b"\x89", call(ORDERED))


def finished(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


FLOATS = np.array([1.5, -2.0], "<f4").tobytes()
Save = Callable[..., str]


def save_zip(path: Any, body: bytes, storages: dict[str, bytes], **extra: bytes) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", finished(body))
        for key, data in (storages | extra).items():
            archive.writestr(f"net/{key if key in extra else f'data/{key}'}", data)
    return str(path)


def save_legacy(path: Any, body: bytes, storages: dict[str, bytes]) -> str:
    widths = {"0": 4} | {key: int(key[1:]) for key in storages if key[0] == "w"}
    with open(path, "wb") as file:
        for value in (MAGIC, PROTOCOL, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        file.write(finished(body))
        pickle.dump(list(storages), file, protocol=2)
        for key, data in storages.items():
            file.write(struct.pack("<q", len(data) // widths[key]) + data)
    return str(path)


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path) -> Save:
    """Writes a checkpoint of a pickle's opcodes and the bytes of its storages."""
    write = save_zip if request.param == "zip" else save_legacy
    return lambda body, storages=None: write(
        tmp_path / "net.pth", body, {"0": FLOATS} if storages is None else storages
    )


def plain(body: bytes, tmp_path: Any) -> str:
    """Writes a checkpoint without storages."""
    return save_zip(tmp_path / "net.pth", body, {})


@pytest.mark.parametrize(
    ("kind", "dtype", "given"),
    [
        ("FloatStorage", "f4", "f4"),
        ("DoubleStorage", "f8", "f8"),
        ("HalfStorage", "f2", "f4"),
        ("LongStorage", "i8", "i8"),
        ("IntStorage", "i4", "i4"),
        ("ShortStorage", "i2", "i2"),
        ("CharStorage", "i1", "i1"),
        ("ByteStorage", "u1", "u1"),
        ("ComplexFloatStorage", "c8", "c8"),
    ],
)
def test_types(save, kind, dtype, given):
    values = np.array([1, 2, 100], dtype)
    key = f"w{values.itemsize}"
    path = save(tensor((3,), kind=kind, count=3, key=key), {key: values.tobytes()})
    read = read_checkpoint(path)
    assert read.dtype == given
    np.testing.assert_array_equal(read, values)


def test_bfloat16_and_bool(save):
    two = tensor((2,), kind="BFloat16Storage", count=2, key="w2")
    flags = tensor((3,), kind="BoolStorage", count=3, key="w1")
    path = save(row(two, flags), {"w2": b"\xc0\x3f\x80\xff", "w1": b"\0\1\7"})
    halves, bools = read_checkpoint(path)
    assert (halves.dtype, bools.dtype) == (np.float32, bool)
    np.testing.assert_array_equal(halves, np.array([1.5, -np.inf], "f4"))
    assert (bools.tolist(), bools.view("u1").tolist()) == ([False, True, True], [0, 1, 1])


def test_views_share_their_storage(save):
    data = np.arange(12, dtype="<f4")
    whole = tensor((3, 4), (4, 1), count=12)
    turned = tensor((4, 3), (1, 4), count=12)
    corner = tensor((2, 2), (4, 1), 6, count=12)
    empty, scalar = tensor((0, 5), (5, 1), count=12), tensor((), (), 11, count=12)
    path = save(row(whole, turned, corner, empty, scalar), {"0": data.tobytes()})
    one, other, part, nothing, last = read_checkpoint(path)
    grid = data.reshape(3, 4)
    np.testing.assert_array_equal(one, grid)
    np.testing.assert_array_equal(other, grid.T)
    np.testing.assert_array_equal(part, grid[1:, 2:])
    assert (nothing.shape, last.shape, float(last)) == ((0, 5), (), 11.0)
    one[2, 3] = 7.0  # writable, as PyTorch backends want it
    assert other[3, 2] == part[1, 1] == last == 7.0


def test_a_storage_by_itself(save):
    np.testing.assert_array_equal(read_checkpoint(save(storage("FloatStorage", 2))), [1.5, -2.0])


def test_big_endian(tmp_path):
    data = np.array([1.5, -2.0], ">f4").tobytes()
    path = save_zip(tmp_path / "net.pth", tensor(), {"0": data}, byteorder=b"big")
    np.testing.assert_array_equal(read_checkpoint(path), [1.5, -2.0])


def test_a_part_of_an_old_storage(tmp_path):
    view = row(text("a part"), number(1), number(1))
    part = call(REBUILD, storage("FloatStorage", 2, "0", view), number(0), *[row(number(1))] * 2)
    shorter = part.replace(REBUILD, name("torch._utils", "_rebuild_tensor"))
    for body in (part + b"", shorter):
        path = save_legacy(tmp_path / "net.pth", body, {"0": FLOATS})
        np.testing.assert_array_equal(read_checkpoint(path), [-2.0])


def test_what_stands_beside_tensors(save):
    parameter = call(name("torch._utils", "_rebuild_parameter"), tensor(), b"\x88", call(ORDERED))
    accuracy = pickle.dumps(np.float64(91.25), protocol=2)[2:-1]
    metadata = mapping(_metadata=mapping(version=number(1))) + b"b"
    body = mapping(
        epoch=number(3),
        parameter=parameter,
        state=call(ORDERED) + mapping(a=tensor()).removeprefix(b"}") + metadata,
        accuracy=accuracy,
        shape=call(name("torch", "Size"), row(number(2), number(3))),
        device=call(name("torch", "device"), text("cuda"), number(1)),
        dtype=name("torch", "float32"),
        nothing=b"N",
        old=call(ORDERED, b"]" + b"](" + text("k") + number(1) + b"ea"),
    )
    read = read_checkpoint(save(body))
    arrays = [read.pop("parameter"), read["state"].pop("a")]
    assert [array.tolist() for array in arrays] == [[1.5, -2.0]] * 2
    assert read == {
        "epoch": 3,
        "state": {},
        "accuracy": 91.25,
        "shape": (2, 3),
        "device": "cuda:1",
        "dtype": "float32",
        "nothing": None,
        "old": {"k": 1},
    }
    assert type(read["state"]) is dict
    assert isinstance(read["accuracy"], np.float64)


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(-3), np.bool_(True), np.float16(2)])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_scalars(tmp_path, value, protocol):
    body = pickle.dumps([value, value.astype(value.dtype.newbyteorder(">"))], protocol=protocol)
    path = save_zip(tmp_path / "net.pth", body[2:-1], {})
    read = read_checkpoint(path)
    assert read == [value, value]
    assert type(read[0]) is type(value)


# What a checkpoint must not do.


class Payload:
    """Pickled as a call that makes a directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def attacks(path: str) -> dict[str, bytes]:
    """Opcodes that make the directory `path` when Python's own unpickler reads them."""
    there, mkdir = text(path), name("os", "mkdir")
    copyreg.add_extension("os", "mkdir", 0xF0)
    eval_mkdir = text(f"__import__('os').mkdir({path!r})")
    partial = call(name("functools", "partial"), mkdir, there)
    return {
        **{f"protocol {n}": pickle.dumps(Payload(path), protocol=n)[:-1] for n in (0, 2, 4, 5)},
        "reduce": call(mkdir, there),
        "eval": call(name("builtins", "eval"), eval_mkdir),
        "eval of Python 2": call(name("__builtin__", "eval"), eval_mkdir),
        "exec": call(name("builtins", "exec"), eval_mkdir),
        "stack global": text("os") + text("mkdir") + b"\x93" + row(there) + b"R",
        "inst": b"(" + there + b"ios\nmkdir\n",
        "obj": b"(" + mkdir + there + b"o",
        "extension": b"\x82\xf0" + row(there) + b"R",
        "partial": partial + b")R",
        "new object": name("builtins", "map") + row(mkdir, b"]" + there + b"a") + b"\x81"
        b"\x940" + name("builtins", "list") + b"h\x00\x85R",
        "new object with keywords": name("functools", "partial") + row(mkdir, there) + b"}\x92)R",
        "state": name("types", "SimpleNamespace")
        + b")R}"
        + text("__setstate__")
        + mkdir
        + b"sb"
        + there
        + b"b",
        "inside a state dict": mapping(state_dict=mapping(weight=call(mkdir, there))),
    }


@pytest.mark.parametrize("how", list(attacks("")))
def test_no_code_is_run(save, tmp_path, how):
    target = tmp_path / "made"
    copyreg.clear_extension_cache()
    try:
        body = attacks(str(target))[how]
        path = save(body)
        with pytest.raises(ValueError, match=r"net.pth' is not a readable .* no code was run$"):
            read_checkpoint(path)
        assert not target.exists()
        # With the extension in Python's cache its own unpickler asks for no name at all.
        pickle.loads(finished(body) if body[:1] != b"\x80" else body + b".")
        assert target.is_dir(), "the attack does not work, so the test shows nothing"
        target.rmdir()
        with pytest.raises(ValueError, match="no code was run$"):
            read_checkpoint(path)
        assert not target.exists()
    finally:
        copyreg.remove_extension("os", "mkdir", 0xF0)


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("builtins", "getattr"),
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("operator", "attrgetter"),
        ("torch.storage", "_load_from_bytes"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "FloatStorage.__init__"),
        ("numpy", "__loader__"),
        ("numpy", "load"),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_names_that_only_an_attack_needs_are_refused(tmp_path, module, attribute, stacked):
    body = text(module) + text(attribute) + b"\x93" if stacked else name(module, attribute)
    with pytest.raises(ValueError, match=f"it refers to '{module}.{attribute}', .*no code was run"):
        read_checkpoint(plain(body, tmp_path))


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os.path", "os.system"),
        ("posixpath", "os.system"),
        ("torch.serialization", "os.system"),
        ("__main__", "subprocess.run"),
        ("__builtin__", "eval"),
        ("builtins", "exec"),
        ("builtins", "__import__"),
        ("builtins", "map"),
        ("numpy.f2py.crackfortran", "getlincoef"),
        ("numpy.testing._private.utils", "runstring"),
        ("torch.jit.unsupported_tensor_ops", "execWrapper"),
        ("torch._ops", "ops.load_library"),
        ("torch.hub", "load"),
        ("operator", "methodcaller"),
        ("_operator", "attrgetter"),
        ("copyreg", "__reduce_ex__"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("types", "CodeType"),
        ("types", "FunctionType"),
        ("functools", "reduce"),
        ("pip", "main"),
        ("timeit", "timeit"),
        ("cProfile", "run"),
        ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
        ("urllib.request", "urlopen"),
        ("importlib", "import_module"),
        ("pickle", "loads"),
        ("joblib", "load"),
        ("logging.config", "listen"),
        ("webbrowser", "open"),
    ],
)
def test_known_attacks_are_named_and_import_nothing(tmp_path, module, attribute):
    """The pickle calls what it names, beside a tensor's worth of plain values."""
    attack = call(text(module) + text(attribute) + b"\x93", text("touch /tmp/never"))
    before = set(sys.modules)
    with pytest.raises(ValueError, match=f"it refers to '{re.escape(module)}.*no code was run"):
        read_checkpoint(plain(row(number(7), attack), tmp_path))
    assert set(sys.modules) == before


def test_a_state_dict_of_pickle_dump_is_answered(tmp_path):
    body = call(name("torch.storage", "_load_from_bytes"), b"B\x01\x00\x00\x00a")
    with pytest.raises(ValueError, match=r"as `pickle.dump` writes tensors: write them by `torch"):
        read_checkpoint(plain(body, tmp_path))


@pytest.mark.parametrize(
    "dotted",
    [
        "builtins.set",
        "functools.partial",
        "copyreg._reconstructor",
        "torch.optim.adam.Adam",
        "types.SimpleNamespace",
        "enum.Enum",
        "omegaconf.dictconfig.DictConfig",
        "torch.nn.modules.linear.Linear",
        "numpy.ndarray",
        "_codecs.decode",
        "argparse.ArgumentParser",
        "__main__.Config",
        "numpy.random._pickle.__generator_ctor",
        "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked",
        "keras_resnet.weights.files.pickle_objects.StorageSlice",
    ],
)
def test_every_other_name_is_left_out(tmp_path, dotted):
    """The class, its call, its state and its items come to nothing; nothing is imported."""
    kind = name(*dotted.rsplit(".", 1))
    made = (
        call(kind, text("a")) + mapping(lr=number(1)) + b"b" + b"(" + text("a") + number(1) + b"u"
    )
    new = kind + b")\x81(" + number(1) + b"e"
    read = read_checkpoint(plain(row(kind, made, new, number(7)), tmp_path))
    assert [type(each) for each in read] == [IgnoredObject] * 3 + [int]
    assert {each.name for each in read[:3]} == {dotted}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (REBUILD + mapping(__call__=name("torch", "Size")) + b"b", "sets the state of a _Fun"),
        (
            REBUILD + row(b"N", mapping(name=text("os.system"))) + b"b",
            "sets the state of a _Fun",
        ),
        (name("torch", "FloatStorage") + b"}b", "sets the state of a StorageType"),
        (tensor() + mapping(shape=row(number(9))) + b"b", "sets the state of a TensorView"),
        (b"]" + b"}b", "sets the state of a list"),
        (name("torch", "FloatStorage") + b")R", "calls an unknown function"),
        (text("os.system") + b")R", "calls an unknown function"),
        (REBUILD + b"]R", "calls an unknown function"),
        (call(REBUILD), "gives torch._utils._rebuild_tensor_v2 wrong arguments"),
        (call(REBUILD, *[b"N"] * 4), "gives torch._utils._rebuild_tensor_v2 wrong arguments"),
        (call(REBUILD, *[b"N"] * 9), "gives torch._utils._rebuild_tensor_v2 wrong arguments"),
        (call(name("torch._utils", "_rebuild_parameter"), *[b"N"] * 3), "wrong arguments"),
        (call(name("torch", "Size"), number(10**9)), "wrong arguments"),
        (call(name("torch", "device"), b"]"), "wrong arguments"),
        (call(ORDERED, number(1)), "wrong arguments"),
        (call(name("_codecs", "encode"), text("a"), text("utf-8")), "wrong arguments"),
        (
            call(name("numpy", "dtype"), text("f8"))
            + row(number(3), text("<"), text("x"), b"N", b"N")
            + b"b",
            "a NumPy dtype that is not a plain number",
        ),
        (
            call(
                name("numpy.core.multiarray", "scalar"),
                call(name("numpy", "dtype"), text("f8")),
                b"C\x04abcd",
            ),
            "a NumPy scalar of the wrong length",
        ),
        (call(name("numpy.core.multiarray", "scalar"), text("f8"), b"C\x01a"), "wrong arguments"),
        (b"N" + text("a") + b"a", "appends to a NoneType"),
        (b"](" + text("a") + text("b") + b"u", "sets items of a list"),
        (b"}(" + text("a") + b"u", "sets items of a dict"),
        (b"}]Ns", "has a list for a key"),
        (b"}" + number(2**61 - 1) + b"Ns", "has a int for a key"),
        (text("a") + b"Q", "external object that is not a storage"),
        (row(text("module"), *[text("a")] * 4) + b"Q", "external object that is not a storage"),
        (row(text("storage"), *[text("a")] * 4) + b"Q", "describes a storage wrongly"),
        (
            row(text("storage"), name("torch", "FloatStorage"), *[number(1)] * 3) + b"Q",
            "describes a storage wrongly",
        ),
        (storage("FloatStorage", -1), "describes a storage wrongly"),
        (storage("FloatStorage", 2**63), "describes a storage wrongly"),
        (row(storage("FloatStorage", 2), storage("FloatStorage", 1)), "'0' in two ways"),
        (row(storage("FloatStorage", 2), storage("IntStorage", 2)), "'0' in two ways"),
        (storage("FloatStorage", 2, "0", row(b"N", number(1), number(2))), "is outside it"),
        (storage("FloatStorage", 2, "0", row(b"N", number(-1), number(1))), "is outside it"),
        (storage("FloatStorage", 2, "0", text("a")), "describes a part of a storage wrongly"),
        (b")Q", "external object that is not a storage"),
        (b"NN", "does not end in one object"),
        (b"(N", "does not end in one object"),
        (b"", "does not end in one object"),
        (b"t", "damaged at TUPLE"),
        (b"\x85", "damaged at TUPLE1"),
        (b"R", "damaged at REDUCE"),
        (b"h\x05", "damaged at BINGET"),
        (b"q\x05", "damaged at BINPUT"),
        (b"I1\n", "holds INT, which tensors do not need"),
        (b"\xff", r"opcode b'\\xff' unknown"),
        (b"C\xff", "expected 255 bytes"),
    ],
)
def test_forged_pickles(tmp_path, body, message):
    with pytest.raises(
        ValueError, match=f"net.pth' is not a readable PyTorch checkpoint: .*{message}"
    ):
        read_checkpoint(save_zip(tmp_path / "net.pth", body, {"0": FLOATS}))


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((3,), (1,), 0),  # longer than its storage
        ((2,), (1,), 1),  # past its end
        ((1,), (1,), 2),
        ((2,), (2,), 0),  # strides past its end
        ((2, 1), (2, 1), 0),
        ((2**40,), (0,), 0),  # terabytes out of eight bytes
        ((2**32, 2**32), (0, 0), 0),  # a size that overflows
        ((2**62, 4), (1, 1), 0),
        ((2,), (-1,), 1),
        ((2,), (1,), -1),
        ((-2,), (1,), 0),
        ((-1, -2), (1, 1), 0),
        ((1,), (2**63,), 0),
        ((2,), (1, 1), 0),
        ((1,) * 33, (1,) * 33, 0),
    ],
)
def test_tensors_outside_their_storage(save, shape, strides, offset):
    with pytest.raises(ValueError, match="reaches beyond|not sizes|sizes and"):
        read_checkpoint(save(tensor(shape, strides, offset)))


def test_an_empty_tensor_of_impossible_shape(save):
    with pytest.raises(ValueError, match="is not a readable PyTorch checkpoint: "):
        read_checkpoint(save(tensor((0, 2**62, 2**62), (1, 1, 1))))


DEEP = 120_000  # a tuple of this depth overflows the stack when it is hashed


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"]" * 5000 + b"a" * 4999, "nested more than 100 deep"),
        (b")" + b"\x85" * 5000, "nested more than 100 deep"),
        (b"]q\x00h\x00a", "in themselves"),
        (b"}q\x00" + text("a") + b"h\x00s", "in themselves"),
        (b"(" * 5000 + b"N", "does not end in one object"),
        (b"\x8b\xff\xff\xff\x7f", "not enough data in stream to read long4"),
        (b"\x8e" + b"\xff" * 7 + b"\x0f", "expected .* bytes"),
        (b"T\xff\xff\xff\x7f", "expected 2147483647 bytes"),
        (b"N" * 130_001, "more than 130000 opcodes"),
    ],
)
def test_bombs(tmp_path, monkeypatch, body, message):
    monkeypatch.setattr("keras_resnet.weights.files.pickle_parser._MAX_STEPS", 130_000)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(plain(body, tmp_path))


def test_deep_keys_are_not_hashed(tmp_path):
    deep = b"}" + b")" + b"\x85" * DEEP + b"Ns"
    assert read_checkpoint(plain(deep, tmp_path)) == {"<tuple 0>": None}


@pytest.mark.parametrize(
    "body",
    [
        REBUILD,
        call(name("numpy", "dtype"), text("f8")),
        call(name("numpy", "dtype"), text("O8")),
        call(name("numpy", "dtype"), text("f4,f4")),
        name("torch", "FloatStorage"),
    ],
)
def test_functions_and_types_by_themselves_are_left_out(tmp_path, body):
    assert type(read_checkpoint(plain(body, tmp_path))) is IgnoredObject


def _numpy_array(shape: tuple[int, ...], data: bytes) -> bytes:
    made = call(
        name("numpy.core.multiarray", "_reconstruct"),
        name("numpy", "ndarray"),
        row(number(0)),
        b"C\x01b",
    )
    kind = call(name("numpy", "dtype"), text("f4"))
    return made + row(number(1), row(*map(number, shape)), kind, b"\x89", data) + b"b"


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3,), "of another length"), ((2**62, 4), "of another length"), ((-2,), "not consist of si")],
)
def test_forged_arrays_of_numpy(tmp_path, shape, message):
    data = b"C\x08" + FLOATS
    assert read_checkpoint(plain(_numpy_array((2,), data), tmp_path)).tolist() == [1.5, -2.0]
    with pytest.raises(ValueError, match=message):
        read_checkpoint(plain(_numpy_array(shape, data), tmp_path))


def test_a_long_text_is_encoded_once(tmp_path):
    """Many arrays of one memoized text share its bytes."""
    encoded = call(name("_codecs", "encode"), b"h\x01", text("latin1"))
    many = [_numpy_array((256,), encoded) for _ in range(5)]
    body = row(text("\0" * 1024) + b"q\x01", *many)
    arrays = read_checkpoint(plain(body, tmp_path))[1:]
    assert len(arrays) == 5
    assert all(np.shares_memory(arrays[0], each) for each in arrays)


def test_bombs_that_turn_out_small(tmp_path):
    """A memo's index asks for no memory, and what occurs often is kept once."""
    laughs = b"](" + text("ha") * 10 + b"e"
    for level in range(30):
        index = struct.pack("<I", 4_000_000_000 + level)
        laughs = b"](" + laughs + b"r" + index + (b"j" + index) * 9 + b"e"
    start = time.monotonic()
    read = read_checkpoint(plain(laughs, tmp_path))
    assert time.monotonic() - start < 2
    assert all(item is read[0] for item in read)
    assert len(read) == 10


@pytest.mark.parametrize(
    "again",
    [
        call(name("torch", "Size"), b"h\x00"),
        call(ORDERED, b"h\x00"),
        call(name("torch", "device"), b"h\x01"),
        call(name("_codecs", "encode"), b"h\x01", text("latin1")),
    ],
)
def test_long_things_are_not_copied_again_and_again(tmp_path, again):
    pairs = b"](" + row(text("k"), b"N") * 100 + b"eq\x00"
    body = row(pairs, text("k" * 1000) + b"q\x01", again, again, again)
    try:
        read = read_checkpoint(plain(body, tmp_path))
    except ValueError as error:
        assert "wrong arguments" in str(error)
    else:
        assert read[2:] == ({"k": None}, {}, {}) or {*map(type, read[2:])} == {IgnoredObject}


# Damaged and foreign files.


def test_compressed_members_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", finished(b"N"))
    with pytest.raises(ValueError, match="'data.pkl' is compressed; torch.save does not compress"):
        read_checkpoint(path)


def test_a_member_that_is_declared_larger(tmp_path):
    path = tmp_path / "net.pth"
    save_zip(path, tensor(count=2), {"0": FLOATS})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")  # of the last member, the storage
    data[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="'data/0' is larger than the file allows"):
        read_checkpoint(path)


def test_members_of_one_name(tmp_path):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("net/data.pkl", finished(b"N"))
        archive.writestr("net/data.pkl", finished(b")"))
    with pytest.raises(ValueError, match="contains two members of one name"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["data.pkl"], "no data.pkl in its one folder"),
        (["a/b/data.pkl"], "no data.pkl in its one folder"),
        (["a/data.pkl", "b/data.pkl"], "no data.pkl in its one folder"),
        (["model.weights.h5"], "no data.pkl in its one folder"),
        (["a/data.pkl", "a/constants.pkl"], "it is a TorchScript program"),
    ],
)
def test_other_archives(tmp_path, members, message):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, finished(b"N"))
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize("key", ["../../secret", "/etc/hostname", "1", ""])
def test_storages_are_looked_for_in_the_archive_alone(tmp_path, key):
    (tmp_path / "secret").write_bytes(FLOATS)
    path = save_zip(tmp_path / "net.pth", tensor(key=key), {"0": FLOATS})
    with pytest.raises(ValueError, match=f"its archive has no 'data/{key}'"):
        read_checkpoint(path)


def test_byte_orders(tmp_path):
    path = save_zip(tmp_path / "net.pth", tensor(), {"0": FLOATS}, byteorder=b"middle")
    with pytest.raises(ValueError, match="must be little or big. Received: b'middle'"):
        read_checkpoint(path)


def test_storages_that_are_too_short(save):
    with pytest.raises(ValueError, match="'0' is shorter than it says|has another length"):
        read_checkpoint(save(tensor(count=3)))


@pytest.mark.parametrize("storages", [{}, {"0": FLOATS, "w1": b""}, {"w1": b"12345678"}])
def test_legacy_storages_that_are_not_used(tmp_path, storages):
    path = save_legacy(tmp_path / "net.pth", tensor(), storages)
    with pytest.raises(ValueError, match="the storages it lists are not those it uses"):
        read_checkpoint(path)


@pytest.mark.parametrize("keys", [{"0": 1}, [0]])
def test_legacy_lists_of_storages_hold_names(tmp_path, keys):
    path = tmp_path / "net.pth"
    values = (MAGIC, PROTOCOL, {})
    head = b"".join(pickle.dumps(value, protocol=2) for value in values)
    path.write_bytes(head + finished(tensor()) + pickle.dumps(keys, protocol=2))
    with pytest.raises(ValueError, match="it has no list of storages"):
        read_checkpoint(path)


def test_legacy_lengths_are_not_believed(tmp_path):
    path = tmp_path / "net.pth"
    save_legacy(path, tensor(count=2**40), {"0": b""})
    path.write_bytes(path.read_bytes()[:-8] + struct.pack("<q", 2**40))
    with pytest.raises(ValueError, match="it ends within its storage '0'"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a zip archive nor a pickle"),
        (b"<html>", "neither a zip archive nor a pickle"),
        (pickle.dumps([1], protocol=2), "a pickle that torch.save did not write"),
        (pickle.dumps(MAGIC, protocol=2), "pickle exhausted before seeing STOP"),
        (pickle.dumps(MAGIC, protocol=2) + pickle.dumps(7, protocol=2), "another version"),
        (b"PK\x03\x04", "File is not a zip file"),
    ],
)
def test_other_files(tmp_path, content, message):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"net.pth' is not a readable .*: .*{message}"):
        read_checkpoint(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="No weights file at '.*absent.pth'"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="is not a readable .* Is a directory"):
        read_checkpoint(tmp_path)


def test_files_cut_short(save, tmp_path):
    path = save(mapping(a=tensor(), b=tensor()))
    with open(path, "rb") as file:
        data = file.read()
    for length in range(0, len(data), 5):
        with open(path, "wb") as file:
            file.write(data[:length])
        with pytest.raises(ValueError, match="net.pth' is not a readable PyTorch checkpoint: ."):
            read_checkpoint(path)


def test_damaged_bytes_are_an_error_or_harmless(save):
    path = save(mapping(a=tensor(), b=tensor()))
    with open(path, "rb") as file:
        data = np.frombuffer(file.read(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = data.copy()
        places = rng.integers(len(data), size=rng.integers(1, 4))
        damaged[places] = rng.integers(256, size=len(places))
        damaged.tofile(path)
        try:
            read_checkpoint(path)
        except ValueError as error:
            assert "is not a readable PyTorch checkpoint" in str(error)
            refused += 1
    assert refused > 100


# State dicts.


def test_nested_names_are_joined(save):
    inner = mapping(a=tensor(), best=number(3))
    body = mapping(state_dict=inner, epoch=number(1), rows=b"](" + tensor() + number(1) + b"e")
    assert {key: value.tolist() for key, value in read_state_dict(save(body)).items()} == {
        "state_dict.a": [1.5, -2.0],
        "rows.0": [1.5, -2.0],
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (mapping(epoch=number(1)), "it is a dict with the keys 'epoch'; a state dict is needed"),
        (b"}", "it is an empty dict; "),
        (b"]", "it is a list; "),
        (tensor(), "it is a ndarray; "),
        (
            mapping(model=name("user", "Net") + b")\x81"),
            "it is a dict with the keys 'model' and objects of user.Net; a state dict .*torch.save",
        ),
    ],
)
def test_no_state_dict(tmp_path, body, message):
    path = save_zip(tmp_path / "net.pth", body, {"0": FLOATS} if body == tensor() else {})
    with pytest.raises(ValueError, match=f"net.pth' contains no state dict: {message}"):
        read_state_dict(path)


def test_names_of_many_tensors_are_bounded(tmp_path, monkeypatch):
    """A few long keys could name many tensors."""
    monkeypatch.setattr("keras_resnet.weights.files.tensor_tree._MAX_NAMES", 1000)
    inner = mapping(**{f"t{index}": tensor() for index in range(20)})
    path = save_zip(tmp_path / "net.pth", mapping(**{"k" * 100: inner}), {"0": FLOATS})
    with pytest.raises(ValueError, match="names that are too long"):
        read_state_dict(path)


def test_two_tensors_of_one_name(tmp_path):
    body = mapping(**{"a.b": tensor(), "a": mapping(b=tensor())})
    with pytest.raises(ValueError, match=r"holds two tensors 'a.b'"):
        read_state_dict(save_zip(tmp_path / "net.pth", body, {"0": FLOATS}))


def test_the_options_of_a_training_script_are_counted(tmp_path):
    """Torchvision's reference script keeps its `args`, a Namespace, beside the model."""
    args = name("argparse", "Namespace") + b")\x81" + mapping(lr=number(1)) + b"b"
    body = mapping(model=mapping(a=tensor()), args=args)
    path = save_zip(tmp_path / "net.pth", body, {"0": FLOATS})
    tensors, ignored = flatten(read_checkpoint(path), source="x")
    assert (list(tensors), ignored) == (["model.a"], {"argparse.Namespace": 1})


def test_a_published_file(shared):
    path = shared / "weights" / "resnet20-12fca82f.th"
    assert read_checkpoint(path)["best_prec1"] == pytest.approx(91.78)
    tensors = read_state_dict(path)
    assert len(tensors) == 97
    assert sum(array.size for name, array in tensors.items() if "running" not in name) == 269722
    assert tensors["state_dict.module.conv1.weight"].shape == (16, 3, 3, 3)
    assert tensors["state_dict.module.linear.weight"].shape == (10, 64)


# Against PyTorch itself.


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def torch_save(request, tmp_path) -> Save:
    torch = pytest.importorskip("torch")

    def save(value: Any, **arguments: Any) -> str:
        path = str(tmp_path / "net.pt")
        torch.save(value, path, _use_new_zipfile_serialization=request.param, **arguments)
        return path

    return save


@pytest.mark.torch
def test_as_pytorch_reads_it(torch_save):
    import torch

    grid = torch.arange(24.0).reshape(2, 3, 4)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    tensors = {
        "turned": grid.permute(2, 0, 1),
        "part": grid[1, 1:, ::2],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        **{
            str(dtype): torch.tensor([0, 1, 3]).to(dtype)
            for dtype in (
                torch.float64,
                torch.float16,
                torch.bfloat16,
                torch.int64,
                torch.int32,
                torch.int16,
                torch.int8,
                torch.uint8,
                torch.bool,
                torch.complex64,
            )
        },
        **net.state_dict(),
    }
    value = {
        "state_dict": collections.OrderedDict(tensors),
        "optimizer": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9).state_dict(),
        "best": np.float64(0.5),
        "epoch": 3,
    }
    path = torch_save(value)
    read = read_checkpoint(path)
    assert (read["best"], read["epoch"], read["optimizer"]) == (0.5, 3, value["optimizer"])
    read = read_state_dict(path)
    state = {name.removeprefix("state_dict."): array for name, array in read.items()}
    state = {name: array for name, array in state.items() if not name.startswith("optimizer.")}
    assert list(state) == list(tensors)
    for key, tensor in tensors.items():
        wide = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        theirs = wide.detach().numpy()
        assert (state[key].dtype, state[key].shape) == (theirs.dtype, theirs.shape), key
        np.testing.assert_array_equal(state[key], theirs)
    assert np.shares_memory(state["turned"], state["part"])


@pytest.mark.torch
def test_a_state_dict_with_metadata(torch_save):
    import torch

    net = torch.nn.DataParallel(torch.nn.BatchNorm1d(3))
    state = read_state_dict(torch_save(net.state_dict()))
    roles = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(state) == [f"module.{role}" for role in roles]
    assert state["module.num_batches_tracked"].dtype == np.int64


@pytest.mark.torch
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(torch_save, protocol):
    import torch

    path = torch_save({"a": torch.arange(3.0)}, pickle_protocol=protocol)
    np.testing.assert_array_equal(read_state_dict(path)["a"], [0, 1, 2])


@pytest.mark.torch
def test_a_whole_module_is_refused(torch_save):
    import torch

    path = torch_save(torch.nn.Linear(2, 2))
    message = r"pickled object of 'torch.nn.modules.linear.Linear'; .*torch.save\(model.state_dict"
    with pytest.raises(ValueError, match=message):
        read_state_dict(path)


@pytest.mark.torch
def test_a_program_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = str(tmp_path / "net.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(ValueError, match="it is a TorchScript program"):
        read_checkpoint(path)
