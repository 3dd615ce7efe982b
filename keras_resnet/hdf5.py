"""Keras's HDF5 files, by layer and variable: those of Keras 2, and Keras 3's `.weights.h5`.

An HDF5 file can point to other files and declare arrays of any size. Therefore each link on a path
is checked and only hard links are followed, and the arrays that are read are bounded by the size
of the file. Every HDF5 file is read or checked here, this package's own included.
"""

from __future__ import annotations

import collections
import contextlib
import io
import math
import mmap
import os
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_resnet.hdf5_strings import HeapStrings

_MAX_DEPTH = 24
_FREE = 256 << 20
KERAS_MEMBER = "model.weights.h5"  # in a `.keras` archive
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LONGEST_ATTRIBUTES = 64 << 20  # bytes; HDF5 itself allows 64 kB in most files
_SKIPPED = ("vars", "optimizer", "seed_generator")  # read before, or not weights
# Names of Keras 1, whose `running_std` is the variance.
_KERAS_1_NAMES = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}


def allowed_bytes(size: int) -> int:
    """Returns how many bytes the contents of a file of `size` bytes may take in memory.

    Trained weights hardly compress; constant weights of a small net do.
    """
    return 2 * size + _FREE


def read_hdf5_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the weights of an HDF5 file or a `.keras` archive on disk; see `read_hdf5`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is damaged, refers to other files, or declares more than it holds.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    try:
        size = os.path.getsize(path)
        source = unpack(path, size) if zipfile.is_zipfile(path) else path
        return read_hdf5(source, size)[0]
    except Exception as error:  # h5py raises errors of many types
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path!r} contains no readable weights: {line}") from error


def unpack(path: str, size: int) -> io.BytesIO:
    """Returns the HDF5 file in a `.keras` archive of `size` bytes.

    Raises:
        ValueError: If it would take more memory than the archive allows, or two members have one
            name.
    """
    with zipfile.ZipFile(path) as archive:
        counts = collections.Counter(archive.namelist())
        if len(counts) < counts.total():  # readers differ in which one they take
            raise ValueError(f"it holds {counts.most_common(1)[0][0][:80]!r} more than once")
        info = archive.getinfo(KERAS_MEMBER)
        if info.file_size > allowed_bytes(size):
            raise ValueError(f"its {KERAS_MEMBER!r} would expand to {info.file_size} bytes")
        # Keras unpacks the other members to the disk where one of them is an asset.
        total = sum(member.file_size for member in archive.infolist())
        if total > allowed_bytes(size):
            raise ValueError(f"its members would expand to {total} bytes")
        return io.BytesIO(archive.read(info))


