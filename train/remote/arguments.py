"""Options of the command line that name places in object stores."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..terminal import show_instead
from .address import remote_url
from .places import PLACES, Places

if TYPE_CHECKING:
    from .outputs import Copy


@contextlib.contextmanager
def remote_arguments(command: str, args: argparse.Namespace) -> Iterator[None]:
    """Puts local copies in the places of remote arguments while a command runs.

    Places to write are checked before anything is downloaded. What the command has written is
    uploaded at the end, also after an error.

    Args:
        command: The name of the command.
        args: Its arguments; those that are remote are replaced. `shown` becomes the addresses by
            their local copies.

    Raises:
        FileExistsError: If a place must be new and is not.
        NotUploadedError: If what was written cannot be uploaded.
        StoreError: If a place cannot be read or written.
        ValueError: If the command takes no remote places there.
    """
    args.shown = {}
    given = {
        name: url
        for name, value in vars(args).items()
        if (url := next(filter(None, map(remote_url, _all(value))), None))
    }
    places = PLACES.get(command, Places())
    for name, url in given.items():
        if name not in (*places.reads, *places.writes, *places.own):
            raise ValueError(
                f"`{command}` takes no place in an object store as {name.replace('_', '-')}: "
                f"give a local path. Received: {url}"
            )
    with contextlib.ExitStack() as stack:
        opened = _Opened(command, args, stack)
        try:
            opened.replace([n for n in places.writes if n in given], opened.output)
            opened.replace([n for n in places.reads if n in given], opened.input)
            opened.check()
            show_instead(args.shown)
            yield
        except Exception:
            opened.upload_after_error()
            show_instead(args.shown)
            raise
        except BaseException:  # interrupted: what is written is not whole
            opened.discard()
            raise
        opened.upload()


class _Opened:
    """The remote arguments of a command, and their local copies."""

    def __init__(self, command: str, args: argparse.Namespace, stack: contextlib.ExitStack) -> None:
        self._command, self._args, self._stack = command, args, stack
        self._copies: list[Copy] = []

    def replace(self, names: Sequence[str], local: Callable[[str, str], Path]) -> None:
        """Puts local copies in the place of arguments, each of its argument's own type."""
        for name in names:
            value, paths = getattr(self._args, name), []
            for each in _all(value):
                url = remote_url(each)
                if url is None:
                    paths.append(each)
                    continue
                path = local(name, url)
                self._args.shown[str(path)] = url
                paths.append(str(path) if isinstance(each, str) else path)
            setattr(self._args, name, paths if isinstance(value, list) else paths[0])

    def output(self, name: str, url: str) -> Path:
        """Returns where an output is written here."""
        from .outputs import folder_output, new_output

        places = PLACES[self._command]
        if name in places.folders:
            copy = folder_output(url)
        else:
            copy = new_output(url, fresh=name in places.new)
        self._copies.append(copy)
        return copy.path

    def input(self, name: str, url: str) -> Path:
        """Returns the copy of what is read, which a command may write into if it is a run."""
        from .outputs import kept_copy, unsent
        from .pull import copy_for_reading
        from .store import Store
        from .summaries import copy_summaries

        if self._command in ("runs", "compare"):
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            path = folder / url.rsplit("/", 1)[-1]
            copy_summaries(Store(url), path, curves=self._command == "compare")
            return path
        which = getattr(self._args, "checkpoint", None) or "auto"
        path = copy_for_reading(url, print, which, unsent)
        if path.is_dir():
            self._copies.append(kept_copy(url, path))
        return path

    def check(self) -> None:
        """Checks that what a command writes into a run can be uploaded, if that is its purpose."""
        written = getattr(self._args, "output", None) is None
        if self._command == "report" or (self._command == "export" and written):
            from .store import Store

            for copy in self._copies:
                Store(copy.url).check_writable()

    def upload(self) -> None:
        """Uploads what was written."""
        from .outputs import upload

        show_instead({})
        for copy in self._copies:
            upload(copy)

    def upload_after_error(self) -> None:
        """Uploads what was written before an error, such as the other files of an export."""
        try:
            self.upload()
        except OSError as error:
            print(f"Warning: {error}")

    def discard(self) -> None:
        """Removes what was written for a place and is not there."""
        from .outputs import discard

        for copy in self._copies:
            discard(copy)


def _all(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
