"""Names that would move a cursor, shift a list, or hide what a line says."""

from __future__ import annotations

import io
import os
import pathlib
import zipfile

import pytest

from keras_resnet.export.artifacts import read_manifest
from keras_resnet.export.litert_runtime import check_input_sides
from keras_resnet.export.stated import stated_by
from keras_resnet.texts import (
    check_class_names,
    escaped,
    label_lines,
    label_text,
    read_label_file,
    read_label_member,
)

# Erases the screen; C1's CSI; next line, line separator, vertical tab; text from right to left.
HOSTILE = ("a\x1b[2J", "a\x9b2J", "a\x85b", "a\u2028b", "a\x0bb", "exe\u202egnp", "a\nb", "\x7f")
# No-break and ideographic spaces, joiners in Devanagari and in an emoji, marks of direction.
PLAIN = ("café", "a b", "日本　語", "क\u200dष", "👩\u200d🔬", "א\u200f", "=x", "<b>")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str) -> None:
    assert escaped(name).isprintable()
    with pytest.raises(ValueError, match=r"Class 1 of x is named .* U\+[0-9A-F]{4} .*rename"):
        check_class_names(["a", name], "x")
    lines = label_text(["first", name, "last"])
    assert lines.splitlines() == label_lines(lines) == ["first", escaped(name), "last"]


def test_plain_names() -> None:
    check_class_names(PLAIN, "x")
    assert [escaped(name) for name in PLAIN] == list(PLAIN)
    assert label_lines(label_text(PLAIN)) == list(PLAIN)
    assert escaped("a\x1b[2J\ud800") == "a\\x1b[2J\\ud800"
    with pytest.raises(ValueError, match="Class 1 of x has an empty name"):
        check_class_names(["a", " "], "x")


def test_lists_of_labels(tmp_path: pathlib.Path) -> None:
    """Those of other programs: Windows's line ends, a mark of order, separators inside names."""
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffa\r\nb\u2028c\r\n\r\n".encode())
    assert read_label_file(path) == ["a", "b\\u2028c"]
    path.write_bytes(b"a\xff\n")
    with pytest.raises(ValueError, match=r"labels\.txt must be a list of labels in UTF-8"):
        read_label_file(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="longer than the 16777216 bytes"):
        read_label_file(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        for special in (tmp_path / "pipe", pathlib.Path("/dev/zero")):
            with pytest.raises(ValueError, match="must be a regular file"):
                read_label_file(special)


def test_archives() -> None:
    """A bomb, a method of compression that Python does not have, a later version, no member."""
    content = io.BytesIO(b"a flatbuffer")
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bytes(1 << 26))
        archive.writestr("labels.txt", "a\nb\n")
    whole = content.getvalue()
    assert read_label_member(whole, "labels.txt") == ["a", "b"]
    assert read_label_member(b"TFL3", "labels.txt") is None
    with pytest.raises(ValueError, match="longer than the 16777216 bytes"):
        read_label_member(whole, "bomb.txt")
    with pytest.raises(ValueError, match="There is no item named 'none'"):
        read_label_member(whole, "none")
    place = whole.rindex(b"PK\1\2")
    for offset, value in ((6, 200), (10, 77), (8, 1)):  # version, method, encryption
        damaged = bytearray(whole)
        damaged[place + offset] = value
        with pytest.raises(ValueError, match="its list of labels 'labels.txt' is damaged"):
            read_label_member(bytes(damaged), "labels.txt")


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": "abc"},
        {"class_names": [1, 2]},
        {"preprocess": []},
        {"preprocess": {"size": [10**9, 1]}},
        {"several_labels": "no"},
    ],
)
def test_a_damaged_entry_of_a_manifest(change: dict[str, object]) -> None:
    entry = {"class_names": ["a", "b\x1b"], "preprocess": {"size": [8, 8]}}
    assert stated_by(entry)[1:] == (("a", "b\\x1b"), None)
    assert stated_by({}) == (None, None, None)
    with pytest.raises(ValueError, match=".+"):
        stated_by(entry | change)


@pytest.mark.parametrize("content", [b"[" * 10**5, b"\xff", b'{"artifacts": []}', None])
def test_a_damaged_manifest(content: bytes | None, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    elif hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        path.write_text("")
    with pytest.raises(ValueError, match=r"manifest.json. is not a manifest of exports"):
        read_manifest(tmp_path)


def test_inputs_of_damaged_files() -> None:
    """Two flipped bytes made a file of 18 kB take 5 GB: its input stated 2,162,696 rows."""
    for shape in ((1, 8, 8, 1), (1, 4096, 4096, 3), ()):
        check_input_sides(shape)
    for shape in ((1, 2_162_696, 8, 1), (1, 65_536, 65_536, 3), (100_000, 1, 1, 1)):
        with pytest.raises(ValueError, match=r"its input has the shape \("):
            check_input_sides(shape)
