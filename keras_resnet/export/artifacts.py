"""Artefacts on disk: hashes, the manifest, and putting finished files in place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
LABELS = "labels.txt"
# What a failed export takes out of use: kept, but under no name that anything would load.
STALE = ".stale"


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Returns bytes and hash of a file, or of a directory's files.

    A directory's hash is that of a line `<sha256>  <relative path>` a file, sorted by path: what
    `find . -type f | sort | xargs sha256sum | sha256sum` computes, less its `./`.
    """
    if path.is_file():
        content = path.read_bytes()
        return len(content), hashlib.sha256(content).hexdigest()
    total, lines = 0, []
    files = (entry for entry in path.rglob("*") if entry.is_file())
    for relative in sorted(file.relative_to(path).as_posix() for file in files):
        size, digest = size_and_sha256(path / relative)
        total += size
        lines.append(f"{digest}  {relative}\n")
    return total, hashlib.sha256("".join(lines).encode()).hexdigest()


def read_manifest(directory: Path) -> dict[str, Any]:
    """Returns the manifest's entries by file name, of those files that exist; empty without one.

    Raises:
        ValueError: If there is a file of that name that this package did not write.
    """
    path = directory / MANIFEST
    if not path.exists():
        return {}
    try:
        artifacts = json.loads(path.read_text())["artifacts"]
        return {name: entry for name, entry in artifacts.items() if (directory / name).exists()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is no manifest of exports; move it away to export here: {error!r}"
        ) from error


def write_manifest(directory: Path, artifacts: Mapping[str, Any]) -> None:
    """Replaces the manifest, in one step."""
    content = {"version": 1, "artifacts": dict(sorted(artifacts.items()))}
    write_text(directory / MANIFEST, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file under a temporary name beside it and then renames it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0o600 would hide it from a server
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def publish(staging: Path, directory: Path, names: Iterable[str]) -> None:
    """Moves finished artefacts from a staging directory in `directory` to their final names.

    A file replaces its predecessor in one step. A directory cannot: the predecessor is moved
    into the staging directory first, and back if its successor does not arrive.
    """
    for name in names:
        new, final = staging / name, directory / name
        _remove(directory / (name + STALE))
        if not final.is_dir():
            os.replace(new, final)
            continue
        old = staging / f"{name}.old"
        os.replace(final, old)
        try:
            os.replace(new, final)
        except BaseException:
            os.replace(old, final)
            raise


def withdraw(directory: Path, names: Iterable[str]) -> None:
    """Takes earlier artefacts out of use: renames them to `<name>.stale`, unlists them."""
    names = tuple(names)
    listed = read_manifest(directory)
    for name in names:
        if (directory / name).exists():
            _remove(directory / (name + STALE))
            os.replace(directory / name, directory / (name + STALE))
    if listed.keys() & set(names):
        write_manifest(directory, {key: listed[key] for key in listed if key not in names})


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
