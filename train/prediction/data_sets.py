"""Data sets whose examples are classified: shards, tables, saved data sets, and those of TFDS."""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.texts import check_class_names

from ..config import DataConfig
from ..data import load_data
from ..data.headers import ENDINGS
from ..data.image_data import SPLITS
from ..data.listing import examples
from ..data.load import is_data_set
from ..data.readable import reason
from ..data.shard_manifest import is_record_shards, read_manifest
from ..data.shard_origin import tfds_names, tfds_records
from ..data.sources import FileSource
from ..data.tfds_source import find_builder, image_and_label
from ..evaluation import Member
from ..files import read_object
from ..remote.address import remote_url
from ..remote.data import data_at_hand
from .found import Picture

_FEATURES = "features.json"  # a file of each version of a data set that TFDS has prepared
_MOST_ENTRIES = 256  # of a folder of data sets, configurations or versions


class DataSet(NamedTuple):
    """A data set to classify.

    Attributes:
        sizes: Number of examples of each split.
        notes: What was understood, for the user.
        names: Yields the split and the stored name of each example.
        pictures: Yields the examples in the same order.
    """

    sizes: Mapping[str, int]
    notes: tuple[str, ...]
    names: Callable[[], Iterator[tuple[str, str]]]
    pictures: Callable[[], Iterator[Picture]]


def names_data_set(name: str) -> bool:
    """Whether a path is a data set, or a name that is no path may be one of TFDS."""
    path = Path(name)
    if not path.exists():
        return bool(_is_tfds_name(name))
    return is_data_set(path) or _tfds_of(path) is not None


def open_data_set(
    name: str, member: Member, *, split: str | None = None, data_dir: str | None = None
) -> DataSet:
    """Opens the examples of a data set; of each example only the image is read.

    Args:
        name: A path for which `names_data_set` is true, or a name.
        member: The net. Its run says how labels of several classes are written.
        split: The split; all that are stored where None.
        data_dir: Directory of TFDS data sets, for a name; also one in an object store, of which
            the data set is copied. By default the run's, or TFDS's own.

    Raises:
        FileNotFoundError: If there is no such path, and no prepared data set of that name.
        ValueError: If it has no such split, or it cannot be read.
    """
    run = DataConfig() if member.run is None else member.run.config.data
    path = Path(name)
    if not path.exists():
        root = data_dir or run.data_dir or os.environ.get("TFDS_DATA_DIR")
        if remote_url(root):
            root = data_at_hand(DataConfig(dataset=name, data_dir=root)).data_dir
        folder = Path(root) if root else Path.home() / "tensorflow_datasets"
        if not _versions(folder / re.split("[:/]", name)[0]):
            raise FileNotFoundError(
                f"No file or folder at {name}, and no prepared data set of TFDS of that name in "
                f"{folder} (--data-dir names another directory)"
            )
        return _of_tfds(DataConfig(dataset=name, data_dir=str(folder)), split)
    if is_record_shards(path) or not (found := _tfds_of(path)):
        return _of_files(name, run, member, split)
    return _of_tfds(DataConfig(dataset=found[1], data_dir=found[0]), split)


def _is_tfds_name(name: str) -> bool:
    return bool(re.match(r"[A-Za-z_]\w*([:/]\S+)?$", name)) and not name.lower().endswith(ENDINGS)


def _versions(folder: Path) -> list[Path]:
    """Returns the versions of a prepared data set, also of its configurations.

    Of folders inside, only a few entries are looked at: those of a folder of classes may be many.
    """
    found = []
    for inner in _few_folders(folder):
        found += [each for each in (inner, *_few_folders(inner)) if (each / _FEATURES).is_file()]
    return found


def _few_folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            first = itertools.islice(entries, _MOST_ENTRIES)
            return sorted(Path(entry.path) for entry in first if entry.is_dir())
    except OSError:
        return []


