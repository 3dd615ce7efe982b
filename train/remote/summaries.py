"""What `keras-resnet runs` and `compare` read of runs in a store: small files, and no weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .layout import DEPTH, FOLDER, LOCKS, SUBFOLDERS, committed_steps
from .lease import is_alive
from .store import Store

# Requests at a time: what takes time is waiting for the store.
_TOGETHER = 16
_SETTINGS = ("config.json", "history.csv", "metrics.json")
# What `runs` shows of these is when they were written.
_DATED = ("metrics.jsonl", "model.keras")


def copy_summaries(store: Store, path: Path, *, curves: bool = False) -> None:
    """Copies settings, history and metrics of all runs at or below a place.

    Folders are looked at level by level, as `find_runs` does. An empty `model.keras` stands for a
    finished model, an empty directory for a checkpoint, and `.training` for a process that trains
    there, so the copy is of no other use.

    Args:
        store: The place.
        path: The copy; a new directory.
        curves: Also copies `metrics.jsonl` and `dataset.json`, which `compare` draws.
    """
    path.mkdir()
    with ThreadPoolExecutor(_TOGETHER) as pool:
        level = [""]
        for _ in range(DEPTH):
            looks = pool.map(lambda name: _look(store, path, name, curves=curves), level)
            level = [each for below in looks for each in below]


def _look(store: Store, path: Path, name: str, *, curves: bool) -> list[str]:
    """Copies a run's files, if there is a run, and returns the folders below that may hold one."""
    found = store.listing(name)
    prefix = f"{name}/" if name else ""
    if "config.json" in found.files:
        _copy_run(store, path, prefix, found.files, curves=curves)
        folders = set(found.folders)
        if "model.keras" not in found.files and FOLDER in folders:
            names = [each[len(prefix) :] for each in store.entries(f"{prefix}{FOLDER}")]
            for step in committed_steps(names):
                (path / name / FOLDER / step).mkdir(parents=True, exist_ok=True)
        if "model.keras" not in found.files and LOCKS in folders and is_alive(store, prefix):
            (path / name / ".training").touch()
    return [
        prefix + each
        for each in found.folders
        if each not in SUBFOLDERS and not each.startswith(".") and ".." not in each
    ]


def _copy_run(
    store: Store, path: Path, prefix: str, times: Mapping[str, float | None], *, curves: bool
) -> None:
    read = (*_SETTINGS, *(("metrics.jsonl", "dataset.json") if curves else ()))
    (path / prefix).mkdir(parents=True, exist_ok=True)
    for name in {*read, *_DATED}:
        if name not in times:
            continue
        target = path / prefix / name
        if name in read:
            store.get(prefix + name, target)
        else:
            target.touch()
        stamp = times[name]
        if stamp is None:
            stamp = store.modified(prefix + name)
        os.utime(target, (stamp, stamp))
