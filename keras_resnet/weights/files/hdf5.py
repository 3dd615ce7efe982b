"""Keras's HDF5 files, by layer and variable: Keras 2's, and the `.weights.h5` of Keras 3.

An HDF5 file can point to other files and declare arrays of any size. Links are therefore followed
one by one, only those that stay inside, and what is read is held to the size of the file.
"""

from __future__ import annotations

import collections
import contextlib
import io
import math
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

_MAX_DEPTH = 24
MAX_EXPANSION = 20  # of the file, by compression; trained weights hardly shrink at all
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\1\0\0\0"
_NO_WEIGHTS = ("vars", "optimizer", "seed_generator")  # or read before
# Names of Keras 1, whose `running_std` held the variance.
_OLD = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}


def read_hdf5(file: str | io.BytesIO, size: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the weights of an HDF5 file.

    Args:
        file: A path, or a file in memory.
        size: Bytes that are read for it from disk, to which its contents are held.

    Returns:
        Arrays by name, and the file's metadata. Keras 2's names are `layer/kernel`, `layer/bias`,
        `layer/gamma` and so on, Keras 3's `layer/0`, `layer/1` in the order of the layer's
        variables. Where two layers have one name, those of the models they lie in stand before it.

    Raises:
        ValueError: If it is not Keras's or reaches outside itself. h5py raises errors of many
            types, OSError above all, where it is damaged.
    """
    import h5py

    _check_heaps(file)
    with h5py.File(file, "r") as root:
        reader = _Reader(size)
        legacy = _legacy_root(root)
        tensors = dict(_legacy(reader, legacy)) if legacy is not None else _modern(reader, root)
        about = () if legacy is None else ("keras_version", "backend")
        kept = {key: _text(legacy.attrs[key]) for key in about if key in legacy.attrs}
    if not tensors:
        raise ValueError("it is an HDF5 file without Keras weights")
    return tensors, {"format": "keras 3" if legacy is None else "keras 2", **kept}


def _check_heaps(file: str | io.BytesIO) -> None:
    """Checks the heaps of strings: over a damaged one HDF5 1.14 runs forever (its issue 1707).

    A heap is `GCOL`, version 1, three zeros and its length; then objects of index, count of
    references, four zeros, length, and data up to a multiple of 8 bytes. Index 0 is what is free.
    """
    with contextlib.ExitStack() as stack:
        data: Any
        if isinstance(file, io.BytesIO):
            data = file.getvalue()
        else:
            opened = stack.enter_context(open(file, "rb"))
            data = stack.enter_context(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        if data[:8] != SIGNATURE or len(data) < 16:
            raise ValueError("it is no HDF5 file")
        widths = data[13:15] if data[8] < 2 else data[9:11]
        if widths != b"\x08\x08":
            raise ValueError("its addresses are not of 8 bytes")
        start = data.find(_HEAP)
        while start >= 0:
            length = int.from_bytes(data[start + 8 : start + 16], "little")
            place, end = start + 16, start + length
            while place <= end - 16 and place < len(data):
                index = int.from_bytes(data[place : place + 2], "little")
                size = int.from_bytes(data[place + 8 : place + 16], "little")
                step = 16 + (size + 7) // 8 * 8 if index else size
                if step < 16 or place + step > end:
                    raise ValueError("its strings are damaged")
                place += step
            start = data.find(_HEAP, start + 1)


class _Reader:
    """Opens what lies in the file itself, each thing once, and no more than the file can hold."""

    def __init__(self, size: int) -> None:
        self._left = MAX_EXPANSION * size
        self._seen: set[Any] = set()

    def find(self, group: Any, path: str) -> Any:
        import h5py

        for name in path.split("/"):
            link = group.get(name, getlink=True) if name and isinstance(group, h5py.Group) else None
            if link is None:
                raise ValueError(f"its {group.name!r} has no {name!r}")
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"its {name!r} in {group.name!r} is a link, which is refused")
            group = group[name]
        return group

    def group(self, parent: Any, path: str) -> Any:
        import h5py

        found = self.find(parent, path)
        if not isinstance(found, h5py.Group):
            raise ValueError(f"its {found.name!r} is no group")
        return found

    def array(self, parent: Any, path: str) -> np.ndarray:
        import h5py

        dataset = self.find(parent, path)
        where = f"its {dataset.name!r}"
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise ValueError(f"{where} is no array")
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{where} lies in other files, which is refused")
        half = dataset.dtype == np.dtype("V2") and _text(dataset.attrs.get("dtype")) == "bfloat16"
        if dataset.dtype.kind not in "fiub" and not half:
            raise ValueError(f"{where} holds no numbers but {dataset.dtype}")
        self.once(dataset)
        length = math.prod(dataset.shape) * dataset.dtype.itemsize
        plain = dataset.chunks is None
        if plain and length > dataset.id.get_storage_size():
            raise ValueError(f"{where} is declared larger than what is stored")
        self._left -= length
        if self._left < 0:
            raise ValueError(f"{where} is larger than the file has room for")
        array = np.asarray(dataset[()])
        if half:
            return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def once(self, thing: Any) -> None:
        import h5py

        token = h5py.h5o.get_info(thing.id).addr
        if token in self._seen:
            raise ValueError(f"its {thing.name!r} occurs a second time, under another name")
        self._seen.add(token)


def _legacy_root(root: Any) -> Any:
    import h5py

    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return root
    link = root.get("model_weights", getlink=True)
    if isinstance(link, h5py.HardLink) and isinstance(root["model_weights"], h5py.Group):
        return root["model_weights"]
    return None


def _legacy(reader: _Reader, root: Any) -> Iterator[tuple[str, np.ndarray]]:
    for layer in _names(root, "layer_names"):
        group = reader.group(root, layer)
        paths = _names(group, "weight_names")
        short = [_variable(layer, path) for path in paths]
        if len(set(short)) < len(short):  # a model within the model
            short = [_inner(layer, path) for path in paths]
        for name, path in zip(short, paths, strict=True):
            yield f"{layer}/{name}", reader.array(group, path)


def _names(group: Any, attribute: str) -> list[str]:
    """Returns a list of names; Keras splits one that is too long for an attribute."""
    if attribute in group.attrs:
        return [_text(name) for name in np.ravel(group.attrs[attribute])]
    names: list[str] = []
    for part in range(len(group.attrs)):
        if f"{attribute}{part}" not in group.attrs:
            break
        names += [_text(name) for name in np.ravel(group.attrs[f"{attribute}{part}"])]
    return names


def _variable(layer: str, path: str) -> str:
    name = path.rsplit("/", 1)[-1].removesuffix(":0").removeprefix(f"{layer}_")
    return _OLD.get(name, name)


def _inner(layer: str, path: str) -> str:
    name = path.removesuffix(":0")
    while name.startswith(f"{layer}/"):
        name = name.removeprefix(f"{layer}/")
    return name


def _modern(reader: _Reader, root: Any) -> dict[str, np.ndarray]:
    layers = list(_layers(reader, root, ()))
    names = [path[-1] for path, _ in layers]
    for depth in range(2, _MAX_DEPTH):
        counts = collections.Counter(names)
        if len(counts) == len(names):
            break
        names = [
            "/".join(path[-depth:]) if counts[name] > 1 else name
            for name, (path, _) in zip(names, layers, strict=True)
        ]
    else:
        raise ValueError("two of its layers have one name")
    return {
        f"{name}/{index}": array
        for name, (_, arrays) in zip(names, layers, strict=True)
        for index, array in arrays.items()
    }


def _layers(
    reader: _Reader, group: Any, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, np.ndarray]]]:
    """Yields layers with variables: names from the outermost model to the layer, and arrays.

    A group of a layer holds `vars`, and groups of the layers inside it, perhaps under `layers`.
    """
    import h5py

    if len(above) > _MAX_DEPTH:
        raise ValueError(f"its groups lie more than {_MAX_DEPTH} deep")
    reader.once(group)
    if group.get("vars", getlink=True) is not None:
        variables = reader.group(group, "vars")
        reader.once(variables)
        name = _text(variables.attrs.get("name")) or group.name.rsplit("/", 1)[-1]
        arrays = {index: reader.array(variables, index) for index in sorted(variables, key=_order)}
        if name:
            above = (*above, name)
        if arrays:
            yield above or ("model",), arrays
    elif group.name.rsplit("/", 1)[-1] not in ("", "layers", "_layer_checkpoint_dependencies"):
        above = (*above, group.name.rsplit("/", 1)[-1])
    for name in group:
        if name not in _NO_WEIGHTS:
            child = reader.find(group, name)
            if isinstance(child, h5py.Group):
                yield from _layers(reader, child, above)


def _order(name: str) -> tuple[int, str]:
    return (len(name), name)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
