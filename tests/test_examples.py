"""The examples run, for a few steps."""

from __future__ import annotations

import pathlib
import runpy

import keras
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="run once, on TensorFlow"
)


@pytest.fixture
def eager():
    """Runs a few steps without tracing and compiling them, which would take most of the time."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions")
@pytest.mark.parametrize(
    ("name", "arguments", "results"),
    [
        ("transformer.py", ["--layers", "2", "--steps", "4"], {"rezero", "add"}),
        (
            "diffusion_unet.py",
            ["--steps", "2", "--output", "digits.png"],
            {"first loss", "last loss", "generated", "unseen", "noise"},
        ),
        (
            "fine_tuning.py",
            ["--epochs", "1"],
            {"new classifier", "fine-tuned", "from scratch", "fine-tuned, RGB"},
        ),
        ("detection_retinanet.py", ["--epochs", "1"], {"first loss", "last loss", "overlap"}),
        (
            "kerashub_tasks.py",
            ["--epochs", "1"],
            {"classifier loss", "accuracy", "segmenter loss", "pixel accuracy"},
        ),
    ],
)
def test_example(name, arguments, results, eager, tmp_path, monkeypatch, capsys):
    if name in ("detection_retinanet.py", "kerashub_tasks.py"):
        pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(EXAMPLES / name))["main"]
    for constant, value in {"STEPS_PER_EPOCH": 2, "TIMES": 5}.items():
        if constant in main.__globals__:
            monkeypatch.setitem(main.__globals__, constant, value)
    returned = main(arguments)
    assert set(returned) == results
    assert capsys.readouterr().out
    if "--output" in arguments:
        assert (tmp_path / "digits.png").stat().st_size > 0
