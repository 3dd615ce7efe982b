"""The notebooks: valid files without outputs, whose cells run as they are outside Colab."""

from __future__ import annotations

import json
import linecache
import pathlib
from typing import Any

import keras
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def _cells(path: pathlib.Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    return notebook["cells"]


def _run(lines: list[str], name: str, names: dict[str, Any]) -> None:
    """Runs a cell; its lines are kept where TensorFlow's AutoGraph and tracebacks look for them."""
    source = "".join(lines)
    linecache.cache[name] = (len(source), None, lines, name)
    exec(compile(source, name, "exec"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean(path: pathlib.Path) -> None:
    cells = _cells(path)
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert cells[0]["cell_type"] == "markdown"
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="run once, on TensorFlow")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PHOTOS", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        with pyplot.rc_context({"figure.max_open_warning": 0}):
            pyplot.switch_backend("agg")
            for number, cell in enumerate(_cells(path)):
                if cell["cell_type"] == "code":
                    _run(cell["source"], f"{path.name}[{number}]", names)
            assert pyplot.get_fignums(), "the notebook draws no figure"
    finally:
        pyplot.close("all")
    assert not names["IN_COLAB"]


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["app", "fine_tuning", "plain_and_residual"]
