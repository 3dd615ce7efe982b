"""A folder of class folders of images."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..config import DataConfig
from .sources import FileSource, ImageData, hold_out, take

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_TRAIN = ("train", "training")
_VALIDATION = ("validation", "val", "valid")
_TEST = ("test", "testing")


def load_folder(root: Path, config: DataConfig) -> ImageData:
    """Reads `root/CLASS/image.jpg`, or the same below `train`, `validation` and `test` folders.

    Without such folders a fifth of each folder's images, drawn once and for all, becomes the test
    split. Classes are the folders' names in alphabetical order. JPEG, PNG, BMP and GIF are read,
    as RGB; other files are passed over.

    Raises:
        ValueError: If there are no class folders or no images, if splits have different classes,
            or if an image is unreadable and `config.on_bad_image` is `fail`.
    """
    parts = {
        name: found
        for name, names in (("train", _TRAIN), ("validation", _VALIDATION), ("test", _TEST))
        if (found := next((root / n for n in names if (root / n).is_dir()), None))
    }
    if parts and "train" not in parts:
        raise ValueError(f"{root} has a {next(iter(parts))} folder and no train folder")
    classes = _classes(parts.get("train", root))
    sources = {name: _scan(folder, classes) for name, folder in (parts or {"train": root}).items()}
    notes: list[str] = []
    if config.on_bad_image != "trust":
        for name, source in sources.items():
            sources[name], skipped = _readable(source, skip=config.on_bad_image == "skip")
            if skipped:
                shown = ", ".join(skipped[:5]) + (" ..." if len(skipped) > 5 else "")
                notes.append(f"{len(skipped)} unreadable {name} images skipped: {shown}")
    if not parts:
        rest, test = hold_out(len(sources["train"]), 0.2)
        whole = sources["train"]
        sources = {"train": _files(whole, rest), "test": _files(whole, test)}
    if config.validation and "validation" not in sources:
        rest, held = hold_out(len(sources["train"]), config.validation)
        whole = sources["train"]
        sources |= {"train": _files(whole, rest), "validation": _files(whole, held)}
    return ImageData(
        name=str(root),
        class_names=classes,
        channels=3,
        train=sources["train"],
        validation=sources.get("validation"),
        test=sources.get("test"),
        notes=tuple(notes),
    )


def _files(source: FileSource, indices: np.ndarray) -> FileSource:
    taken = take(source, indices)
    assert isinstance(taken, FileSource)
    return taken


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} holds no class folders: expected {folder}/CLASS/image.jpg")
    return tuple(names)


def _scan(folder: Path, classes: tuple[str, ...]) -> FileSource:
    found = _classes(folder)
    extra = sorted(set(found) - set(classes))
    if extra:
        raise ValueError(f"{folder} has class {extra[0]!r}, which the training images do not have")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = sorted(_images(folder / name))
        if not images:
            raise ValueError(
                f"{folder / name} holds no images ({', '.join(_ENDINGS)}): every class needs some"
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
    """Decodes every image once, so that a bad one is met before training and not hours into it."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = list(pool.map(_problem, source.paths, chunksize=64))
    bad = [f"{p} ({why})" for p, why in zip(source.paths, problems, strict=True) if why]
    if bad and not skip:
        shown = "; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise ValueError(
            f"{len(bad)} of {len(source)} images are unreadable: {shown}. "
            "Mend or remove them, or pass --on-bad-image skip"
        )
    good = np.flatnonzero([not why for why in problems])
    if not len(good):
        raise ValueError(f"None of the {len(source)} images is readable: {bad[0]}")
    return _files(source, good), bad


def _problem(path: str) -> str:
    import tensorflow as tf

    from .images import decode

    try:
        decode(tf.io.read_file(path), 3)
    except (tf.errors.InvalidArgumentError, tf.errors.OpError) as error:
        return str(error.message).splitlines()[0][:120]
    return ""
