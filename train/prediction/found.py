"""The image files that a command line names: single files, and folders at any depth."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from ..data.headers import ENDINGS
from ..data.walk import Walk, is_special


class Picture(NamedTuple):
    """An image to classify.

    Attributes:
        name: Its path, or its name in a data set.
        read: Returns its encoded content.
        split: Its split in a data set; "" for files.
        label: The name of the class that is stored with it; "" for files.
    """

    name: str
    read: Callable[[], bytes]
    split: str = ""
    label: str = ""


@dataclasses.dataclass(frozen=True)
class FoundImages:
    """Image files in the order of their rows.

    Attributes:
        paths: The files; those of a folder by their names below it.
        inside: Each file's path below the folder that was named; its name if it was named itself.
        notes: What was passed over in the folders, for the user.
    """

    paths: tuple[str, ...]
    inside: tuple[str, ...]
    notes: tuple[str, ...]

    def pictures(self) -> Iterator[Picture]:
        """Yields the images."""
        return (Picture(path, Path(path).read_bytes) for path in self.paths)


def find_images(names: Sequence[str]) -> FoundImages:
    """Finds the images that files and folders stand for.

    A file that is named itself is taken whatever its ending. Of a folder, files with the ending of
    an image are taken, at any depth; hidden files and folders are not. Links are followed.

    Args:
        names: Files and folders.

    Raises:
        FileNotFoundError: If there is nothing at one of the paths.
        ValueError: If there is no image, or a name is that of a pipe or device.
    """
    missing = [name for name in names if not os.path.exists(name)]
    if missing:
        raise FileNotFoundError(f"No file or folder at {', '.join(missing)}")
    special = [name for name in names if is_special(name)]
    if special:
        raise ValueError(f"Only regular files and folders are read. Received: {special[0]!r}")
    walk = Walk()
    found: list[tuple[str, str]] = []
    for name in names:
        if os.path.isdir(name):
            found += walk.images(Path(name))
        else:
            found.append((PurePath(name).name, name))
    notes = walk.notes()
    if not found:
        others = "".join(f". {note}" for note in notes)
        raise ValueError(
            f"No images in {', '.join(names)}: files of a folder need one of the endings "
            f"{', '.join(ENDINGS)}{others}"
        )
    return FoundImages(
        tuple(path for _, path in found), tuple(inside for inside, _ in found), tuple(notes)
    )
