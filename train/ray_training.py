"""A training run on the workers of a Ray cluster, by the TensorFlow trainer of Ray Train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import RunConfig, with_changes
from .errors import DIVERGED, TrainingDivergedError
from .ray_worker import train_on_worker
from .remote.address import remote_url
from .rundir import Resume

_INSTALL = "Training on Ray needs ray: pip install 'keras3-resnet[ray]'"


def ray_trainer(
    config: RunConfig,
    output: Path | str,
    *,
    workers: int,
    gpus: float = 0,
    cpus: float = 1,
    max_failures: int = 3,
    storage: Path | str | None = None,
    resume: Resume = "auto",
) -> Any:
    """Returns the `ray.train.tensorflow.TensorflowTrainer` of a run; its `fit()` trains it.

    All workers start again from the run's last checkpoint when one of them is lost, at most
    `max_failures` times. Errors that a restart does not mend (settings, data, a loss that is no
    longer finite) end the run at once; `check_result` raises them.

    Args:
        config: The run. Its strategy becomes `multi-worker`.
        output: The run's directory, which all workers share, or its place in an object store.
        workers: Number of workers.
        gpus: GPUs of each worker.
        cpus: CPUs of each worker.
        max_failures: Number of restarts; -1 for no limit.
        storage: Where Ray keeps its reports and copies of checkpoints, below the run's name; by
            default `ray` beside the run's directory.
        resume: As in `run_training`.

    Raises:
        ModuleNotFoundError: If Ray is not installed.
        ValueError: If a number is out of its range.

    Example:
        >>> trainer = ray_trainer(RunConfig(epochs=20), "/shared/runs/digits", workers=2)
        >>> check_result(trainer.fit())  # doctest: +SKIP
    """
    for name, value, least in (
        ("workers", workers, 1),
        ("gpus", gpus, 0),
        ("cpus", cpus, 0),
        ("max_failures", max_failures, -1),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}")
    try:
        from ray import train as ray_train
        from ray.train.tensorflow import TensorflowTrainer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_INSTALL, name="ray") from error
    place = remote_url(output) or str(Path(output).resolve())
    folder, _, name = place.rstrip("/").rpartition("/")
    config = with_changes(config, {"runtime.strategy": "multi-worker"})
    return TensorflowTrainer(
        train_on_worker,
        train_loop_config={
            "config": config.to_json(),
            "output": place,
            "resume": resume,
            "directory": str(Path.cwd()),
        },
        scaling_config=ray_train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=ray_train.RunConfig(
            name=name,
            storage_path=str(storage or f"{folder}/ray"),
            failure_config=ray_train.FailureConfig(max_failures=max_failures),
            checkpoint_config=ray_train.CheckpointConfig(num_to_keep=config.checkpoint.keep),
        ),
    )


def check_result(result: Any) -> str:
    """Returns the directory or the place of the finished run.

    Args:
        result: What the `fit()` of `ray_trainer` returned.

    Raises:
        TrainingDivergedError: If the loss was no longer finite.
        ValueError: After any other error that a restart does not mend.
    """
    returned = result.return_value or {}
    if returned.get("status") == DIVERGED:
        raise TrainingDivergedError(returned["error"])
    if "error" in returned:
        raise ValueError(returned["error"])
    if "output" not in returned:
        raise RuntimeError("Ray gave no result of the run; its log has the cause")
    return str(returned["output"])
