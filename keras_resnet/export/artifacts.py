"""Artifacts on disk: their hashes, the manifest, and moving finished files into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_resnet.weights.files.file_system import replace
from keras_resnet.weights.files.json_object import read_object

MANIFEST = "manifest.json"
LABELS = "labels.txt"
# Suffix of artifacts that a failed export withdraws: no program loads a file of that name.
STALE = ".stale"


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Returns the number of bytes and the SHA-256 of a file, or of all files of a directory.

    The hash of a directory is that of one line `<sha256>  <relative path>` per file, sorted by
    path: the output of `find . -type f | sort | xargs sha256sum | sha256sum`, without the `./`.
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
    """Returns the manifest's entries for files that exist, by file name; empty without a manifest.

    Raises:
        ValueError: If the file was not written by this package.
    """
    path = directory / MANIFEST
    if not path.exists():
        return {}
    try:
        entries = read_object(str(path))["artifacts"]
        return {name: entry for name, entry in entries.items() if (directory / name).exists()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a manifest of exports; move it away to export here: {error!r}"
        ) from error


def manifest_entry(path: Path) -> dict[str, Any] | None:
    """Returns what a manifest says of an artifact; None where none names it.

    The manifest lies beside the artifact, or one directory above it: a client's files and the
    versions of a SavedModel are in a directory of their own.

    Raises:
        ValueError: If `manifest.json` beside it was not written by this package.
    """
    path = path.absolute()
    entry = read_manifest(path.parent).get(path.name)
    if entry is None:
        try:
            entry = read_manifest(path.parents[1]).get(f"{path.parent.name}/{path.name}")
        except (ValueError, IndexError):  # another program's, or no directory above
            return None
    return entry if isinstance(entry, dict) else None


def write_manifest(directory: Path, entries: Mapping[str, Any]) -> None:
    """Writes the manifest atomically."""
    content = {"version": 1, "artifacts": dict(sorted(entries.items()))}
    write_text(directory / MANIFEST, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: under a temporary name that is then renamed."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        # mkstemp creates files that only their owner can read.
        os.chmod(temporary, 0o666 & ~_umask())
        replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def publish(staging: Path, directory: Path, names: Iterable[str]) -> None:
    """Moves finished artifacts from a staging directory inside `directory` to `directory`.

    A file replaces its predecessor in one step. A directory cannot: its predecessor is moved to
    the staging directory first, and moved back if the new one cannot be put in place.
    """
    for name in names:
        new, final = staging / name, directory / name
        _remove(directory / (name + STALE))
        if not final.is_dir():
            replace(new, final)
            continue
        old = staging / f"{name}.old"
        replace(final, old)
        try:
            replace(new, final)
        except BaseException:
            replace(old, final)
            raise


def versions_of(directory: Path) -> list[int]:
    """Returns the numbers of the versions in a directory, as TensorFlow Serving reads it.

    Source: TensorFlow Serving, file_system_storage_path_source.cc: each version is a directory
    whose name is a number; others are ignored.
    """
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def check_replaceable(directory: Path, names: Iterable[str]) -> None:
    """Checks that no artifact would replace a directory of versions.

    Raises:
        ValueError: If one would.
    """
    for name in names:
        numbers = versions_of(directory / name)
        if numbers:
            raise ValueError(
                f"{name!r} holds versions {numbers}: --version-dir (`export_version`) adds the "
                f"next one; or choose another directory than {str(directory)!r}"
            )


def publish_version(artifact: Path, directory: Path) -> int:
    """Moves a finished directory to `directory` under the next number.

    Returns:
        The number. An earlier version is never overwritten, by another process either.
    """
    directory.mkdir(parents=True, exist_ok=True)
    while True:
        number = max(versions_of(directory), default=0) + 1
        try:
            # Fails where the other directory exists: both are directories with files in them.
            os.rename(artifact, directory / str(number))
            return number
        except OSError:
            if not (directory / str(number)).exists():
                raise


def withdraw(directory: Path, names: Iterable[str]) -> None:
    """Renames earlier artifacts to `<name>.stale` and removes them from the manifest."""
    names = tuple(names)
    entries = read_manifest(directory)
    for name in names:
        if (directory / name).exists():
            _remove(directory / (name + STALE))
            replace(directory / name, directory / (name + STALE))
    if entries.keys() & set(names):
        write_manifest(directory, {key: entries[key] for key in entries if key not in names})


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
