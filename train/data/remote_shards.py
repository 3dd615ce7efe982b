"""Record shards that are written to an object store: here first, then uploaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import NotUploadedError
from ..files import read_object, write_json
from ..remote.address import copy_path
from ..remote.outputs import marks
from ..remote.store import Store
from ..remote.store_errors import StoreError
from .shard_format import MANIFEST
from .shard_manifest import Manifest

_TOGETHER = 4
Say = Callable[[str], None]


def check_place(url: str) -> None:
    """Checks that shards can be written to a place, before their source is opened.

    Args:
        url: The place: empty, or with what an earlier try has uploaded.

    Raises:
        StoreError: If the place cannot be written.
        ValueError: If it holds other files.
    """
    store = Store(url)
    entries = store.entries()
    if MANIFEST in entries:
        raise ValueError(f"{url} holds finished shards: remove them, or give another folder")
    if entries and not copy_path("shards", url).is_dir():
        raise ValueError(
            f"{url} holds {len(entries)} file(s), such as {min(entries)}, that were not begun on "
            "this machine: remove them, or give another folder"
        )
    store.check_writable()


def write_remote_shards(url: str, write: Callable[[Path], Manifest], say: Say) -> Manifest:
    """Writes shards to a local folder and uploads them, the manifest last.

    A folder without its manifest is not a set of shards, so an upload that is cut off leaves none.
    The local folder is removed at the end. After an interruption the same command goes on with it.

    Args:
        url: The place, which `check_place` has passed.
        write: Writes shards to a folder, or goes on with them.
        say: Prints a line.

    Raises:
        NotUploadedError: If shards could not be uploaded; they remain on this machine.
    """
    local = copy_path("shards", url)
    say(f"The shards are written to {local} and uploaded to {url}")
    manifest = write(local)
    _upload(local, Store(url), say)
    shutil.rmtree(local)
    return manifest


def _upload(local: Path, store: Store, say: Say) -> None:
    """Uploads a folder; what an earlier try has uploaded, and is unchanged, is not sent again."""
    record = local.with_name(f".{local.name}.uploaded.json")
    try:
        sent = dict(read_object(record))
    except (OSError, ValueError):
        sent = {}
    entries, now = store.entries(), marks(local)
    wanted = [
        name
        for name, mark in now.items()
        if name != MANIFEST and not (name in entries and sent.get(name) == list(mark))
    ]
    say(f"Uploading {len(wanted) + 1} file(s) to {store.url}")

    def put(name: str) -> None:
        store.put(local / name, name)
        sent[name] = list(now[name])

    try:
        with ThreadPoolExecutor(_TOGETHER) as pool:
            list(pool.map(put, wanted))
        put(MANIFEST)
    except StoreError as error:
        write_json(record, sent)
        raise NotUploadedError(
            f"Not all shards are at {store.url}. They are in {local}; give the same command again "
            f"on this machine to upload them. {error}"
        ) from error
    record.unlink(missing_ok=True)
