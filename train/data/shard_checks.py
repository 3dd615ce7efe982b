"""Damaged shards: found, and refused with what to do."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .listing import examples
from .reading import Progress
from .shard_format import sha256
from .shard_manifest import Manifest, Written, read_manifest
from .walk import counted


def check_shards(folder: Path, say: Callable[[str], None]) -> Manifest:
    """Compares the SHA-256 of each shard with the manifest.

    Args:
        folder: A finished folder.
        say: Prints a line on progress.

    Returns:
        The manifest.

    Raises:
        ValueError: If shards are damaged or missing; names them, and what to do.
    """
    manifest = read_manifest(folder)
    shards = [shard for each in manifest.splits.values() for shard in each]
    images = sum(shard.examples for shard in shards)
    progress = Progress(images, 0, say, "checking shards")
    damaged = []
    with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        problems = pool.map(lambda shard: problem_of_shard(folder, shard, content=True), shards)
        for shard, problem in zip(shards, problems, strict=True):
            progress.add(shard.examples)
            if problem:
                damaged.append(f"{shard.file} ({problem})")
    refuse_damaged(folder, damaged)
    return manifest


def problem_of_shard(folder: Path, shard: Written, *, content: bool) -> str:
    """Returns what is wrong with the files of a shard, or "".

    Args:
        folder: The folder.
        shard: What the manifest states.
        content: Whether to read the file of records and compare its hash, not its size alone.
    """
    file, beside = folder / shard.file, folder / shard.rows
    if not file.is_file():
        return "missing"
    size = file.stat().st_size
    if size != shard.bytes:
        return f"{size:,} bytes, not {shard.bytes:,}"
    if not beside.is_file():
        return f"{beside.name} is missing"
    if sha256(beside) != shard.rows_sha256:
        return f"{beside.name} has other content"
    return "other content" if content and sha256(file) != shard.sha256 else ""


def refuse_damaged(folder: Path, damaged: Sequence[str]) -> None:
    """Refuses a folder with damaged shards.

    Args:
        folder: The folder.
        damaged: The names of the shards, each with what is wrong.

    Raises:
        ValueError: If there are some; says what to do.
    """
    if damaged:
        raise ValueError(
            f"{folder} has {counted(len(damaged), 'damaged shard')}: {examples(damaged)}. Give the "
            "`keras-resnet shards` command of this folder again, which writes these anew, or copy "
            "them from where they are whole"
        )
