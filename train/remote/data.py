"""Data sets in object stores: copied once to this machine, then read as any other."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_resnet.weights.files.file_system import lock, unlock

from ..config import DataConfig
from .address import copy_path, remote_url
from .entries import Entry
from .journal import Journal
from .store import Store
from .store_errors import StoreError

# Files that are downloaded at a time; those of small images wait for the store.
_TOGETHER, _WINDOW = 16, 512
_SAY_EVERY = 10.0  # seconds
# Seconds between tries when no file comes any more.
_WAITS = (1.0, 4.0, 15.0)

Say = Callable[[str], None]
Listed = Callable[[Path, str], Sequence[str]]


def data_at_hand(
    config: DataConfig, say: Say = print, listed: Listed = lambda path, separator: ()
) -> DataConfig:
    """Returns the configuration of data with local copies in the places of remote addresses.

    `data.dataset` may be a folder, a table with its images, a tar file or shards in a store. With
    `data.data_dir`, the folder of the data set of TFDS below it is copied. A copy is kept; files
    that are there already, of the same size and mark, are not downloaded again, and those that are
    no longer in the store are removed.

    Args:
        config: The data as the run names it.
        say: Prints what is downloaded.
        listed: Returns the images that a file lists, by their paths below its folder, given the
            file and what separates its labels.

    Raises:
        OSError: If there is not enough room for the copy.
        FileNotFoundError: If there is nothing at the address.
        StoreError: If the store goes on failing; the same command goes on with the copy.
    """
    dataset, folder = remote_url(config.dataset), remote_url(config.data_dir)
    if dataset is not None:
        config = dataclasses.replace(
            config, dataset=str(_copy_data(dataset, say, listed, config.label_separator))
        )
    if folder is not None:
        below = _tfds_folder(Store(folder), config.dataset)
        config = dataclasses.replace(config, data_dir=str(_copied(folder, below, say)))
    return config


def copy_data(url: str, say: Say) -> Path:
    """Copies a folder of a store, or a file, and returns the local copy."""
    return _copy_data(url, say, lambda path, separator: (), "")


def _copy_data(url: str, say: Say, listed: Listed, separator: str) -> Path:
    if not Store(url).is_file():
        return _copied(url, "", say)
    folder, file = url.rsplit("/", 1)
    root = _copied(folder, "", say, only=(file,))
    if images := listed(root / file, separator):
        _copied(folder, "", say, only=(file, *images))
    return root / file


def _tfds_folder(store: Store, name: str) -> str:
    """Returns the folder of a data set of TFDS, of one of its configurations if it names one."""
    parts = name.split(":")[0].split("/")
    if len(parts) > 1 and parts[1] in store.listing(parts[0]).folders:
        return f"{parts[0]}/{parts[1]}"
    return parts[0]


def _copied(url: str, below: str, say: Say, *, only: Sequence[str] | None = None) -> Path:
    """Brings the copy of a folder up to date; other workers on this machine wait for it."""
    root = copy_path("copies", url)
    root.mkdir(parents=True, exist_ok=True)
    guard = root.with_name(".lock")
    descriptor = lock(guard)
    try:
        store = Store(url)
        entries = store.entries(below)
        if only is not None:
            entries = {name: entries[name] for name in only if name in entries}
        if not entries:
            raise FileNotFoundError(f"There is nothing at {url}{f'/{below}' if below else ''}")
        journal = Journal(root)
        if only is None:
            _remove_others(root, below, entries, journal, say)
        wanted = {name: each for name, each in entries.items() if not journal.has(name, each)}
        _check_room(root, store, sum(each.size for each in wanted.values()))
        if wanted:
            _download(store, wanted, root, journal, say)
    finally:
        if descriptor is not None:
            unlock(descriptor, guard, remove=False)
    return root


def _remove_others(
    root: Path, below: str, entries: Mapping[str, Entry], journal: Journal, say: Say
) -> None:
    """Removes the files of a copy that are no longer in the store."""
    inside = f"{below}/" if below else ""
    gone = [
        name
        for name in journal.known
        if name.startswith(inside) and name not in entries and (root / name).is_file()
    ]
    for name in gone:
        (root / name).unlink(missing_ok=True)
    if gone:
        say(f"Removed {len(gone)} file(s) of the copy {root} that are no longer in the store")


def _check_room(root: Path, store: Store, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise OSError(
            f"{root} has {free / 2**20:.0f} MiB free, and the copy of {store.url} needs "
            f"{needed / 2**20:.0f} MiB more. Set KERAS_HOME to a larger disk"
        )


def _download(
    store: Store, wanted: Mapping[str, Entry], root: Path, journal: Journal, say: Say
) -> None:
    """Downloads files, several at a time; goes on where the store fails for a moment."""
    total = sum(each.size for each in wanted.values())
    say(f"Copying {len(wanted):,} file(s), {total / 2**20:.1f} MiB, of {store.url} to {root}")
    left, waits, said, warned = dict(wanted), list(_WAITS), time.monotonic(), False
    with journal.lines() as lines, ThreadPoolExecutor(_TOGETHER) as pool:
        while left:
            error: StoreError | None = None
            for names in _windows(list(left)):
                for name, problem in zip(
                    names, pool.map(lambda n: _get(store, n, root / n), names), strict=True
                ):
                    if problem is not None:
                        error = problem
                        continue
                    journal.add(lines, name, left.pop(name))
                    waits = list(_WAITS)
                lines.flush()
                if time.monotonic() - said > _SAY_EVERY:
                    said = time.monotonic()
                    say(f"Copied {len(wanted) - len(left):,} of {len(wanted):,} file(s)")
                if error is not None:
                    break
            if error is None:
                continue
            if not waits:
                raise error
            if not warned:
                say(f"Warning: {error}. {len(left):,} file(s) are left and tried again")
            warned = True
            time.sleep(waits.pop(0))


def _get(store: Store, name: str, path: Path) -> StoreError | None:
    try:
        store.get(name, path)
    except StoreError as error:
        return error
    return None


def _windows(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _WINDOW):
        yield names[start : start + _WINDOW]
