"""Training on Ray: two workers of a local Ray, and what needs no Ray."""

from __future__ import annotations

import pathlib
import types

import pytest

from keras_resnet_train.cli import main
from keras_resnet_train.errors import TrainingDivergedError
from keras_resnet_train.ray_training import check_result, ray_trainer
from keras_resnet_train.recipes import get_recipe

CONFIG = get_recipe("digits").configure(
    "cifar_resnet8",
    {
        "data.image_size": 8,
        "model.spec.widths": [4, 8, 8],
        "steps": 8,
        "batch_size": 32,
        "checkpoint.every_steps": 2,
    },
)


def _result(**returned: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(return_value=returned)


def test_the_result_of_a_run() -> None:
    assert check_result(_result(output="/shared/r")) == "/shared/r"
    with pytest.raises(TrainingDivergedError, match="step 3"):
        check_result(_result(error="the loss is NaN at step 3", status=3))
    with pytest.raises(ValueError, match="no data set 'x'"):
        check_result(_result(error="no data set 'x'", status=1))
    with pytest.raises(RuntimeError, match="its log has the cause"):
        check_result(types.SimpleNamespace(return_value=None))


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("workers", 0), ("gpus", -1), ("max_failures", -2)):
        with pytest.raises(ValueError, match=f"`{name}` must be at least"):
            ray_trainer(CONFIG, "run", **{"workers": 2, name: value})
    assert main(["ray", "--workers", "2", "--", "evaluate", "run"]) == 1
    assert "keras-resnet ray --workers 2 -- train --output RUN" in capsys.readouterr().err
    assert main(["ray", "--workers", "2", "--", "train", "--dataset", "digits"]) == 1
    assert "--output" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.filterwarnings("default")
def test_two_workers(tmp_path: pathlib.Path) -> None:
    """Reports and checkpoints arrive; an error that a restart does not mend ends the run once."""
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    ray.init(num_cpus=2, object_store_memory=100_000_000)
    try:
        output = tmp_path / "run"
        trainer = ray_trainer(CONFIG, output, workers=2)
        result = trainer.fit()
        assert check_result(result) == str(output)
        assert (output / "model.keras").is_file()
        assert result.metrics["step"] == 8
        assert 0 <= result.metrics["test_accuracy"] <= 1
        with result.checkpoint.as_directory() as folder:
            kept = {path.name for path in pathlib.Path(folder).iterdir()}
        assert kept == {"model.keras", "config.json", "metrics.json", "labels.txt", "dataset.json"}
        wrong = get_recipe("digits").configure("cifar_resnet8", {"data.dataset": "no_such_data"})
        with pytest.raises(ValueError, match="no_such_data"):
            check_result(ray_trainer(wrong, tmp_path / "wrong", workers=2).fit())
        assert not (tmp_path / "wrong").exists()
    finally:
        ray.shutdown()
