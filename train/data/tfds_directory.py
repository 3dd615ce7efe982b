"""Checks of a prepared TFDS directory before TFDS opens it: TFDS imports the modules it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from keras_resnet.weights.files.json_object import MAX_BYTES, parse_object

from .walk import is_special

_OWN = "tensorflow_datasets.core.features."
_KEYS = ("pythonClassName", "type")  # the second in files of earlier versions
_MOST_CLASSES = 1_000_000  # Google Landmarks v2 has 203,094
_MAX_FILES = 1000  # versions and configurations of one data set


def check_tfds_directory(data_dir: str | None, dataset: str) -> None:
    """Refuses a prepared data set whose features are classes from outside TFDS.

    Args:
        data_dir: The directory of prepared data sets; TFDS's own for None.
        dataset: Name of the data set, perhaps with a configuration and version.

    Raises:
        ValueError: If the name is in a namespace, whose code TFDS would fetch and run; or if a
            `features.json` names a class of another module, is damaged or too long.
    """
    import tensorflow_datasets as tfds

    name, _, rest = dataset.partition(":")
    version = re.match(r"[\d*]+(\.[\d*]+)*$", rest)
    own = tfds.list_builders(with_community_datasets=False)
    if rest and not version and name.partition("/")[0] not in own:
        raise ValueError(
            f"{dataset!r} is in the namespace {name!r}, whose code TFDS would run. Prepare the "
            "data set with TFDS yourself, and give its directory as --data-dir"
        )
    root = tfds.core.Path(data_dir or tfds.core.constants.DATA_DIR)
    folder = root / name.partition("/")[0]
    # The folders are version, or configuration and version.
    paths = [*folder.glob("*/features.json"), *folder.glob("*/*/features.json")]
    for count, path in enumerate(paths):
        special = [each for each in path.parent.iterdir() if is_special(str(each))]
        if special:  # a pipe would wait for a writer
            raise ValueError(f"{special[0]} is neither a regular file nor a directory")
        if count == _MAX_FILES:
            raise ValueError(f"{path.parent} holds more than {_MAX_FILES} prepared data sets")
        if not path.is_file() or path.stat().length > MAX_BYTES:
            raise ValueError(f"{path} is not a file of at most {MAX_BYTES} bytes")
        features = parse_object(path.read_bytes(), repr(str(path)))
        _check_counts(path.parent, features)
        for named in _classes(features):
            if not named.startswith(_OWN):
                raise ValueError(
                    f"{path} names the class {named[:80]!r}, which TFDS would import and run: only "
                    f"those of {_OWN[:-1]} are allowed"
                )


def _check_counts(folder: Any, features: Any) -> None:
    """Refuses numbers of classes and examples that the files cannot have.

    TFDS makes a list of all classes, and positions of examples are kept in memory.

    Raises:
        ValueError: If one is too large, or `dataset_info.json` is damaged.
    """
    largest = max(_numbers(features, "numClasses"), default=0)
    if largest > _MOST_CLASSES:
        raise ValueError(
            f"{folder / 'features.json'} states {largest:,} classes; at most {_MOST_CLASSES:,} are "
            "read"
        )
    path = folder / "dataset_info.json"
    if not path.is_file() or path.stat().length > MAX_BYTES:
        return  # TFDS says so
    examples = sum(_numbers(parse_object(path.read_bytes(), repr(str(path))), "shardLengths"))
    held = sum(each.stat().length for each in folder.iterdir())
    if examples > held:
        raise ValueError(f"{path} states {examples:,} examples, and the files have {held:,} bytes")


def _numbers(node: Any, key: str) -> Iterator[int]:
    """Yields the whole numbers under a key, also those that are written as texts."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += node.values()
            values = node.get(key)
            for value in values if isinstance(values, list) else [values]:
                text = str(value)
                if re.fullmatch(r"\d{1,30}", text, re.ASCII):
                    yield int(text)
        elif isinstance(node, list):
            waiting += node


def _classes(node: Any) -> Iterator[str]:
    """Yields the dotted names of classes in the description of features."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            named = [node[key] for key in _KEYS if isinstance(node.get(key), str)]
            yield from (name for name in named if "." in name or name == node.get(_KEYS[0]))
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
