"""Paths, encodings and newlines do not depend on the system: read from the code."""

from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted(p for folder in ("keras_resnet", "train") for p in (ROOT / folder).rglob("*.py"))
# Methods of these are called `open` or `write_text` too, and take no encoding.
OTHERS = (
    *("os", "webbrowser", "source", "artifacts", "self._archive", "_opener(redirects)"),
    *("Image", "pretrained", "tarfile", "archive", "FileIndex"),
)


def faults(tree: ast.AST) -> list[str]:
    """Calls that open a text file without an encoding, or write one without newlines."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if needed(call) - {k.arg for k in call.keywords}]


def needed(call: ast.Call) -> set[str]:
    """Arguments that a call needs if it opens, reads or writes a text file."""
    owner, _, name = ast.unparse(call.func).rpartition(".")
    if name == "fdopen":
        owner, name = "", "open"
    if owner in OTHERS:
        return set()
    if name == "read_text":
        return {"encoding"}
    if name == "write_text" and owner:
        return {"encoding", "newline"}
    if name != "open":
        return set()
    mode = mode_of(call, position=0 if owner else 1)
    if "b" in mode:
        return set()
    return {"encoding", "newline"} if set(mode) & set("wax") else {"encoding"}


def mode_of(call: ast.Call, position: int) -> str:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    given += call.args[position : position + 1]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else "r"


@pytest.mark.parametrize("folder", ["keras_resnet", "train"])
def test_text_files_state_encoding_and_newlines(folder: str) -> None:
    paths = [path for path in FILES if path.is_relative_to(ROOT / folder)]
    assert len(paths) > 20
    found = {
        path.relative_to(ROOT).as_posix(): calls
        for path in paths
        if (calls := faults(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("open(path)", True),
        ("open(path, encoding='utf-8')", False),
        ("path.open('w', encoding='utf-8')", True),
        ("path.open('w', encoding='utf-8', newline='')", False),
        ("open(path, 'rb')", False),
        ("os.fdopen(handle, 'w')", True),
        ("path.read_text()", True),
        ("path.write_text(text, encoding='utf-8', newline='\\n')", False),
        ("os.open(path, os.O_RDWR)", False),
    ],
)
def test_what_counts_as_a_fault(code: str, fault: bool) -> None:
    assert bool(faults(ast.parse(code))) is fault
