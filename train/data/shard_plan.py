"""What record shards are planned to be, and which of them a folder holds already."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import read_object
from .listing import examples
from .shard_format import FORMAT, MANIFEST, PLAN, Shard, read_facts, sha256
from .shard_images import Storage, stored
from .shard_origin import Origin

THREADS = max(2, os.cpu_count() or 1)
_SAMPLE = 32  # resized images of which the size of all is estimated


def settings_of(origin: Origin, folder: Path, storage: Storage, shard_bytes: int) -> dict[str, Any]:
    """Returns what a folder is written with: as it says, or new for a new one.

    Args:
        origin: The images.
        folder: The folder.
        storage: How images are stored.
        shard_bytes: Size of a shard, about.

    Raises:
        ValueError: If the folder holds other files, or shards of other images or settings.
    """
    now = {
        "format": FORMAT,
        "source": origin.name,
        "task": origin.task,
        "examples": dict(origin.sizes),
        "short_side": storage.short_side,
        "quality": storage.quality if storage.short_side else None,
        "channels": storage.channels,
        "identity": origin.identity(),
    }
    before = _settings_before(folder)
    if before is None:
        size = max(1.0, mean_bytes(origin, storage))
        shards = {s: max(1, round(n * size / shard_bytes)) for s, n in origin.sizes.items()}
        return {**now, "shards": shards}
    named = {name: now[name] for name in now.keys() - {"format", "source", "identity"}}
    differ = [f"{n}: {before.get(n)} there" for n, v in sorted(named.items()) if before.get(n) != v]
    if not differ and before.get("identity") != now["identity"]:
        differ = ["names or labels of images differ"]
    if differ:
        raise ValueError(
            f"{folder} holds shards of other images or settings ({'; '.join(differ)}): "
            "give another folder, or remove it"
        )
    return {**now, "shards": before["shards"]}


def mean_bytes(origin: Origin, storage: Storage) -> float:
    """Returns the mean size of a stored image, an estimate."""
    if not storage.short_side:
        return origin.mean_bytes
    split, size = next(iter(origin.sizes.items()))
    chunks = origin.chunks(Shard(split, 0, 1, 0, min(size, _SAMPLE)), _SAMPLE)
    images = stored(next(chunks)(), storage, origin.decoding)
    sizes = [len(each.content) for each in images if isinstance(each.content, bytes)]
    return sum(sizes) / max(1, len(sizes))


def _settings_before(folder: Path) -> dict[str, Any] | None:
    for name in (PLAN, MANIFEST):
        if (folder / name).is_file():
            found = read_object(folder / name)
            found = found.get("settings", {}) if name == MANIFEST else found
            if not isinstance(found, dict) or not isinstance(found.get("shards"), dict):
                raise ValueError(f"{folder / name} is not what was written: remove it")
            return found
    others = sorted(each.name for each in folder.iterdir() if each.name != ".lock")
    if others:
        raise ValueError(
            f"{folder} must be a new or empty folder, or one that this command has "
            f"begun. It holds: {examples(others)}"
        )
    return None


def sweep(folder: Path) -> None:
    """Removes the files that a killed process has not finished."""
    for path in folder.glob(".*"):
        if path.name != ".lock" and path.is_file():
            path.unlink()


def whole_shards(
    folder: Path, shards: Sequence[Shard], keys: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Returns the facts of the shards that are whole, by the name of their files.

    Args:
        folder: The folder.
        shards: The planned shards.
        keys: What tells the images of each, by the name of its files.
        say: Is told of each shard that is there and not whole.
    """

    def facts_of(shard: Shard) -> tuple[dict[str, Any] | None, str]:
        file, beside = folder / shard.file, folder / shard.rows
        if not file.is_file() or not beside.is_file():
            return None, ""
        facts = read_facts(beside, shard.stop - shard.start)
        if facts is None:
            return None, f"{beside.name} is damaged"
        if facts.get("key") != keys[shard.stem]:
            return None, "its images have changed"
        if facts.get("sha256") != sha256(file):
            return None, "its content is not what was written (SHA-256)"
        return facts, ""

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(shards, pool.map(facts_of, shards), strict=True))
    for shard, (_, problem) in found.items():
        if problem:
            say(f"{shard.file} is written anew: {problem}")
    return {shard.stem: facts for shard, (facts, _) in found.items() if facts is not None}
