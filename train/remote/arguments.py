"""Options of the command line that name places in object stores."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .address import remote_url, short_name

# What each command reads and writes, by the name of the option. `train --output` is a mirror, which
# the command opens itself, and data sets are opened by `data.load`.
_READS = ("run", "runs", "paths", "files", "weights", "labels", "config")
_WRITES = ("output", "heatmap")
_COMMANDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(
        ("evaluate", "predict", "export", "prune", "latency", "report", "demo", "convert"),
        (_READS, _WRITES),
    ),
    "publish": (("run",), ("folder",)),
    "runs": (("folder",), ()),
    "compare": (("runs",), ("output",)),
    "train": (("config",), ()),
}
_OWN: Mapping[str, tuple[str, ...]] = {
    "train": ("output", "data.dataset", "data.data_dir"),
    "launch": ("words",),
}
_DATA = ("dataset", "data_dir", "data.dataset", "data.data_dir")


class _Copy(NamedTuple):
    """A local copy of a place, and its files as they were before the command."""

    url: str
    path: Path
    before: Mapping[str, tuple[int, int]]


@contextlib.contextmanager
def remote_arguments(command: str, args: argparse.Namespace) -> Iterator[None]:
    """Puts local copies in the places of remote arguments while a command runs.

    What the command has written is uploaded at the end.

    Args:
        command: The name of the command.
        args: Its arguments; those that are remote are replaced. `shown` becomes the addresses by
            their local copies.

    Raises:
        NotUploadedError: If what was written cannot be uploaded.
        StoreError: If a place cannot be read.
        ValueError: If the command takes no remote places there.
    """
    reads, writes = _COMMANDS.get(command, ((), ()))
    summary = command in ("runs", "compare")
    with contextlib.ExitStack() as stack:
        copies: list[_Copy] = []
        shown: dict[str, str] = {}
        for name, value in list(vars(args).items()):
            values = value if isinstance(value, list) else [value]
            if not any(map(remote_url, values)) or name in (*_OWN.get(command, ()), *_DATA):
                continue
            if name not in (*reads, *writes):
                raise ValueError(
                    f"`{command}` takes no place in an object store as {name.replace('_', '-')}: "
                    f"give a local path. Received: {remote_url(value) or value}"
                )
            which = getattr(args, "checkpoint", None) or "auto"
            local = [
                _local(each, stack, copies, which, summary=summary, writes=name in writes)
                for each in values
            ]
            setattr(args, name, local if isinstance(value, list) else local[0])
            for each, path in zip(values, local, strict=True):
                if remote_url(each) is not None:
                    shown[str(path)] = str(remote_url(each))
        args.shown = shown
        yield
        for copy in copies:
            _upload(copy)


def _local(
    value: Any,
    stack: contextlib.ExitStack,
    copies: list[_Copy],
    which: Any,
    *,
    summary: bool,
    writes: bool,
) -> Any:
    """Returns the local copy of one value, of the value's own type."""
    url = remote_url(value)
    if url is None:
        return value
    from .store import Store

    store = Store(url)
    kind = type(value) if isinstance(value, str) else Path
    if writes:
        store.check_writable()
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / url.rsplit("/", 1)[-1]
        copies.append(_Copy(url, path, {}))
        return kind(path)
    if summary:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / url.rsplit("/", 1)[-1]
        _summarize(store, path)
        return kind(path)
    path = _copy_of(store, url, which)
    if path.is_dir():
        copies.append(_Copy(url, path, _marks(path)))
    return kind(path)


def _copy_of(store: Any, url: str, which: Any) -> Path:
    from .mirror import work_folder
    from .pull import pull_for_reading

    path = work_folder() / "read" / short_name(url)
    if store.is_file():
        from .store import Store

        folder, name = url.rsplit("/", 1)
        path.mkdir(parents=True, exist_ok=True)
        Store(folder).get(name, path / name)
        return path / name
    print(f"Reading {url}; its copy is {path}")
    pull_for_reading(store, path, print, which)
    return path


def _summarize(store: Any, path: Path) -> None:
    """Copies the small files of all runs at or below a place."""
    from .layout import DEPTH, SUBFOLDERS
    from .lease import is_alive
    from .pull import pull_summary
    from .store import Store

    path.mkdir()
    level = [""]
    for _ in range(DEPTH):
        below: list[str] = []
        for name in level:
            run = Store(f"{store.url}/{name}".rstrip("/"))
            folders = run.folders()
            if run.has("config.json"):
                pull_summary(run, path / name)
                if is_alive(run):
                    (path / name / ".training").touch()
            below += [
                f"{name}/{each}".lstrip("/")
                for each in folders
                if each not in SUBFOLDERS and not each.startswith(".")
            ]
        level = below


def _marks(path: Path) -> dict[str, tuple[int, int]]:
    from .layout import plain_files

    stats = {name: (path / name).stat() for name in plain_files(path)}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def _upload(copy: _Copy) -> None:
    """Uploads what a command has written to a copy."""
    from ..errors import NotUploadedError
    from .store import Store

    if copy.path.is_file():  # an output that is one file
        folder, name = copy.url.rsplit("/", 1)
        store, names, local = Store(folder), [name], copy.path.parent
    elif copy.path.is_dir():
        now = _marks(copy.path)
        names = [name for name, mark in now.items() if copy.before.get(name) != mark]
        store, local = Store(copy.url), copy.path
    else:
        return
    for index, name in enumerate(names):
        try:
            store.put(local / name, name)
        except OSError as error:
            raise NotUploadedError(
                f"{len(names) - index} of {len(names)} file(s) that were written are not at "
                f"{copy.url}, {names[index]} first: {error}"
            ) from error
    if names:
        print(f"Uploaded {len(names)} file(s) to {copy.url}")
