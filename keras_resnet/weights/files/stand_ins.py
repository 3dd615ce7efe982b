"""What stands, in a checkpoint read as data, for the things of PyTorch and NumPy that it names.

Each function here checks all it is given: it comes from a file that may be forged. None copies what
a short pickle could have copied again and again.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

# NumPy's names for PyTorch's storages; bfloat16 has none and is kept as its 16 bits.
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
class Storage:
    """A run of numbers that lies elsewhere in the file; several tensors may share it.

    Attributes:
        key: Its name in the file.
        dtype: NumPy's name of its type, or `bfloat16`.
        count: Numbers in it.
        start: Where it begins within the storage of that name, in numbers.
    """

    key: str
    dtype: str
    count: int
    start: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage; offset and strides count numbers and lie within it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(eq=False)
class NumberType:
    """A NumPy dtype, whose byte order comes after it was first mentioned."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Storages:
    """The class of all storages of one type."""

    dtype: str


@dataclasses.dataclass(frozen=True, eq=False)
class LeftOut:
    """An object whose attributes are not read: the options of the script that wrote the file."""


def is_size(value: Any) -> bool:
    """Whether a value can be a count: no bool, and of 63 bits, lest arithmetic grow slow."""
    return type(value) is int and 0 <= value < 2**63


def keyed(pairs: Any) -> dict[Any, Any]:
    """Makes a dict of keys that are cheap to hash: a deep tuple would end the process."""
    made = {}
    for key, value in pairs:
        # Beyond 61 bits integers can be chosen to collide.
        if type(key) not in (str, bytes, int, float, bool, type(None)) or (
            type(key) is int and abs(key) >= 2**61 - 1
        ):
            raise ValueError(f"its pickle has a {type(key).__name__} for a key")
        made[key] = value
    return made


def _tensor(  # as PyTorch calls it
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any = None,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    del requires_grad, hooks, metadata
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor is made of a storage, an offset, sizes and strides")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    if not all(map(is_size, (offset, *shape, *strides))):
        raise ValueError("a tensor's offset, sizes or strides are no sizes")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise ValueError(
            f"a tensor of shape {shape} reaches beyond its storage of {storage.count} numbers"
        )
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Tensor:
    del requires_grad, hooks
    if type(tensor) is not Tensor:
        raise TypeError("a parameter is made of a tensor")
    return tensor


def _number_type(code: Any, align: Any = None, copy: Any = None) -> NumberType:
    del align, copy
    if type(code) is not str or not _PLAIN_NUMBER.fullmatch(code):
        raise ValueError("its pickle holds a NumPy dtype that is no plain number")
    return NumberType(np.dtype(code))


def ordered(dtype: np.dtype, state: Any) -> np.dtype:
    """Returns a dtype in the byte order that its pickled state gives, which may give no more."""
    plain = type(state) is tuple and len(state) > 4 and all(item is None for item in state[2:5])
    if not plain or type(state[1]) is not str or state[1] not in ("<", ">", "|", "="):
        raise ValueError("its pickle holds a NumPy dtype that is no plain number")
    return dtype.newbyteorder(state[1])  # type: ignore[arg-type]


def _scalar(kind: Any, data: Any) -> Any:
    data = data.encode("latin-1") if type(data) is str else data  # as Python 2 wrote bytes
    if type(kind) is not NumberType or type(data) is not bytes:
        raise TypeError("a scalar is made of a dtype and bytes")
    if len(data) != kind.dtype.itemsize:
        raise ValueError("its pickle holds a NumPy scalar of the wrong length")
    return np.frombuffer(data, kind.dtype).astype(kind.dtype.newbyteorder("="))[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # Protocol 2 writes the bytes of a scalar so; longer ones could be asked for again and again.
    if type(text) is not str or len(text) > 64 or type(encoding) is not str or encoding != "latin1":
        raise TypeError("a few bytes as text")
    return text.encode("latin-1")


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or len(kind) > 32 or not (index is None or is_size(index)):
        raise TypeError("a device is a name and a number")
    return kind if index is None else f"{kind}:{index}"


def _size(items: Any = ()) -> tuple[Any, ...]:
    if type(items) not in (tuple, list) or len(items) > _MAX_DIMENSIONS:
        raise TypeError("sizes come in a short tuple")
    return tuple(items)


def _ordered_dict(items: Any = None) -> dict[Any, Any]:
    if items is None:
        return {}
    if type(items) is not list:
        raise TypeError("Python 2 writes a list of pairs")
    made = keyed(items)
    items.clear()  # or a short pickle could have a long list copied again and again
    return made


# What a pickle may call, and what stands for it here.
CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "numpy.dtype": _number_type,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encode,
}
VALUES: dict[str, Any] = {
    **{f"torch.{name}": Storages(dtype) for name, dtype in _STORAGE_TYPES.items()},
    **{f"torch.cuda.{name}": Storages(dtype) for name, dtype in _STORAGE_TYPES.items()},
    "torch.storage.UntypedStorage": Storages("uint8"),
    "torch.storage.TypedStorage": Storages("uint8"),
    "argparse.Namespace": LeftOut,
    **{f"torch.{dtype}": dtype for dtype in _TORCH_DTYPES},
}
