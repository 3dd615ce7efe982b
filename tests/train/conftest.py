"""A tiny run, small enough to train within a test and shared where no test changes it."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from keras_resnet_train.cli import main
from keras_resnet_train.config import RunConfig
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.session import run_training

# 8 layers of 4 and 8 filters on digits of 8 x 8 pixels: what takes time is tracing the graph.
TINY = {
    "data.dataset": "digits",
    "data.image_size": 8,
    "model.spec.widths": [4, 8, 8],
    "batch_size": 64,
    "steps": 40,
    "augment.pad": 1,
    "schedule.learning_rate": 0.2,
    "schedule.warmup_epochs": 0,
}


def tiny_config(**changes: Any) -> RunConfig:
    """The tiny run's configuration, `__` standing for the dots of changed fields."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return get_recipe("digits").configure("cifar_resnet8", {**TINY, **dotted})


@pytest.fixture(scope="session")
def tiny() -> Callable[..., RunConfig]:
    """Makes tiny configurations: `tiny(steps=3, optimizer__ema=0.5)`."""
    return tiny_config


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished tiny run, for reading only; `copied_run` is for changing."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    run_training(tiny_config(), path)
    return path


@pytest.fixture
def copied_run(finished_run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished tiny run of the test's own."""
    return pathlib.Path(shutil.copytree(finished_run, tmp_path / "run"))


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs a command line in this process: `command("info", "resnet50")`."""

    def run(*words: object) -> Ended:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Ended(status, *capsys.readouterr())

    return run
