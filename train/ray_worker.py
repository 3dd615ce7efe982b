"""What each worker of Ray Train does; imports nothing heavy before the environment is set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def train_on_worker(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Trains as one worker of Ray Train; what `ray_trainer` runs on each.

    Args:
        settings: `config` (JSON), `output`, `resume`, and `directory`, to which relative paths of
            data refer.

    Returns:
        `{"output": ...}`, or `{"error": ..., "status": ...}` after an error that a restart does
        not mend. Ray gives that of worker 0 to `check_result`.

    Raises:
        PeerLostError: If another worker was lost; Ray then starts all of them again.
    """
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # Ray sets it, for programs that use `tf.keras`
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if Path(settings["directory"]).is_dir():
        os.chdir(settings["directory"])

    from .config import RunConfig, from_dict
    from .errors import DIVERGED, FAILED, TrainingDivergedError
    from .ray_reports import RayReports
    from .remote.mirror import run_output
    from .rundir import RunDirectory
    from .session import train_and_report
    from .strategies import is_chief, task_index

    config = from_dict(RunConfig, json.loads(settings["config"]), "the configuration")
    try:
        with run_output(settings["output"], worker=task_index()) as (output, mirror):
            assert output is not None
            reports = RayReports(RunDirectory(output), chief=is_chief("multi-worker"))
            train_and_report(
                config, output, resume=settings["resume"], callbacks=[reports], mirror=mirror
            )
            reports.report_model()
    except TrainingDivergedError as error:
        return {"error": str(error), "status": DIVERGED}
    except (ValueError, TypeError, FileNotFoundError, ModuleNotFoundError) as error:
        return {"error": str(error), "status": FAILED}
    return {"output": settings["output"]}
