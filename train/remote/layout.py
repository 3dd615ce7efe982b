"""Which files of a run are where: its local directory, and the names in the store.

A checkpoint is complete in the store when its `state.json` is there, which is written last. The
`best` checkpoint is replaced while a run goes on, so each one has a directory of its own there,
`checkpoints/best_<epoch>_<hash>`; the newest complete one counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..checkpoint_files import STATE
from .entries import Entry

FOLDER = "checkpoints"
LOCKS = "lock"
# Runs are looked for in folders of folders, this deep, and not in these.
DEPTH = 4
SUBFOLDERS = (FOLDER, LOCKS, "logs", "exports")
_STEP = re.compile(rf"{FOLDER}/(step_\d{{8,}})/{STATE}")
_BEST = re.compile(rf"{FOLDER}/(best_(\d+)_[0-9a-f]{{8}})/{STATE}")
_LAST = ("model.keras", "report.html")


class Frozen(NamedTuple):
    """A checkpoint that does not change any more.

    Attributes:
        name: Its directory in the store.
        files: Its files by name; `state.json` is the last.
    """

    name: str
    files: Mapping[str, Path]


def plain_files(local: Path) -> list[str]:
    """Returns the files of a run beside its checkpoints, in the order in which they are uploaded.

    Temporary files, the lock and links are left out. The finished model is last: it marks a run as
    finished.
    """
    found = []
    for folder, below, files in os.walk(local):
        relative = Path(folder).relative_to(local)
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and (relative.parts or name not in (FOLDER, LOCKS))
        )
        found += [
            (relative / name).as_posix()
            for name in files
            if not name.startswith(".") and not (Path(folder) / name).is_symlink()
        ]
    return sorted(found, key=lambda name: (name in _LAST, name != "config.json", name))


def is_plain(name: str) -> bool:
    """Whether a name in the store is of a file beside checkpoints and locks.

    Hidden files are never uploaded; one that is there could be taken for a copy's own notes.
    """
    parts = name.split("/")
    return parts[0] not in (FOLDER, LOCKS) and not any(each.startswith(".") for each in parts)


def committed_steps(names: Iterable[str]) -> list[str]:
    """Returns the complete checkpoints of steps in a store, oldest first."""
    found = {match.group(1) for name in names if (match := _STEP.fullmatch(name))}
    return sorted(found, key=lambda name: int(name.removeprefix("step_")))


def committed_best(entries: Mapping[str, Entry]) -> list[str]:
    """Returns the complete `best` checkpoints in a store, by epoch."""
    found = [match for name in entries if (match := _BEST.fullmatch(name))]
    return [match.group(1) for match in sorted(found, key=lambda each: int(each.group(2)))]


@contextmanager
def frozen(directory: Path) -> Iterator[Frozen | None]:
    """Yields the files of a local checkpoint as they are now, whatever happens to it meanwhile.

    The files are linked into a temporary directory of the run, or copied where the file system has
    no links. None is yielded if the checkpoint was removed or replaced at that moment, or is
    damaged.
    """
    if not (directory / STATE).is_file():
        yield None
        return
    links = Path(tempfile.mkdtemp(prefix=".upload.", dir=directory.parents[1]))
    names: list[str] = []
    try:
        before = os.stat(directory)
        names = sorted(file.name for file in directory.iterdir())
        for name in names:
            _link(directory / name, links / name)
        whole = os.path.samestat(before, os.stat(directory)) and STATE in names
        name = _stored_name(directory, links) if whole else ""
    except FileNotFoundError:
        name = ""
    try:
        ordered = [*(each for each in names if each != STATE), STATE]
        yield Frozen(f"{FOLDER}/{name}", {each: links / each for each in ordered}) if name else None
    finally:
        shutil.rmtree(links, ignore_errors=True)


def _stored_name(directory: Path, links: Path) -> str:
    """Returns the name of a checkpoint in the store; "" for one whose state is damaged."""
    if directory.name != "best":
        return directory.name
    content = (links / STATE).read_bytes()
    try:
        epoch = int(json.loads(content)["state"].get("epoch", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f"best_{epoch:08d}_{hashlib.sha256(content).hexdigest()[:8]}"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
