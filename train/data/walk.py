"""Image files below a folder: links followed, hidden names skipped, all else counted."""

from __future__ import annotations

import collections
import dataclasses
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .headers import ENDINGS

# Folders that operating systems and storage devices put beside the user's: macOS's archives,
# Synology's thumbnails, Windows's and Linux's own.
_OF_SYSTEMS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")


@dataclasses.dataclass
class Walk:
    """A walk through folders of images.

    Attributes:
        passed_over: Files that are no images, counted by their ending.
        hidden: Number of files and folders that `hides` names.
        loops: Number of links that lead back to a folder above them.
        special: Number of pipes, sockets and devices, of which reading might never end.
    """

    passed_over: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    hidden: int = 0
    loops: int = 0
    special: int = 0

    def images(self, folder: Path) -> list[tuple[str, str]]:
        """Returns the relative name and the path of each image below a folder, by name.

        Links to files and folders are followed, unless they lead to a folder that they lie in.
        Hidden files and folders (`hides`) are skipped at any depth.
        """
        found: list[tuple[str, str]] = []
        self._walk(str(folder), "", (os.path.realpath(folder),), found)
        return sorted(found)

    def loose(self, folder: Path) -> int:
        """Returns the number of images in a folder of class folders, outside of them.

        Counts its other files as passed over.
        """
        found = 0
        with os.scandir(folder) as entries:
            for entry in entries:
                ending = ending_of(entry.name)
                if hides(entry.name):
                    self.hidden += 1
                elif not is_file(entry) and is_special(entry.path):
                    self.special += 1
                elif not is_folder(entry) and ending in ENDINGS:
                    found += 1
                elif not is_folder(entry):
                    self.passed_over[ending or "without an ending"] += 1
        return found

    def notes(self) -> list[str]:
        """Returns sentences on what was passed over, or none."""
        notes = []
        if self.passed_over:
            ordered = sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))
            parts = [f"{count} {ending}" for ending, count in ordered[:8]]
            parts += ["..."] * (len(ordered) > 8)
            notes.append(
                f"{counted(self.passed_over.total(), 'file')} passed over, as their endings are "
                f"not those of images: {', '.join(parts)}"
            )
        if self.hidden:
            what = counted(self.hidden, "hidden file or folder", "hidden files or folders")
            notes.append(f"{what} skipped")
        if self.special:
            what = counted(self.special, "pipe or device", "pipes or devices")
            notes.append(f"{what} skipped: only regular files are read")
        if self.loops:
            notes.append(f"{counted(self.loops, 'link')} to a folder above skipped")
        return notes

    def _walk(
        self, folder: str, name: str, above: tuple[str, ...], found: list[tuple[str, str]]
    ) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                inner = f"{name}{entry.name}"
                if hides(entry.name):
                    self.hidden += 1
                elif is_folder(entry):
                    real = os.path.realpath(entry.path)
                    if any(f"{each}{os.sep}".startswith(f"{real}{os.sep}") for each in above):
                        self.loops += 1
                    else:
                        self._walk(entry.path, f"{inner}/", (*above, real), found)
                elif not is_file(entry) and is_special(entry.path):
                    self.special += 1
                elif (ending := ending_of(entry.name)) in ENDINGS:
                    found.append((inner, entry.path))
                else:
                    self.passed_over[ending or "without an ending"] += 1


def subfolders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if is_folder(e) and not hides(e.name))


def holds_images(folder: Path) -> bool:
    """Whether a folder holds an image itself, not in a folder below."""
    with os.scandir(folder) as entries:
        return any(
            ending_of(e.name) in ENDINGS and not hides(e.name) and is_file(e) for e in entries
        )


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder; a link that ends nowhere or at itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file; a link that ends nowhere or at itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_special(path: str) -> bool:
    """Whether there is something at a path that is neither a regular file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # a broken link: reading it says so
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def hides(name: str) -> bool:
    """Whether a file or folder of this name is skipped: it begins with a dot or is a system's."""
    return name.startswith(".") or name.casefold() in _OF_SYSTEMS


def ending_of(name: str) -> str:
    """Returns the ending of a file's name in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()


def counted(count: int, one: str, many: str = "") -> str:
    """Returns a number with its noun: `1 file`, `1,200 files`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def refuse_names(names: Iterable[str], where: Path) -> None:
    """Checks that names of classes can be written to a list with one name per line.

    Raises:
        ValueError: If a name is not UTF-8 or holds a line feed or another control character.
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"The folder {os.fsencode(name)!r} in {where} is a class whose name is not UTF-8: "
                "rename it"
            ) from None
        if any(ord(character) < 32 or ord(character) == 127 for character in name):
            raise ValueError(
                f"The folder {name!r} in {where} is a class whose name holds a line feed or "
                "another control character: rename it"
            )
