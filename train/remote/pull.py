"""Downloads of runs: the last complete state to go on from, or what a command reads."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ..checkpoint import Checkpoints, CorruptCheckpointError
from ..checkpoint_files import STATE, read_state
from ..files import new_directory
from .address import copy_path
from .entries import Entry
from .journal import Journal
from .layout import FOLDER, LOCKS, committed_best, committed_steps, is_plain
from .store import Store

Say = Callable[[str], None]


def pull_state(store: Store, local: Path, say: Say) -> list[str]:
    """Brings a run's last complete state to its local directory, unless that is as new.

    Args:
        store: The run's place.
        local: Its local directory, which may hold an earlier or a later state.
        say: Prints what is done.

    Returns:
        The names of the files that were downloaded.

    Raises:
        ValueError: If the place holds files and no run.
    """
    entries = store.entries()
    if "config.json" not in entries:
        others = [name for name in entries if not name.startswith(f"{LOCKS}/")]
        if others:
            raise ValueError(
                f"{store.url} holds {len(others)} file(s), such as {others[0]}, and no config.json,"
                " so it is not a run. Choose another --output"
            )
        if (local / "config.json").is_file():
            say(f"{store.url} is empty: the state in {local} is uploaded")
        return []
    _set_aside(local, store.read("config.json"), say)
    steps = committed_steps(entries)
    there = int(steps[-1].removeprefix("step_")) if steps else 0
    here = Checkpoints(local / FOLDER).last_step()
    finished = "model.keras" in entries and not (local / "model.keras").is_file()
    if (local / "config.json").is_file() and here >= there and not finished:
        if here > there:
            say(f"{local} is at step {here}, {store.url} at step {there}: it is uploaded")
        return []
    local.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in entries if is_plain(name) and name.split("/")[0] != "logs"]
    size = sum(entries[name].size for name in entries if not name.startswith(f"{LOCKS}/"))
    say(f"Downloading the run from {store.url} to {local}: up to {size / 2**20:.1f} MiB")
    pull_checkpoints(store, entries, local, say)
    # The configuration makes the directory a run, so it comes last.
    ordered = sorted(wanted, key=lambda name: name == "config.json")
    for name in ordered:
        store.get(name, local / name)
    return ordered


def pull_checkpoints(
    store: Store, entries: Mapping[str, Entry], local: Path, say: Say, *, newest: bool = True
) -> None:
    """Downloads the best checkpoint and the newest sound one; damaged ones are named."""
    (local / FOLDER).mkdir(parents=True, exist_ok=True)
    groups = [("best", committed_best(entries)[::-1])]
    if newest:
        groups.append(("", committed_steps(entries)[::-1]))
    for own_name, found in groups:
        for name in found:
            target = local / FOLDER / (own_name or name)
            if _is_same(store, name, target) or _pull_checkpoint(store, entries, name, target, say):
                break


def _is_same(store: Store, name: str, target: Path) -> bool:
    state = target / STATE
    return state.is_file() and state.read_bytes() == store.read(f"{FOLDER}/{name}/{STATE}")


def _pull_checkpoint(
    store: Store, entries: Mapping[str, Entry], name: str, target: Path, say: Say
) -> bool:
    """Downloads a checkpoint and verifies it; returns whether it is sound."""
    prefix = f"{FOLDER}/{name}/"
    with contextlib.suppress(CorruptCheckpointError), new_directory(target) as temporary:
        for each in entries:
            if each.startswith(prefix):
                store.get(each, temporary / each.removeprefix(prefix))
        try:
            read_state(temporary)
        except CorruptCheckpointError as error:
            say(f"Checkpoint {name} of {store.url} is damaged and skipped: {error}")
            raise
        return True
    return False


def _set_aside(local: Path, config: bytes, say: Say) -> None:
    """Moves a local directory of another run away."""
    file = local / "config.json"
    if not file.is_file() or file.read_bytes() == config:
        return
    aside = local.with_name(f"{local.name}.other-{time.strftime('%Y%m%d-%H%M%S')}")
    shutil.move(local, aside)
    say(f"Note: {local} held another run than its place now does; it is in {aside}")


def copy_for_reading(
    url: str,
    say: Say,
    which: str = "auto",
    kept: Callable[[Path], Collection[str]] = lambda path: (),
) -> Path:
    """Returns the local copy of a run, a folder or a file, after downloading what has changed.

    Args:
        url: The place.
        say: Prints messages.
        which: As in `pull_for_reading`.
        kept: Returns the files of a copy that must not be replaced.

    Raises:
        FileNotFoundError: If there is nothing at the place.
    """
    store, path = Store(url), copy_path("read", url)
    if store.is_file():
        folder, name = url.rsplit("/", 1)
        Store(folder).get(name, path)
        return path
    say(f"Reading {url}; its copy is {path}")
    pull_for_reading(store, path, say, which, kept(path))
    return path


def pull_for_reading(
    store: Store, local: Path, say: Say, which: str = "auto", kept: Collection[str] = ()
) -> None:
    """Downloads what evaluating, predicting and exporting need of a run.

    Args:
        store: The run's place.
        local: Where to; files that are there already are not downloaded again.
        say: Prints messages.
        which: Which weights: `best`, `last`, or `auto`, the finished model's or else a
            checkpoint's.
        kept: Files that are not replaced: they were written here and are not in the store.

    Raises:
        FileNotFoundError: If there is nothing at the place.
    """
    entries = store.entries()
    if not entries:
        raise FileNotFoundError(f"There is nothing at {store.url}")
    local.mkdir(parents=True, exist_ok=True)
    journal = Journal(local)
    with journal.lines() as lines:
        for name, entry in entries.items():
            plain = is_plain(name) and name.split("/")[0] != "logs"
            if plain and name not in kept and not journal.has(name, entry):
                store.get(name, local / name)
                journal.add(lines, name, entry)
    for name in journal.known:
        if name not in entries and name not in kept:  # it is no longer there
            (local / name).unlink(missing_ok=True)
    if which != "auto" or "model.keras" not in entries:
        pull_checkpoints(store, entries, local, say)
