"""The images that nets are measured on, with labels that are the nets' outputs."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..data import ImageData, Source, load_data
from ..data.arrange import relabelled
from .classes import check_channels
from .imagenet import imagenet_classes
from .members import Member

# How the note of a folder that is measured as a whole begins.
WITHOUT_SPLITS = "the folder has no splits"
_NO_TEST = re.compile(r"has no test split\. It has: (?=.*validation)")


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredImages:
    """A split to measure on.

    Attributes:
        data: The data set; its labels are outputs of the nets.
        source: The split.
        split: Name of the split.
        subset: Indices of the outputs that are classes of the data, ascending, where it does not
            have all of them; None where it does.
        names: Names of the classes: of all outputs, or of `subset`.
        notes: What was understood and assumed, for the user.
    """

    data: ImageData
    source: Source
    split: str
    subset: np.ndarray | None
    names: tuple[str, ...]
    notes: tuple[str, ...]


def other_data(config: DataConfig, own: DataConfig) -> DataConfig:
    """Returns the configuration of a data set that may not be the run's own.

    Another data set keeps what a run says of pixels and labels. How the run divided its own images
    says nothing of others.

    Args:
        config: The data.
        own: The run's data.
    """
    if _same(config.dataset, own.dataset):
        return config
    return dataclasses.replace(config, split_by="name", folds=0, fold=0, classes=None)


def open_images(
    config: DataConfig, member: Member, split: str | None, *, other: bool
) -> MeasuredImages:
    """Opens a split, and no other images.

    Args:
        config: The data.
        member: The net; the first one of an ensemble.
        split: The split; None for the test split, or the validation split where there is none.
        other: Whether the data is not the run's own. A folder without splits is then measured as a
            whole.

    Raises:
        ValueError: If there is no such split, or a class is none of the net's.
    """
    try:
        data, notes = _open(config, member, split or "test", other=other)
    except ValueError as error:
        if split is not None or not _NO_TEST.search(str(error)):
            raise
        split = "validation"
        data, notes = _open(config, member, split, other=other)
        notes = (*notes, f"{data.name} has no test split: the validation split is measured")
    split = split or "test"
    check_channels(data.channels, member.channels, data=config.dataset, net=member.name)
    subset = None if data.subset is None else np.asarray(data.subset, "int64")
    chosen = range(len(data.class_names)) if subset is None else subset
    names = tuple(data.class_names[index] for index in chosen)
    return MeasuredImages(data, data.split(split), split, subset, names, (*notes, *data.notes))


def _open(
    config: DataConfig, member: Member, split: str, *, other: bool
) -> tuple[ImageData, tuple[str, ...]]:
    names, notes = member.class_names, []
    if names is None and member.classes == len(imagenet_classes()):
        names = tuple(each.wordnet for each in imagenet_classes())
        notes.append(f"{member.name} does not name its 1,000 outputs: taken for ImageNet-1k's")
    data = load_data(
        config,
        member.spec.replace(input_channels=member.channels),
        splits=(split,),  # type: ignore[arg-type]
        class_names=names,
        stored=member.listing,
        whole=other,
    )
    if member.listing is None and any(note.startswith(WITHOUT_SPLITS) for note in data.notes):
        notes.append(
            f"{member.name} does not say which images it was trained on: if some of these are "
            "among them, the figures are too good"
        )
    data.split(split)  # an error of a missing split comes before one of its classes
    if names is None:
        data, note = _unnamed(data, member, config.dataset)
        notes.append(note)
    return data, tuple(notes)


def _unnamed(data: ImageData, member: Member, dataset: str) -> tuple[ImageData, str]:
    """Matches classes with outputs that have no names: by number, or by order."""
    note = f"{member.name} does not name its outputs: the classes of {dataset!r} are taken "
    numbers = tuple(map(str, range(member.classes)))
    if set(data.class_names) <= set(numbers):
        return relabelled(data, numbers), f"{note}by their numbers"
    if len(data.class_names) != member.classes:
        raise ValueError(
            f"The data's classes must be the net's outputs: {dataset!r} has "
            f"{len(data.class_names)} classes, and {member.name} {member.classes} outputs without "
            "names (--labels FILE names them)"
        )
    return data, f"{note}in their order"


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    paths = Path(one), Path(other)
    return all(path.exists() for path in paths) and os.path.samefile(*paths)
