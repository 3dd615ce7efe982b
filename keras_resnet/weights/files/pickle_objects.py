"""Placeholders for the objects of PyTorch and NumPy that a checkpoint's pickle refers to.

`pickle_parser` creates them where Python's unpickler would import and call. Their arguments come
from a file that may be forged, so each function checks all of them. None copies a value that a
short pickle could have copied again and again.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

# NumPy's names for PyTorch's storage types; bfloat16 has none and keeps its 16 bits.
_STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_TORCH_DTYPES = {*_STORAGE_TYPES.values(), "uint16", "uint32", "uint64"}
_PLAIN_NUMBER = re.compile(r"[<>=|]?([fiu][248]|[iub]1|c8|c16)")
_MAX_DIMENSIONS = 32  # of an array in NumPy 1


@dataclasses.dataclass(frozen=True, eq=False)
class StorageSlice:
    """Consecutive numbers of a storage in the file; several tensors may share it.

    Attributes:
        key: Name of the storage in the file.
        dtype: NumPy's name of its type, or `bfloat16`.
        count: How many numbers.
        start: Index of the first number in the storage.
    """

    key: str
    dtype: str
    count: int
    start: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class TensorView:
    """A view of a storage; offset and strides count numbers and are within bounds."""

    storage: StorageSlice
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(eq=False)
class DTypeHolder:
    """A NumPy dtype; the pickle sets its byte order in a later step."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class StorageType:
    """A class of storages, such as `torch.FloatStorage`."""

    dtype: str


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class IgnoredObject:
    """An object, class or function that is not a tensor or a plain value; it is left out.

    Attributes:
        name: The dotted name that the pickle refers to, such as `argparse.Namespace`. It is never
            imported.
    """

    name: str


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class EncodedText:
    """Bytes that the pickle stores as a text; they are encoded once, when they are needed."""

    text: str


@dataclasses.dataclass(eq=False)
class ArrayHolder:
    """A NumPy array; the pickle sets its contents in a later step.

    Attributes:
        dtype: Its type; None until the contents are set, or if it is not a plain number.
        shape: Its shape.
        order: Order of the numbers: `C` or `F`.
        data: Its bytes: bytes, a bytearray, or a text in Latin-1.
    """

    dtype: np.dtype | None = None
    shape: tuple[int, ...] = ()
    order: Literal["C", "F"] = "C"
    data: Any = b""

    def fill(self, shape: Any, dtype: Any, order: Literal["C", "F"], data: Any) -> None:
        """Sets the contents; an array of anything but plain numbers stays without."""
        if type(dtype) is not DTypeHolder:
            return
        data = data.text if type(data) is EncodedText else data
        if type(data) not in (bytes, bytearray, str) or type(shape) is not tuple:
            raise TypeError("an array needs a shape and bytes")
        if len(shape) > _MAX_DIMENSIONS or not all(map(is_size, shape)):
            raise ValueError("an array's shape does not consist of sizes")
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise ValueError(f"its pickle holds a NumPy array of shape {shape} of another length")
        self.dtype, self.shape, self.order, self.data = dtype.dtype, shape, order, data


def is_size(value: Any) -> bool:
    """Whether a value can be a size: an int, not a bool, of at most 63 bits."""
    return type(value) is int and 0 <= value < 2**63


def to_dict(pairs: Any) -> dict[Any, Any]:
    """Returns a dict of pairs; keys must be cheap to hash: a deep tuple would end the process.

    A key that is a tuple or an object is replaced by a text that states its type.
    """
    values: dict[Any, Any] = {}
    for key, value in pairs:
        if type(key) in (tuple, IgnoredObject) or isinstance(key, np.generic):
            key = f"<{type(key).__name__} {len(values)}>"
        # Integers beyond 61 bits can be chosen so that their hashes collide.
        if type(key) not in (str, bytes, int, float, bool, type(None)) or (
            type(key) is int and abs(key) >= 2**61 - 1
        ):
            raise ValueError(f"its pickle has a {type(key).__name__} for a key")
        values[key] = value
    return values


def _rebuild_tensor(  # the signature of PyTorch's function
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any = None,
    hooks: Any = None,
    metadata: Any = None,
) -> TensorView:
    del requires_grad, hooks, metadata
    if type(storage) is not StorageSlice or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor needs a storage, an offset, sizes and strides")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    if not all(map(is_size, (offset, *shape, *strides))):
        raise ValueError("a tensor's offset, sizes or strides are not sizes")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise ValueError(
            f"a tensor of shape {shape} reaches beyond its storage of {storage.count} numbers"
        )
    return TensorView(storage, offset, shape, strides)


def _rebuild_parameter(
    tensor: Any, requires_grad: Any, hooks: Any, state: Any = None
) -> TensorView:
    del requires_grad, hooks, state
    if type(tensor) is not TensorView:
        raise TypeError("a parameter needs a tensor")
    return tensor


def _dtype(code: Any, align: Any = None, copy: Any = None) -> DTypeHolder | IgnoredObject:
    del align, copy
    if type(code) is not str or not _PLAIN_NUMBER.fullmatch(code):
        return IgnoredObject("numpy.dtype")
    return DTypeHolder(np.dtype(code))


def with_byte_order(dtype: np.dtype, state: Any) -> np.dtype:
    """Returns a dtype with the byte order of its pickled state, which may contain nothing else."""
    plain = type(state) is tuple and len(state) > 4 and all(item is None for item in state[2:5])
    if not plain or type(state[1]) is not str or state[1] not in ("<", ">", "|", "="):
        raise ValueError("its pickle holds a NumPy dtype that is not a plain number")
    return dtype.newbyteorder(state[1])  # type: ignore[arg-type]


