"""Names of classes, files and recipes in all that is written and printed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet_train.console import Console
from keras_resnet_train.evaluation.classes import class_csv, class_table, confusion_csv
from keras_resnet_train.evaluation.pictures import mistakes_png
from keras_resnet_train.evaluation.tally import Mistake
from keras_resnet_train.files import read_json, write_json
from keras_resnet_train.prediction import PredictionTable
from keras_resnet_train.prediction.predict import Prediction
from keras_resnet_train.presentation import Table
from keras_resnet_train.run_report.card import Published, model_card
from keras_resnet_train.rundir import open_run
from keras_resnet_train.terminal import EscapingStream, escaping_terminal, own_stream

pytestmark = pytest.mark.tf

SCRIPT = "<script>alert(1)</script>"
NAMES = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "+1+2",
    "-2+3",
    "[a](javascript:alert(1)) ![b](http://example.com/p.png)",
    "`x` | **b** ~~c~~",
    r"$\frac{1$",
    "%s {0} \\n </title><script>alert(2)</script>",
]
ESCAPES = "\x1b[2J\x9b31m\x07"


@pytest.fixture
def hostile_run(copied_run: pathlib.Path) -> pathlib.Path:
    path = copied_run / "dataset.json"
    write_json(path, read_json(path) | {"class_names": NAMES, "notes": [SCRIPT, ESCAPES]})
    path = copied_run / "config.json"
    write_json(path, read_json(path) | {"recipe": f"{SCRIPT}{ESCAPES}"})
    return copied_run


def test_pages(hostile_run: pathlib.Path, command: Callable[..., Any]) -> None:
    """The report of the run, its page beside another run's, and the card of the hub."""
    assert command("report", hostile_run).status == 0
    other = hostile_run.with_name(f"{SCRIPT.replace('/', '')}{ESCAPES}")
    shutil.copytree(hostile_run, other)
    page = hostile_run / "comparison.html"
    ended = command("compare", hostile_run, other, "--output", page)
    assert (ended.status, ended.err) == (0, "")
    for path in (hostile_run / "report.html", page):
        text = path.read_text()
        assert not re.search(r"<script|<img src=x|\x1b|\x9b|\x07", text)
        assert "&lt;script&gt;" in text
    run = open_run(hostile_run)
    card = model_card(run, Published("model.keras", None, "no", SCRIPT, None, None, curves=False))
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert not re.search(r"(?<!\\)[\[`]a|<(?!!)[a-z]|\x1b|\x9b|\x07|(?<!\\)\*\*b", body)
    rows = [line for line in body.splitlines() if line.startswith("| Classes")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3
    for line in front.splitlines():
        json.loads(line.partition(": ")[2])


def test_tables() -> None:
    """No cell is a formula; each row has its cells."""
    dense = np.ones((10, 10), "int64")
    predicted = Prediction("=1+1.png", np.linspace(1, 0, 10), "", "")
    table = PredictionTable(NAMES, 10)
    records = [{"class": name, "images": 1} for name in NAMES]
    for text in (
        class_csv(class_table(dense, NAMES)),
        confusion_csv(dense, NAMES),
        table.header() + table.row(predicted),
        Table.of("x", "", records).csv(),
    ):
        rows = list(csv.reader(io.StringIO(text)))
        assert {len(row) for row in rows} == {len(rows[0])}
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "+", "-"))]
    assert mistakes_png([Mistake(0, 8, 9, 0.5, np.zeros((8, 8, 3), "uint8"))], NAMES)


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\u2028b", "exe\u202egnp"])
def test_a_table_of_labels(name: str, tmp_path: pathlib.Path, command: Callable[..., Any]) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    Image.new("L", (8, 8), 9).save(tmp_path / "1.png")
    path = tmp_path / "labels.csv"
    path.write_text(f"image,label\n0.png,b\n1.png,{name}\n", encoding="utf-8")
    ended = command("train", "--dataset", path, "--steps", 1, "--test-size", 0, "--dry-run")
    assert ended.status == 1
    assert re.search(r"Class [01] of .*labels.csv' is named 'a|exe", ended.err)
    assert ended.err.strip().isprintable()


def test_the_terminal(capsys: pytest.CaptureFixture[str], command: Callable[..., Any]) -> None:
    with escaping_terminal():
        print(f"{ESCAPES}\r\nmore")
    assert capsys.readouterr().out == "\\x1b[2J\\x9b31m\\x07\\r\nmore\n"
    for words in (("info", ESCAPES), ("evaluate", f"/none/{ESCAPES}"), ("train", "--set", ESCAPES)):
        ended = command(*words)
        assert ended.err.strip().isprintable()

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    EscapingStream(terminal).write("\r\x1b[1mbold\x1b[0m\x1b[K\x1b[2J\x1b]0;title\x07\n")
    assert terminal.getvalue() == "\r\x1b[1mbold\x1b[0m\x1b[K\\x1b[2J\\x1b]0;title\\x07\n"
    terminal = Terminal()
    stream = EscapingStream(terminal)
    for moves in ("\n\n\x1b[A\x1b[A", "\r   \r", "a\x1b[Ab"):
        stream.write(moves)
    assert terminal.getvalue() == "\n\n\x1b[A\x1b[A\r   \ra\\x1b[Ab"
    assert own_stream(stream) is terminal
    with contextlib.redirect_stdout(stream), Console().progress(4, 0):
        print("epoch", flush=True)
    assert "\\x1b" not in terminal.getvalue().partition("a\\x1b[Ab")[2]