def _tfds_of(path: Path) -> tuple[str, str] | None:
    """Returns directory and name of a folder that TFDS has prepared; None of other paths.

    Raises:
        ValueError: If it holds several data sets.
    """
    path = Path(os.path.abspath(path))
    if not path.is_dir():
        return None
    if (path / _FEATURES).is_file() and (path / "dataset_info.json").is_file():
        name = read_object(path / "dataset_info.json").get("name")
        if path.parent.name == name:
            return str(path.parents[1]), f"{name}:{path.name}"
        return str(path.parents[2]), f"{path.parents[1].name}/{path.parent.name}:{path.name}"
    versions = _versions(path)
    if not versions:
        return None
    if any(each.parent == path for each in versions):
        return str(path.parent), path.name
    info = versions[0] / "dataset_info.json"
    if info.is_file() and read_object(info).get("name") == path.name:
        return str(path.parent), path.name
    names = sorted({each.relative_to(path).parts[0] for each in versions})
    raise ValueError(
        f"{path} holds data sets of TFDS, of which one is needed: {examples(names)}. Give "
        f"{path / names[0]}"
    )


def _of_files(name: str, run: DataConfig, member: Member, split: str | None) -> DataSet:
    """Opens a data set of files or shards."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"`--split` must be one of {', '.join(SPLITS)}. Received: {split!r}")
    path = Path(name)
    task = read_manifest(path).task if is_record_shards(path) else run.task
    config = DataConfig(
        dataset=name,
        task=task,
        label_separator=run.label_separator,
        test_size=0.0,
        on_bad_image="trust",  # an image that cannot be read is a row of the table
        cache="none",
    )
    splits = SPLITS if split is None else (split,)
    spec = member.spec.replace(input_channels=member.channels)
    data = load_data(config, spec, splits=splits, whole=True)
    parts = {key: source for key, source in data.parts() if isinstance(source, FileSource)}

    def names() -> Iterator[tuple[str, str]]:
        return ((key, each) for key, source in parts.items() for each in source.names)

    def pictures() -> Iterator[Picture]:
        for key, source in parts.items():
            for path, each, label in zip(source.paths, source.names, source.labels, strict=True):
                read = functools.partial(source.content, path)
                yield Picture(each, read, key, _label(label, data.class_names))

    sizes = {str(key): len(source) for key, source in parts.items()}
    return DataSet(sizes, data.notes, names, pictures)


def _label(label: np.ndarray, class_names: Sequence[str]) -> str:
    if label.ndim:
        return "|".join(class_names[index] for index in np.flatnonzero(label).tolist())
    return class_names[int(label)]


def _of_tfds(config: DataConfig, split: str | None) -> DataSet:
    """Opens a data set that TFDS has prepared."""
    builder: Any = find_builder(config)
    class_names = tuple(image_and_label(builder, config.dataset)[1].names)
    check_class_names(class_names, repr(config.dataset))
    stored = {key: builder.info.splits[key].num_examples for key in builder.info.splits}
    if split is not None and split not in stored:
        raise ValueError(
            f"Data set {config.dataset!r} has no {split} split. It has: {', '.join(stored)}"
        )
    sizes = {key: stored[key] for key in (stored if split is None else (split,))}

    def names() -> Iterator[tuple[str, str]]:
        return ((key, each) for key in sizes for each in tfds_names(builder, key))

    def pictures() -> Iterator[Picture]:
        for key in sizes:
            records = _undamaged(tfds_records(builder, key), config.dataset)
            for each, (image, label) in zip(tfds_names(builder, key), records, strict=True):
                # Competitions withhold labels, as -1.
                text = class_names[label] if 0 <= label < len(class_names) else ""
                yield Picture(each, functools.partial(bytes, image), key, text)

    images = ", ".join(f"{key} {size:,}" for key, size in sizes.items())
    note = f"{builder.info.full_name}: images: {images}"
    return DataSet(sizes, (note,), names, pictures)


def _undamaged(records: Iterator[tuple[bytes, int]], name: str) -> Iterator[tuple[bytes, int]]:
    """Yields records; says of which data set a damaged one is."""
    import tensorflow as tf

    try:
        yield from records
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise ValueError(
            f"A record of {name!r} is damaged: {reason(error)}. Prepare the data set again"
        ) from error
