"""Data sets without files as folds or with balanced sampling; labels by another list of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import DataConfig
from .image_data import ImageData
from .listing import examples
from .membership import fold_of
from .on_host import on_host
from .sources import ArraySource, FileSource, RecordSource, Source, StreamSource


def arranged(data: ImageData, config: DataConfig) -> ImageData:
    """Returns a data set with the folds and the sampling of its configuration.

    Raises:
        ValueError: If the labels are known only when an image is read.
    """
    train = data.train
    if not config.folds and config.sampling == "uniform":
        return dataclasses.replace(data, identity=data.identity or data.name)
    if isinstance(train, StreamSource | RecordSource):
        raise ValueError(
            "`data.folds` and `data.sampling=balanced` need images in memory, files or shards "
            f"(`keras-resnet shards {data.name} DIR` writes them; `data.cache` may be 'memory'). "
            f"Received: {data.name!r}, whose labels are known only when an image is read"
        )
    if config.folds:
        names = [str(index) for index in range(len(train))]
        folds = fold_of(names, train.labels, config.folds)
        test = train.take(np.flatnonzero(folds == config.fold))
        train = train.take(np.flatnonzero(folds != config.fold))
        notes = data.notes
        if data.test is not None:
            notes += (
                f"the test split's {len(data.test)} images left out, as fold {config.fold} of "
                f"{config.folds} is the test split",
            )
        data = dataclasses.replace(data, train=train, test=test, notes=notes)
    if config.sampling == "balanced":
        data = dataclasses.replace(data, train=dataclasses.replace(train, balanced=True))
    return dataclasses.replace(data, identity=data.identity or data.name)


def relabelled(data: ImageData, class_names: tuple[str, ...]) -> ImageData:
    """Returns a data set whose labels are indices of other classes, by name.

    Args:
        data: The data set; its classes may be some of `class_names`, in any order, or be named 0,
            1, ... as indices of them.
        class_names: The classes, such as those that a run was trained on.

    Raises:
        ValueError: If the data set has a class that is not one of `class_names`.
    """
    have = data.class_names
    if have == class_names:
        return data
    index = {name: number for number, name in enumerate(class_names)}
    notes = list(data.notes)
    if all(name in index for name in have):
        lookup = np.asarray([index[name] for name in have], "int64")
    elif _are_indices(have, class_names):
        lookup = np.asarray([int(name) for name in have], "int64")
        notes.append(
            f"classes {have[0]} to {have[-1]} of {data.name} are taken as indices of the "
            f"{len(class_names)} classes, as their names are numbers"
        )
    else:
        unknown = [name for name in have if name not in index]
        raise ValueError(
            f"The classes of {data.name!r} are not those that the net was trained on: "
            f"{', '.join(have[:4])} ... against {', '.join(class_names[:4])} ... "
            f"({len(have)} against {len(class_names)}); not among them: {examples(unknown)}"
        )
    subset = None
    if len(have) < len(class_names):
        subset = tuple(sorted(lookup.tolist()))
        notes.append(f"{data.name} has {len(have)} of the net's {len(class_names)} classes")
    changed = data.map(lambda source: _with_labels(source, lookup, len(class_names)))
    return dataclasses.replace(changed, class_names=class_names, notes=tuple(notes), subset=subset)


def _are_indices(have: Sequence[str], class_names: Sequence[str]) -> bool:
    """Whether names of classes are decimal numbers below the number of classes."""
    return all(name.isascii() and name.isdigit() and int(name) < len(class_names) for name in have)


def _with_labels(source: Source, lookup: np.ndarray, classes: int) -> Source:
    import tensorflow as tf

    if isinstance(source, ArraySource | FileSource):
        if source.labels.ndim == 1:
            return dataclasses.replace(source, labels=lookup[source.labels])
        labels = np.zeros((len(source), classes), source.labels.dtype)
        labels[:, lookup] = source.labels
        return dataclasses.replace(source, labels=labels)
    table = on_host(lookup)
    if isinstance(source, RecordSource):
        read = source.read

        def relabelled_records(numbers: Any) -> tuple[Any, Any]:
            images, labels = read(numbers)
            return images, tf.gather(table, labels)

        return dataclasses.replace(source, read=relabelled_records)
    opened, parted = source.open, source.parted

    def changed(image: Any, label: Any) -> tuple[Any, Any]:
        return image, table[label]

    if parted is not None:
        parse = parted.parse
        parted = dataclasses.replace(parted, parse=lambda record: changed(*parse(record)))
    return dataclasses.replace(source, open=lambda seed: opened(seed).map(changed), parted=parted)
