"""Files of weights in a folder that transformers, timm or KerasHub wrote."""

from __future__ import annotations

import os

from keras_resnet.weights.files.json_object import read_object

# In the order in which they are tried.
_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.weights.h5",
    "model.keras",
)
# KerasHub's presets keep the classifier in a file of its own beside the backbone's.
_KERAS_HUB_HEAD = "task.weights.h5"
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def find_files(path: str) -> list[str]:
    """Returns the files of one net: the path itself, or those in a folder or of an index.

    Args:
        path: A file of weights, the index of a sharded one, or a folder with either.

    Raises:
        FileNotFoundError: If there are no weights at the path, or a file of an index is missing.
        ValueError: If an index names anything but files beside it, or the path is a pipe or device.
    """
    if os.path.isfile(path):
        return _shards(path) if path.endswith(".index.json") else [path]
    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError(f"{path!r} is not a regular file")
    if not os.path.isdir(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    for name in _FILES:
        if os.path.isfile(os.path.join(path, name)):
            files = [os.path.join(path, name), os.path.join(path, _KERAS_HUB_HEAD)]
            with_head = name == "model.weights.h5" and os.path.isfile(files[1])
            return files if with_head else files[:1]
    for name in _INDEXES:
        if os.path.isfile(os.path.join(path, name)):
            return _shards(os.path.join(path, name))
    listed = ", ".join(sorted(os.listdir(path))[:6]) or "nothing"
    raise FileNotFoundError(
        f"The folder {path!r} holds no weights: one of {', '.join((*_FILES, *_INDEXES))} is "
        f"needed. It holds {listed}"
    )


def _shards(index: str) -> list[str]:
    """Returns the files that an index names; they must lie beside it."""
    table = read_object(index).get("weight_map")
    names = sorted({*table.values()}, key=str) if isinstance(table, dict) else []
    if not names:
        raise ValueError(f"{index!r} names no files of weights")
    for name in names:
        if not isinstance(name, str) or os.path.basename(name) != name or name.startswith("."):
            raise ValueError(f"{index!r} names {str(name)[:80]!r}, which is not a plain file name")
    paths = [os.path.join(os.path.dirname(index), name) for name in names]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(f"No weights file at {missing[0]!r}, which {index!r} names")
    return paths
