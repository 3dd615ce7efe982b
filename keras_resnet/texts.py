"""Texts from data, files and servers, made safe to print and to write as one line each.

A name of a class or file can hold control characters, which move a terminal's cursor, line
separators, which shift a list with one name a line, and bidirectional controls, which change the
order in which a line is shown (CVE-2021-42574).
"""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

# Bytes of a list of labels. ImageNet-21k's has 0.4 MB.
MAX_LABELS_BYTES = 16 << 20
# Control characters, surrogates, line and paragraph separators; embeddings, overrides and isolates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    r"""Returns a text in which unsafe characters are escapes, such as `\x1b`.

    Example:
        >>> escaped("cat\x1b[2J")
        'cat\\x1b[2J'
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def check_class_names(names: Iterable[str], where: str) -> None:
    """Checks that names of classes can be printed, and written with one name a line.

    Args:
        names: The names.
        where: Their origin, for the error.

    Raises:
        ValueError: If a name is empty, or holds a control character, a line separator or a
            bidirectional control; names the first one.
    """
    for number, name in enumerate(names):
        found = _UNSAFE.search(name)
        if found:
            kind = unicodedata.name(found[0], "a control character or line break")
            raise ValueError(
                f"Class {number} of {where} is named {escaped(name)!r}, which holds "
                f"U+{ord(found[0]):04X} ({kind.lower()}): rename it"
            )
        if not name.strip():
            raise ValueError(f"Class {number} of {where} has an empty name: name it")


def label_text(names: Sequence[str]) -> str:
    """Returns a list of labels: one name a line, with unsafe characters as escapes."""
    return "".join(f"{escaped(name)}\n" for name in names)


def label_lines(text: str) -> list[str]:
    """Returns the names in a list of labels, without empty lines at its end.

    Lines end with a line feed, perhaps after a carriage return. Other separators, such as U+2028,
    which `str.splitlines` splits at, are part of a name and become escapes.

    Raises:
        ValueError: If it is longer than 16 MiB.
    """
    if len(text) > MAX_LABELS_BYTES:
        raise ValueError(f"it is longer than the {MAX_LABELS_BYTES} bytes of labels that are read")
    lines = [escaped(line.strip(" \t\r")) for line in text.removeprefix("\ufeff").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_label_member(content: bytes, name: str) -> list[str] | None:
    """Returns the names in a list of labels inside an archive; see `label_lines`.

    Args:
        content: The archive, perhaps behind another file.
        name: The member.

    Returns:
        The names; None if it is no archive.

    Raises:
        ValueError: If the archive is damaged or has no such member, or the list is not UTF-8 or
            longer than 16 MiB.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(name) as member:
            return label_lines(member.read(MAX_LABELS_BYTES + 1).decode("utf-8"))
    except Exception as error:  # zipfile and zlib raise errors of many types
        raise ValueError(f"its list of labels {name!r} is damaged: {error}") from error


def read_label_file(path: Path) -> list[str]:
    """Returns the names in a file of labels; see `label_lines`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file, not UTF-8, or longer than 16 MiB.
    """
    if path.exists() and not path.is_file():  # a pipe or a device would never end
        raise ValueError(f"A list of labels must be a regular file. Received: {path}")
    with path.open("rb") as file:
        content = file.read(MAX_LABELS_BYTES + 1)
    try:
        return label_lines(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a list of labels in UTF-8: {error}") from error
