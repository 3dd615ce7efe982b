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


def few_digits():
    """Every sixth of scikit-learn's 1,797 digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    data.images, data.target = data.images[::6], data.target[::6]
    return data


# What runs here on less than the example itself.
FEWER = {
    "transformer.py": {},
    "diffusion_unet.py": {"TIMES": 5},
    "fine_tuning.py": {"PRETRAINING_IMAGES": 64, "load_digits": few_digits},
    "detection_retinanet.py": {"STEPS_PER_EPOCH": 2},
    "kerashub_tasks.py": {"STEPS_PER_EPOCH": 2},
}


@pytest.mark.usefixtures("eager")
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
def test_example(name, arguments, results, tmp_path, monkeypatch, capsys):
    if name in ("detection_retinanet.py", "kerashub_tasks.py"):
        pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(EXAMPLES / name))["main"]
    for constant, value in FEWER[name].items():
        assert constant in main.__globals__
        monkeypatch.setitem(main.__globals__, constant, value)
    returned = main(arguments)
    assert set(returned) == results
    assert capsys.readouterr().out
    if "--output" in arguments:
        assert (tmp_path / "digits.png").stat().st_size > 0
