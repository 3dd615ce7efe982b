"""How a folder of images is laid out: class folders, or folders of splits with class folders."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from .image_data import Split
from .listing import examples
from .walk import counted, holds_images, refuse_names, subfolders

_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev", "devel"), "validation"),
    **dict.fromkeys(("development",), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
_EVALUATION = ("eval", "evaluation")
_SUFFIX = re.compile(r"(set|split|data|images|imgs)$")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the class folders of a data set are.

    Attributes:
        splits: The folder of class folders of each split; empty if the splits are not separate.
        root: The folder of class folders, where the splits are not separate.
        notes: What was assumed.
    """

    splits: dict[Split, Path]
    root: Path
    notes: tuple[str, ...] = ()


def read_layout(root: Path) -> Layout:
    """Finds the class folders below a folder.

    Folders named like splits, in any case, are splits if they hold class folders: `train`,
    `training`; `validation`, `valid`, `val`, `dev`; `test`, `testing`, `holdout`, `eval` (which is
    validation where there is a test folder too). So are folders that have such a word in their
    name, as `seg_train` and `val2017` have, where no folder has the plain name and there are two
    splits. If they hold images themselves, they are classes. A folder that holds one folder and
    nothing else is descended into.

    Raises:
        ValueError: If there are no class folders, two folders are named like one split, or all
            class folders, or all but one, hold nearly the same subfolders.
    """
    notes: list[str] = []
    root = _descended(root, notes)
    folders = subfolders(root)
    if not folders:
        raise ValueError(f"{root} has no class folders: expected {root}/CLASS/image.jpg")
    named = _named_like_splits(root, folders)
    inside = {split: folder for split, folder in named.items() if subfolders(folder)}
    loose = [folder for split, folder in named.items() if split not in inside]
    others = [name for name in folders if root / name not in named.values()]
    if not inside:
        if named and not others:
            shown = ", ".join(folder.name for folder in loose)
            raise ValueError(
                f"{root} has folders named like splits that hold no class folders ({shown}): "
                f"expected {root}/{loose[0].name}/CLASS/image.jpg, or a CSV file of image and label"
            )
        for folder in loose:
            notes.append(
                f"folder {folder.name!r} is taken as a class, as it is named like a split and "
                "holds no class folders"
            )
        _check_classes(root, folders)
        notes += _nested([root])
        return Layout({}, root, tuple(notes))
    if others and "train" not in inside and not loose:
        raise ValueError(
            f"{root} has folders named like splits ({', '.join(f.name for f in inside.values())}) "
            f"beside others ({examples(others)}) and no train folder: are those classes or splits?"
        )
    for folder in loose:
        notes.append(f"folder {folder.name!r} holds no class folders and is left out")
    if others:
        notes.append(
            f"{counted(len(others), 'folder')} beside those of the splits left out: "
            f"{examples(others)}"
        )
    splits = {split: _descended(folder, notes, split) for split, folder in inside.items()}
    for folder in splits.values():
        _check_classes(folder, subfolders(folder))
    notes += _nested(splits.values())
    return Layout(splits, root, tuple(notes))


def split_named(name: str, *, words: bool = False) -> Split | None:
    """Returns the split that a name stands for, in any case, or None.

    Args:
        name: The name of a folder.
        words: Whether it is enough that one word of the name is that of a split.

    Example:
        >>> split_named("Val")
        'validation'
        >>> split_named("seg_train", words=True)
        'train'
    """
    if words:
        found = {split_named(word) for word in re.findall(r"[^\W\d_]+", name)} - {None}
        return found.pop() if len(found) == 1 else None
    plain = re.sub(r"[^a-z]", "", name.casefold())
    plain = _SUFFIX.sub("", plain) or plain
    return "test" if plain in _EVALUATION else _NAMES.get(plain)


def _named_like_splits(root: Path, folders: list[str]) -> dict[Split, Path]:
    found: dict[Split, Path] = {}
    evaluation = [name for name in folders if name.casefold().startswith("eval")]
    for name in sorted(folders, key=lambda name: name in evaluation):
        split = split_named(name)
        if split == "test" and name in evaluation and "test" in found:
            split = "validation"
        if split is not None:
            _add(found, split, root / name)
    by_words: dict[Split, Path] = {}
    for name in folders:
        split = split_named(name, words=True)
        if split is not None and split not in found and subfolders(root / name):
            _add(by_words, split, root / name)
    both = {**found, **by_words}
    return both if len(both) > 1 else found  # one alone may be a class: "train station"


def _add(found: dict[Split, Path], split: Split, folder: Path) -> None:
    if split in found:
        raise ValueError(
            f"{folder.parent} has two folders of the {split} split: {found[split].name} and "
            f"{folder.name}"
        )
    found[split] = folder


def _nested(folders: Iterable[Path]) -> list[str]:
    """Returns a note if classes hold folders, whose images become the class's own."""
    inner = [
        f"{name}/{below}"
        for folder in folders
        for name in subfolders(folder)
        for below in subfolders(folder / name)
    ]
    if not inner:
        return []
    return [
        f"classes hold {counted(len(inner), 'folder')} ({examples(inner)}): their images are "
        "images of the class"
    ]


def _descended(root: Path, notes: list[str], split: Split | None = None) -> Path:
    """Returns the folder below that holds more than one folder, if each holds nothing else.

    Folders that are named like splits are not descended into, but for that of `split`.
    """
    while True:
        folders = subfolders(root)
        if len(folders) != 1 or holds_images(root):
            return root
        if split_named(folders[0]) not in (None, split):
            return root
        inner = root / folders[0]
        if holds_images(inner) or not subfolders(inner):
            return root
        notes.append(f"{root} holds only the folder {inner.name!r}, whose folders are the classes")
        root = inner


def _check_classes(root: Path, names: list[str]) -> None:
    """Refuses names that cannot be written, and classes that are splits or groups of classes."""
    refuse_names(names, root)
    found = _groups(root, names)
    if found:
        inner = subfolders(root / found[0])
        which = (
            "All folders" if len(found) == len(names) else f"{len(found)} of {len(names)} folders"
        )
        raise ValueError(
            f"{which} in {root} ({examples(found)}) hold the same folders ({examples(inner)}), or "
            "nearly, so they look like splits or groups and not like classes. Name folders of "
            "splits train, validation and test, or give a folder of classes. If they are classes, "
            "give a CSV file of image and label"
        )


def _groups(root: Path, names: list[str]) -> list[str]:
    """Returns the folders that look like splits or groups, if they are all, or all but one.

    They hold two or more folders, no image of their own, and share at least half of the names of
    their folders with the first of them.
    """
    inner = {name: set(subfolders(root / name)) for name in names if not holds_images(root / name)}
    inner = {name: below for name, below in inner.items() if len(below) > 1}
    for first in inner.values():
        like = [n for n, below in inner.items() if 2 * len(below & first) >= len(below | first)]
        if len(like) > 1 and len(like) >= len(names) - 1:
            return like
    return []
