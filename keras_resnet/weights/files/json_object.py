"""JSON objects of untrusted files, read within a limit."""

from __future__ import annotations

import collections
import json
import os
import zipfile
from typing import Any

# Bytes. The config of an unrolled ResNet-1202 has 4 MB.
MAX_BYTES = 16 << 20


def loads(text: str | bytes) -> Any:
    """Parses JSON in which no object has a key twice, which readers take for different values.

    Raises:
        ValueError: If it is not JSON, is nested too deep, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((name, count),) = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {name[:80]!r} {count} times")
    return values


def parse_object(text: str | bytes, source: str) -> dict[str, Any]:
    """Returns a JSON object.

    Args:
        text: The JSON text, UTF-8.
        source: Name of its origin, for messages.

    Raises:
        ValueError: If it is not a JSON object, is longer than 16 MiB, or has a key twice.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{source} has {len(text)} bytes of JSON; at most {MAX_BYTES} are read")
    try:
        content = loads(text)
    except ValueError as error:
        raise ValueError(f"{source} is not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source} does not contain a JSON object")
    return content


def read_object(path: str) -> dict[str, Any]:
    """Returns the JSON object in a file; see `parse_object`."""
    if not os.path.isfile(path):  # a pipe or a device would never end
        raise ValueError(f"{path!r} is not a regular file")
    with open(path, "rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"{path!r} is longer than the {MAX_BYTES} bytes of JSON that are read")
    return parse_object(text, repr(path))


def read_member(path: str, name: str) -> dict[str, Any]:
    """Returns the JSON object in a member of an archive; see `parse_object`.

    Raises:
        KeyError: If the archive has no such member.
        ValueError: If the archive is damaged, or the member is no JSON object.
    """
    if not os.path.isfile(path):  # a pipe or a device would never end
        raise ValueError(f"{path!r} is not a regular file")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            text = member.read(MAX_BYTES + 1)
    except KeyError:
        raise
    except Exception as error:  # zipfile and zlib raise errors of many types
        raise ValueError(f"{path!r} is a damaged archive: {error}") from error
    return parse_object(text, f"{name!r} in {path!r}")
