"""The examples run as a reader would run them, for a few steps."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="run once, on TensorFlow"
)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("transformer.py", ("--layers", "4", "--steps", "4"), "loss"),
        ("diffusion_unet.py", ("--steps", "2"), "loss"),
        ("fine_tuning.py", ("--epochs", "1"), "from nothing"),
        ("detection_retinanet.py", ("--epochs", "1"), "epoch 1  loss"),
    ],
)
def test_example(name: str, options: tuple[str, ...], said: str, tmp_path: pathlib.Path) -> None:
    if name == "detection_retinanet.py":
        pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *options],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert said in ended.stdout
