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
from typing import Any

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


@dataclasses.dataclass(frozen=True, eq=False)
class IgnoredObject:
    """An object whose attributes are not read: an `argparse.Namespace` with a script's options."""


def is_size(value: Any) -> bool:
    """Whether a value can be a size: an int, not a bool, of at most 63 bits."""
    return type(value) is int and 0 <= value < 2**63


def to_dict(pairs: Any) -> dict[Any, Any]:
    """Returns a dict of pairs; keys must be cheap to hash: a deep tuple would end the process."""
    values = {}
    for key, value in pairs:
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


def _rebuild_parameter(tensor: Any, requires_grad: Any, hooks: Any) -> TensorView:
    del requires_grad, hooks
    if type(tensor) is not TensorView:
        raise TypeError("a parameter needs a tensor")
    return tensor


def _dtype(code: Any, align: Any = None, copy: Any = None) -> DTypeHolder:
    del align, copy
    if type(code) is not str or not _PLAIN_NUMBER.fullmatch(code):
        raise ValueError("its pickle holds a NumPy dtype that is not a plain number")
    return DTypeHolder(np.dtype(code))


def with_byte_order(dtype: np.dtype, state: Any) -> np.dtype:
    """Returns a dtype with the byte order of its pickled state, which may contain nothing else."""
    plain = type(state) is tuple and len(state) > 4 and all(item is None for item in state[2:5])
    if not plain or type(state[1]) is not str or state[1] not in ("<", ">", "|", "="):
        raise ValueError("its pickle holds a NumPy dtype that is not a plain number")
    return dtype.newbyteorder(state[1])  # type: ignore[arg-type]


def _scalar(kind: Any, data: Any) -> Any:
    data = data.encode("latin-1") if type(data) is str else data  # as Python 2 wrote bytes
    if type(kind) is not DTypeHolder or type(data) is not bytes:
        raise TypeError("a scalar needs a dtype and bytes")
    if len(data) != kind.dtype.itemsize:
        raise ValueError("its pickle holds a NumPy scalar of the wrong length")
    return np.frombuffer(data, kind.dtype).astype(kind.dtype.newbyteorder("="))[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # Protocol 2 writes the bytes of a scalar this way. A short pickle could encode a long text
    # again and again.
    if type(text) is not str or len(text) > 64 or type(encoding) is not str or encoding != "latin1":
        raise TypeError("encode needs a short text and latin1")
    return text.encode("latin-1")


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
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encode,
}
# The classes and constants that a pickle may refer to.
VALUES: dict[str, Any] = {
    **{f"torch.{name}": StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
    **{f"torch.cuda.{name}": StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
    "torch.storage.UntypedStorage": StorageType("uint8"),
    "torch.storage.TypedStorage": StorageType("uint8"),
    "argparse.Namespace": IgnoredObject,
    **{f"torch.{dtype}": dtype for dtype in _TORCH_DTYPES},
}
