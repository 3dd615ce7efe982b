"""Images in one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..config import DataConfig
from .decoding import Decoding
from .divide import Files, divided
from .headers import ENDINGS
from .image_data import ImageData, Split
from .layout import read_layout
from .listing import examples
from .request import Request
from .sources import FileSource
from .walk import Walk, counted, subfolders


def load_folder(root: Path, config: DataConfig, channels: int, request: Request) -> ImageData:
    """Opens a folder with images at `CLASS/image.jpg` or, for instance, `train/CLASS/image.jpg`.

    The layout is found by `read_layout`. Where there are no folders of splits, a fifth of each
    class is the test split, chosen by `held_out`. Class names are the folders' names in
    alphabetical order. Only the images of the splits that are asked for are read.

    Args:
        root: The folder.
        config: The data's configuration.
        channels: Number of channels to decode.
        request: Which splits are asked for, by whose classes.

    Raises:
        ValueError: If there are no class folders, only one class, or a class without images, if
            splits have different classes, or if an image is unreadable and `config.on_bad_image`
            is `fail`.
    """
    layout = read_layout(root)
    walk = Walk()
    notes = list(layout.notes)
    classes = _class_names(layout.splits or {"train": layout.root}, request)
    if len(classes) < 2 and request.class_names is None:
        raise ValueError(
            f"{layout.root} has one class, {classes[0]!r}: a classifier needs two or more class "
            "folders"
        )
    decoding = Decoding.of(config)
    splits: dict[Split, FileSource] = {}
    rest = None
    if layout.splits:
        wanted = set(request.splits)
        held = config.validation and "validation" not in layout.splits
        if config.folds or (held and "validation" in wanted):
            wanted.add("train")
        for split, folder in layout.splits.items():
            if split in wanted:
                splits[split] = _scan(folder, classes, split, walk, decoding, notes)
        if not splits:
            raise ValueError(
                f"Data set {str(root)!r} has no {request.splits[0]} split. "
                f"It has: {', '.join(layout.splits)}"
            )
    else:
        rest = _scan(layout.root, classes, "train", walk, decoding, notes)
    files = Files(splits, rest, classes, (*notes, *walk.notes()))
    return divided(str(root), files, channels, config, request)


def _class_names(folders: dict[Split, Path], request: Request) -> tuple[str, ...]:
    """Returns the classes: of the training images, or of the splits that are asked for."""
    if "train" in folders and request.class_names is None:
        return tuple(subfolders(folders["train"]))
    asked = [folder for split, folder in folders.items() if split in request.splits]
    asked = asked or list(folders.values())
    return tuple(sorted({name for folder in asked for name in subfolders(folder)}))


def _scan(
    folder: Path,
    classes: tuple[str, ...],
    split: Split,
    walk: Walk,
    decoding: Decoding,
    notes: list[str],
) -> FileSource:
    """Lists the images of a split, class by class."""
    extra = sorted(set(subfolders(folder)) - set(classes))
    if extra:
        raise ValueError(f"{folder} has class {extra[0]!r}, which the training images do not have")
    paths: list[str] = []
    names: list[str] = []
    labels: list[int] = []
    missing: list[str] = []
    for label, name in enumerate(classes):
        images = walk.images(folder / name) if (folder / name).is_dir() else []
        if not images:
            missing.append(name)
        names += [f"{name}/{inner}" for inner, _ in images]
        paths += [path for _, path in images]
        labels += [label] * len(images)
    if missing and split == "train":
        raise ValueError(
            f"{folder / missing[0]} has no images ({', '.join(ENDINGS)}): every class needs some"
        )
    if missing:
        notes.append(
            f"{split} has no images of {counted(len(missing), 'class', 'classes')} of "
            f"{len(classes)}: {examples(missing)}"
        )
    loose = walk.loose(folder)
    if loose:
        notes.append(f"{counted(loose, 'image')} in {folder}, outside the class folders, left out")
    return FileSource(
        tuple(paths), np.asarray(labels, "int64"), names=tuple(names), decoding=decoding
    )
