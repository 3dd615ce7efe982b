"""Folders of images as earlier versions read them: split by position in the listing.

Runs of those versions are evaluated and resumed with this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..config import DataConfig
from .decoding import Decoding
from .image_data import ImageData, Split, hold_out
from .readable import read_all
from .sources import FileSource

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


def load_folder_by_position(root: Path, config: DataConfig) -> ImageData:
    """Opens a folder with images at `CLASS/image.jpg` or, for instance, `train/CLASS/image.jpg`.

    Folders for splits are named `train` or `training`; `validation`, `val` or `valid`; `test` or
    `testing`. Without them, a fixed fifth of the images is the test split: a file that is added
    later moves others. JPEG, PNG, BMP and GIF files are read as RGB; others are ignored.

    Raises:
        ValueError: If there are no class folders or no images, if splits have different classes,
            or if an image is unreadable and `config.on_bad_image` is `fail`.
    """
    folders = _split_folders(root)
    if folders and "train" not in folders:
        raise ValueError(f"{root} has a {next(iter(folders))} folder and no train folder")
    classes = _classes(folders.get("train", root))
    decoding = Decoding.of(config)
    sources: dict[Split, FileSource] = {
        split: dataclasses.replace(_scan(folder, classes), decoding=decoding)
        for split, folder in (folders or {"train": root}).items()
    }
    notes: list[str] = []
    if config.on_bad_image != "trust":
        sources, more = read_all(sources, 3, skip=config.on_bad_image == "skip")
        notes += more
    if not folders:
        _split_off(sources, "test", 0.2)
    if config.validation and "validation" not in sources:
        _split_off(sources, "validation", config.validation)
    return ImageData(
        name=str(root),
        class_names=classes,
        channels=3,
        identity="files, split by position",
        train=sources["train"],
        validation=sources.get("validation"),
        test=sources.get("test"),
        notes=(
            "the images are split by their position in the listing, as earlier versions did: a "
            "file that is added moves others between the splits",
            *notes,
        ),
    )


def _split_folders(root: Path) -> dict[Split, Path]:
    """Returns the folder of each split that has one."""
    folders: dict[Split, Path] = {}
    for split, names in _SPLITS.items():
        present = [root / name for name in names if (root / name).is_dir()]
        if present:
            folders[split] = present[0]
    return folders


def _split_off(sources: dict[Split, FileSource], split: Split, fraction: float) -> None:
    """Makes a fraction of the training images another split."""
    rest, held = hold_out(len(sources["train"]), fraction)
    sources[split] = sources["train"].take(held)
    sources["train"] = sources["train"].take(rest)


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} has no class folders: expected {folder}/CLASS/image.jpg")
    return tuple(names)


def _scan(folder: Path, classes: tuple[str, ...]) -> FileSource:
    extra = sorted(set(_classes(folder)) - set(classes))
    if extra:
        raise ValueError(f"{folder} has class {extra[0]!r}, which the training images do not have")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = sorted(_images(folder / name))
        if not images:
            raise ValueError(
                f"{folder / name} has no images ({', '.join(_ENDINGS)}): every class needs some"
            )
        paths += images
        labels += [label] * len(images)
    return FileSource(tuple(paths), np.asarray(labels, "int64"))


def _images(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    for path in folder.rglob("*"):
        if path.suffix.lower() in _ENDINGS and not path.name.startswith("."):
            yield str(path)