def read_hdf5(file: str | io.BytesIO, size: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the weights of an HDF5 file.

    Args:
        file: A path, or a file in memory.
        size: Bytes of the file on disk; they bound the arrays that are read.

    Returns:
        Arrays by name, and the file's metadata. Names from Keras 2 are `layer/kernel`,
        `layer/bias`, `layer/gamma` and so on; names from Keras 3 are `layer/0`, `layer/1` in the
        order of the layer's variables. Layers that share a name are prefixed by the names of the
        models that contain them.

    Raises:
        ValueError: If the file is not Keras's or refers to other files. For a damaged file, h5py
            raises errors of many types, mostly OSError.
    """
    import h5py

    strings = _check_strings(file)
    with h5py.File(file, "r") as root:
        reader = _Reader(size, strings)
        keras_2 = _keras_2_root(root)
        if keras_2 is None:
            tensors, metadata = _read_keras_3(reader, root), {"format": "keras 3"}
        else:
            tensors, metadata = dict(_read_keras_2(reader, keras_2)), {"format": "keras 2"}
            for key in ("keras_version", "backend"):
                if key in keras_2.attrs:
                    metadata[key] = _text(reader.attribute(keras_2, key))
    if not tensors:
        raise ValueError("it is an HDF5 file without Keras weights")
    return tensors, metadata


def read_model_config(path: str) -> str | bytes | None:
    """Returns the config of a whole model's HDF5 file; None if it has none.

    Raises:
        ValueError: If the file is damaged.
    """
    import h5py

    try:
        strings = _check_strings(path)
        with h5py.File(path, "r") as file:
            text = _Reader(0, strings).attribute(file, "model_config")
    except Exception as error:  # h5py raises errors of many types
        raise ValueError(f"{path!r} is damaged: {error}") from error
    return text if isinstance(text, str | bytes) else None


def _check_strings(file: str | io.BytesIO) -> HeapStrings:
    """Returns the strings of variable length, after they were checked."""
    with contextlib.ExitStack() as stack:
        data: Any
        if isinstance(file, io.BytesIO):
            data = file.getvalue()
        else:
            opened = stack.enter_context(open(file, "rb"))
            data = stack.enter_context(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        if data[:8] != SIGNATURE or len(data) < 16:
            raise ValueError("it is not an HDF5 file")
        widths = data[13:15] if data[8] < 2 else data[9:11]
        if widths != b"\x08\x08":
            raise ValueError("its addresses are not 8 bytes long")
        return HeapStrings(data)


class _Reader:
    """Reads groups and arrays of one file, each once, within a total size.

    Links, virtual data sets and external storage are refused.
    """

    def __init__(self, size: int, strings: HeapStrings) -> None:
        import h5py

        self._h5py: Any = h5py
        self._bytes_left, self._strings = allowed_bytes(size), strings
        self._seen: set[Any] = set()

    def find(self, group: Any, path: str) -> Any:
        """Returns the group or data set at a path; every link on it must be a hard link."""
        for name in path.split("/"):
            link = None
            if name and isinstance(group, self._h5py.Group):
                link = group.get(name, getlink=True)
            if link is None:
                raise ValueError(f"its {group.name!r} has no {name!r}")
            if not isinstance(link, self._h5py.HardLink):
                raise ValueError(f"its {name!r} in {group.name!r} is a link, which is refused")
            group = group[name]
        return group

    def group(self, parent: Any, path: str) -> Any:
        group = self.find(parent, path)
        if not isinstance(group, self._h5py.Group):
            raise ValueError(f"its {group.name!r} is not a group")
        return group

    def array(self, parent: Any, path: str) -> np.ndarray:
        dataset = self.find(parent, path)
        where = f"its {dataset.name!r}"
        if not isinstance(dataset, self._h5py.Dataset) or dataset.shape is None:
            raise ValueError(f"{where} is not an array")
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{where} is stored in other files, which is refused")
        is_void = dataset.dtype == np.dtype("V2")
        bfloat16 = is_void and _text(self.attribute(dataset, "dtype")) == "bfloat16"
        if dataset.dtype.kind not in "fiub" and not bfloat16:
            raise ValueError(f"{where} does not hold numbers but {dataset.dtype}")
        self.check_first_visit(dataset)
        length = math.prod(dataset.shape) * dataset.dtype.itemsize
        if dataset.chunks is None and length > dataset.id.get_storage_size():
            raise ValueError(f"{where} is declared larger than the stored data")
        self._bytes_left -= length
        if self._bytes_left < 0:
            raise ValueError(f"{where} is larger than the file allows")
        array = np.asarray(dataset[()])
        if bfloat16:
            return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def attribute(self, node: Any, name: str) -> Any:
        """Returns an attribute of texts; None if there is none of this name."""
        if name not in node.attrs:
            return None
        stored = node.attrs.get_id(name)
        kind = stored.get_type()
        if kind.get_class() != self._h5py.h5t.STRING:
            return None
        if kind.is_variable_str():
            self._strings.check(name)
        elif stored.get_storage_size() > _LONGEST_ATTRIBUTES:
            raise ValueError(f"its attribute {name!r} is too long")
        return node.attrs[name]

    def check_first_visit(self, node: Any) -> None:
        """Refuses a group or data set that was visited before under another name."""
        address = self._h5py.h5o.get_info(node.id).addr
        if address in self._seen:
            raise ValueError(f"its {node.name!r} occurs a second time, under another name")
        self._seen.add(address)


def _keras_2_root(root: Any) -> Any:
    import h5py

    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return root
    link = root.get("model_weights", getlink=True)
    if isinstance(link, h5py.HardLink) and isinstance(root["model_weights"], h5py.Group):
        return root["model_weights"]
    return None


def _read_keras_2(reader: _Reader, root: Any) -> Iterator[tuple[str, np.ndarray]]:
    for layer in _names(reader, root, "layer_names"):
        group = reader.group(root, layer)
        paths = _names(reader, group, "weight_names")
        names = [_variable_name(layer, path) for path in paths]
        if len(set(names)) < len(names):  # a model within the model
            names = [_nested_name(layer, path) for path in paths]
        for name, path in zip(names, paths, strict=True):
            yield f"{layer}/{name}", reader.array(group, path)


def _names(reader: _Reader, group: Any, attribute: str) -> list[str]:
    """Returns a list of names; Keras splits a list that is too long for one attribute."""
    parts = [attribute] if attribute in group.attrs else []
    while not parts or parts[0] != attribute:
        part = f"{attribute}{len(parts)}"
        if part not in group.attrs:
            break
        parts.append(part)
    texts = (np.ravel(reader.attribute(group, part)) for part in parts)
    return [_text(name) for each in texts for name in each if name is not None]


def _variable_name(layer: str, path: str) -> str:
    name = path.rsplit("/", 1)[-1].removesuffix(":0").removeprefix(f"{layer}_")
    return _KERAS_1_NAMES.get(name, name)


def _nested_name(layer: str, path: str) -> str:
    name = path.removesuffix(":0")
    while name.startswith(f"{layer}/"):
        name = name.removeprefix(f"{layer}/")
    return name


def _read_keras_3(reader: _Reader, root: Any) -> dict[str, np.ndarray]:
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
        raise ValueError("two of its layers have the same name")
    return {
        f"{name}/{index}": array
        for name, (_, arrays) in zip(names, layers, strict=True)
        for index, array in arrays.items()
    }


def _layers(
    reader: _Reader, group: Any, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, np.ndarray]]]:
    """Yields layers with variables: the names from the outermost model to the layer, and arrays.

    The group of a layer contains `vars` and the groups of its inner layers, perhaps in `layers`.
    """
    import h5py

    if len(above) > _MAX_DEPTH:
        raise ValueError(f"its groups are nested more than {_MAX_DEPTH} deep")
    reader.check_first_visit(group)
    if group.get("vars", getlink=True) is not None:
        variables = reader.group(group, "vars")
        reader.check_first_visit(variables)
        name = _text(reader.attribute(variables, "name")) or group.name.rsplit("/", 1)[-1]
        arrays = {
            index: reader.array(variables, index) for index in sorted(variables, key=_number_order)
        }
        if name:
            above = (*above, name)
        if arrays:
            yield above or ("model",), arrays
    elif group.name.rsplit("/", 1)[-1] not in ("", "layers", "_layer_checkpoint_dependencies"):
        above = (*above, group.name.rsplit("/", 1)[-1])
    for name in group:
        if name not in _SKIPPED:
            child = reader.find(group, name)
            if isinstance(child, h5py.Group):
                yield from _layers(reader, child, above)


def _number_order(name: str) -> tuple[int, str]:
    return (len(name), name)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