def _scalar(kind: Any, data: Any) -> Any:
    if type(kind) is IgnoredObject:
        return kind
    data = data.encode("latin-1") if type(data) is str else data  # as Python 2 wrote bytes
    if type(kind) is not DTypeHolder or type(data) is not bytes:
        raise TypeError("a scalar needs a dtype and bytes")
    if len(data) != kind.dtype.itemsize:
        raise ValueError("its pickle holds a NumPy scalar of the wrong length")
    return np.frombuffer(data, kind.dtype).astype(kind.dtype.newbyteorder("="))[0]


def _encode(text: Any, encoding: Any) -> bytes | EncodedText:
    # Protocol 2 writes bytes this way. A short pickle could encode a long text again and again.
    if type(text) is not str or type(encoding) is not str or encoding != "latin1":
        raise TypeError("encode needs a text and latin1")
    return text.encode("latin-1") if len(text) <= 64 else EncodedText(text)


def _reconstruct(kind: Any, shape: Any, code: Any) -> ArrayHolder | IgnoredObject:
    del shape, code
    if type(kind) is not IgnoredObject:
        raise TypeError("an array needs a class")
    return ArrayHolder() if kind.name == "numpy.ndarray" else kind


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> ArrayHolder:
    if type(order) is not str or order not in ("C", "F"):
        raise TypeError("an array needs an order")
    array = ArrayHolder()
    array.fill(shape, dtype, "F" if order == "F" else "C", data)
    return array


def _default_dict(factory: Any = None) -> dict[Any, Any]:
    del factory
    return {}


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or len(kind) > 32 or not (index is None or is_size(index)):
        raise TypeError("a device needs a name and a number")
    return kind if index is None else f"{kind}:{index}"


def _size(items: Any = ()) -> tuple[Any, ...]:
    if type(items) not in (tuple, list) or len(items) > _MAX_DIMENSIONS:
        raise TypeError("a size needs a short tuple")
    return tuple(items)


def _ordered_dict(items: Any = None) -> dict[Any, Any]:
    if items is None:
        return {}
    if type(items) is not list:
        raise TypeError("an OrderedDict needs a list of pairs")
    values = to_dict(items)
    items.clear()  # else a short pickle could copy a long list again and again
    return values


# The functions that a pickle may call, and the ones that are called instead.
CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": _encode,
}
# Names that a file of weights refers to only to attack whoever unpickles it. Other unknown names
# are left out; such a file is refused as a whole. The list names attacks that are known, for the
# reader: a name that is missing from it is not imported either.
# Source: the unsafe globals of picklescan (src/picklescan/scanner.py) and of fickling.
_HOSTILE_MODULES = {
    *("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "runpy", "importlib", "pty"),
    *("ctypes", "pickle", "_pickle", "marshal", "webbrowser", "operator", "_operator", "pdb"),
    *("bdb", "code", "codeop", "commands", "popen2", "asyncio", "multiprocessing", "threading"),
    *("_thread", "_posixsubprocess", "signal", "site", "imp", "zipimport", "pkgutil", "timeit"),
    *("trace", "profile", "cProfile", "doctest", "pydoc", "venv", "ensurepip", "pip", "idlelib"),
    *("distutils", "setuptools", "lib2to3", "http", "httplib", "urllib", "urllib2", "ftplib"),
    *("smtplib", "telnetlib", "requests", "aiohttp", "ssl", "_aix_support", "_osx_support"),
}
# Modules that are reached as attributes of others too: `posixpath.os.system`.
_HOSTILE_PARTS = {
    *("os", "posix", "subprocess", "sys", "builtins", "__builtin__", "importlib", "pty", "f2py"),
    *("_load_from_bytes", "execWrapper", "runstring", "load_library"),
}
_HOSTILE_NAMES = {
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in (
        *("eval", "exec", "execfile", "compile", "open", "__import__", "getattr", "setattr"),
        *("delattr", "apply", "breakpoint", "input", "globals", "locals", "vars", "map", "filter"),
    )
} | {
    *("torch.load", "torch.hub.load", "torch.serialization.load", "torch.jit.load", "numpy.load"),
    *("joblib.load", "dill.loads", "cloudpickle.loads", "pandas.read_pickle", "platform.popen"),
    *("types.CodeType", "types.FunctionType", "functools.reduce", "logging.config.listen"),
    *("torch.utils.collect_env.run", "torch.utils.bottleneck.__main__.run_cprofile"),
}

_HARMLESS = {"__main__", "__builtin__", "__torch__", "__newobj__", "__newobj_ex__", "__mp_main__"}


def is_hostile(name: str) -> bool:
    """Whether a dotted name shows that a file attacks whoever unpickles it."""
    parts = name.split(".")
    # Names such as `numpy.random._pickle.__generator_ctor` are private functions, not attributes.
    hidden = any(
        part.startswith("__") and part.endswith("__") and part not in _HARMLESS for part in parts
    )
    inner = not _HOSTILE_PARTS.isdisjoint(parts[1:])
    return hidden or inner or name in _HOSTILE_NAMES or parts[0] in _HOSTILE_MODULES


# The classes and constants that a pickle may refer to.
VALUES: dict[str, Any] = {
    **{f"torch.{name}": StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
    **{f"torch.cuda.{name}": StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
    "torch.storage.UntypedStorage": StorageType("uint8"),
    "torch.storage.TypedStorage": StorageType("uint8"),
    **{f"torch.{dtype}": dtype for dtype in _TORCH_DTYPES},
}
