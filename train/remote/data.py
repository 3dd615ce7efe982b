"""Data sets in object stores: copied once to this machine, then read as any other."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from keras_resnet.weights.files.file_system import lock, unlock

from ..config import DataConfig
from ..files import write_bytes
from .address import home_folder, remote_url, short_name
from .store import Entry, Store

_SAY_EVERY = 2**30  # bytes


def data_at_hand(config: DataConfig, say: Callable[[str], None] = print) -> DataConfig:
    """Returns the configuration of data with local copies in the places of remote addresses.

    `data.dataset` may be a folder, a table or shards in a store. With `data.data_dir`, the folder
    of the data set of TFDS below it is copied. A copy is kept; files that are there already, of
    the same size and mark, are not downloaded again.

    Args:
        config: The data as the run names it.
        say: Prints what is downloaded.

    Raises:
        OSError: If there is not enough room for the copy.
        FileNotFoundError: If there is nothing at the address.
    """
    dataset, folder = remote_url(config.dataset), remote_url(config.data_dir)
    if dataset is not None:
        config = dataclasses.replace(config, dataset=str(copy_data(dataset, "", say)))
    if folder is not None:
        name = config.dataset.split(":")[0].split("/")[0]
        config = dataclasses.replace(config, data_dir=str(copy_data(folder, name, say)))
    return config


def copy_data(url: str, below: str, say: Callable[[str], None]) -> Path:
    """Copies a folder of a store and returns the local copy of `url`.

    Of a file, such as a table of images, the folder that it is in is copied.
    """
    file = ""
    if Store(url).is_file():
        url, file = url.rsplit("/", 1)
    root = home_folder() / "copies" / short_name(url)
    marks = root.with_name(f"{root.name}.marks")
    marks.mkdir(parents=True, exist_ok=True)
    guard = marks / ".lock"
    descriptor = lock(guard)  # other workers on this machine wait for the copy
    try:
        _copy(Store(url), below, root, marks, say)
    finally:
        if descriptor is not None:
            unlock(descriptor, guard, remove=False)
    return root / file if file else root


def _copy(store: Store, below: str, root: Path, marks: Path, say: Callable[[str], None]) -> None:
    entries = store.entries(below)
    if not entries:
        raise FileNotFoundError(f"There is nothing at {store.url}{f'/{below}' if below else ''}")
    wanted = {
        name: each
        for name, each in entries.items()
        if not ((root / name).is_file() and _is_known(marks / name, each))
    }
    total = sum(each.size for each in wanted.values())
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if total > free:
        raise OSError(
            f"{root} has {free / 2**20:.0f} MiB free, and the copy of {store.url} needs "
            f"{total / 2**20:.0f} MiB more. Set KERAS_HOME to a larger disk"
        )
    if wanted:
        say(f"Copying {len(wanted)} file(s), {total / 2**20:.1f} MiB, of {store.url} to {root}")
    done, said = 0, 0
    for name, each in wanted.items():
        store.get(name, root / name)
        mark = marks / name
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(mark, _text(each))
        done += each.size
        if done - said >= _SAY_EVERY:
            said = done
            say(f"Copied {done / 2**20:.0f} of {total / 2**20:.0f} MiB")


def _is_known(mark: Path, entry: Entry) -> bool:
    return mark.is_file() and mark.read_bytes() == _text(entry)


def _text(entry: Entry) -> bytes:
    return f"{entry.size} {entry.mark}".encode()
