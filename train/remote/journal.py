"""What is known of the files of a copy: of which version each one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from .entries import Entry


class Journal:
    """The files of a copy as they were when they were downloaded, one a line, beside the copy.

    Args:
        copy: The copy: a folder, or a file.

    Attributes:
        known: Size and mark of each file, by its name in the store.
    """

    def __init__(self, copy: Path) -> None:
        self.path = copy.with_name(f".{copy.name}.copied")
        self._copy = copy
        self.known: dict[str, Entry] = {}
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                name, size, mark = json.loads(line)
            except (ValueError, TypeError):  # the last line of a process that was killed
                continue
            self.known[name] = Entry(size, mark)

    def has(self, name: str, entry: Entry) -> bool:
        """Whether the copy has a file as it is in the store."""
        return self.known.get(name) == entry and (self._copy / name).is_file()

    def lines(self) -> IO[str]:
        """Opens the journal to add lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a", encoding="utf-8", newline="\n")
        file.write("\n")  # the last line of a process that was killed may have no end
        return file

    def add(self, file: IO[str], name: str, entry: Entry) -> None:
        """Notes a file that was downloaded."""
        file.write(json.dumps([name, *entry]) + "\n")
        self.known[name] = entry
