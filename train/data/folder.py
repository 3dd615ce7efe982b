"""Images in one folder per class."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..config import DataConfig
from .sources import FileSource, ImageData, hold_out

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


def load_folder(root: Path, config: DataConfig) -> ImageData:
    """Opens a folder with images at `CLASS/image.jpg` or, for instance, `train/CLASS/image.jpg`.

    Folders for splits are named `train` or `training`; `validation`, `val` or `valid`; `test` or
    `testing`. Without them, a fixed fifth of the images is the test split. Class names are the
    folders' names in alphabetical order. JPEG, PNG, BMP and GIF files are read as RGB; other files
    are ignored.

    Raises:
        ValueError: If there are no class folders or no images, if splits have different classes,
            or if an image is unreadable and `config.on_bad_image` is `fail`.
    """
    folders = _split_folders(root)
    if folders and "train" not in folders:
        raise ValueError(f"{root} has a {next(iter(folders))} folder and no train folder")
    classes = _classes(folders.get("train", root))
    sources = {
        split: _scan(folder, classes) for split, folder in (folders or {"train": root}).items()
    }
    notes: list[str] = []
    if config.on_bad_image != "trust":
        for name, source in sources.items():
            sources[name], skipped = _readable(source, skip=config.on_bad_image == "skip")
            if skipped:
                shown = ", ".join(skipped[:5]) + (" ..." if len(skipped) > 5 else "")
                notes.append(f"{len(skipped)} unreadable {name} images skipped: {shown}")
    if not folders:
        _split_off(sources, "test", 0.2)
    if config.validation and "validation" not in sources:
        _split_off(sources, "validation", config.validation)
    return ImageData(
        name=str(root),
        class_names=classes,
        channels=3,
        train=sources["train"],
        validation=sources.get("validation"),
        test=sources.get("test"),
        notes=tuple(notes),
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Returns the folder of each split that has one."""
    folders = {}
    for split, names in _SPLITS.items():
        present = [root / name for name in names if (root / name).is_dir()]
        if present:
            folders[split] = present[0]
    return folders


def _split_off(sources: dict[str, FileSource], split: str, fraction: float) -> None:
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


def _readable(source: FileSource, *, skip: bool) -> tuple[FileSource, list[str]]:
    """Decodes every image once, to find unreadable ones before training.

    Returns:
        The readable images, and a line for each unreadable one.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = list(pool.map(_problem, source.paths, chunksize=64))
    bad = [f"{p} ({why})" for p, why in zip(source.paths, problems, strict=True) if why]
    if bad and not skip:
        shown = "; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise ValueError(
            f"{len(bad)} of {len(source)} images are unreadable: {shown}. "
            "Repair or remove them, or pass --on-bad-image skip"
        )
    good = np.flatnonzero([not why for why in problems])
    if not len(good):
        raise ValueError(f"None of the {len(source)} images is readable: {bad[0]}")
    return source.take(good), bad


def _problem(path: str) -> str:
    """Returns why an image cannot be decoded, or an empty string."""
    import tensorflow as tf

    from .images import decode

    try:
        decode(tf.io.read_file(path), 3)
    except (tf.errors.InvalidArgumentError, tf.errors.OpError) as error:
        return str(error.message).splitlines()[0][:120]
    return ""
