"""The notebooks: valid files without outputs, whose cells run as they are outside Colab."""

from __future__ import annotations

import json
import linecache
import pathlib
from typing import Any

import keras
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


# Fewer images and epochs than outside Colab: what is in a notebook, and what is run.
FEWER = {
    "app": {"draw(192, seed=0)": "draw(64, seed=0)", "draw(96, seed=1)": "draw(32, seed=1)"},
    "fine_tuning": {
        "per_class: int = 40": "per_class: int = 16",
        "HEAD_EPOCHS, BODY_EPOCHS = 3, 3": "HEAD_EPOCHS, BODY_EPOCHS = 2, 1",
    },
    "plain_and_residual": {"count: int = 256": "count: int = 64"},
}


def _cells(path: pathlib.Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    return notebook["cells"]


def _run(source: str, name: str, names: dict[str, Any]) -> None:
    """Runs a cell; its lines are kept where TensorFlow's AutoGraph and tracebacks look for them."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
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
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PHOTOS", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    fewer = dict(FEWER[path.stem])
    try:
        with pyplot.rc_context({"figure.max_open_warning": 0}):
            pyplot.switch_backend("agg")
            for number, cell in enumerate(_cells(path)):
                if cell["cell_type"] == "code":
                    source = "".join(cell["source"])
                    for text in [text for text in fewer if text in source]:
                        source = source.replace(text, fewer.pop(text))
                    _run(source, f"{path.name}[{number}]", names)
            assert pyplot.get_fignums(), "the notebook draws no figure"
    finally:
        pyplot.close("all")
    assert not names["IN_COLAB"]
    assert not fewer, "the notebook does not contain these"


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["app", "fine_tuning", "plain_and_residual"]
