"""Pruning of runs: a smaller net with their weights, as a run, and its fine-tuning."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

import keras_resnet
from keras_resnet.analysis import count
from keras_resnet.nets.geometry import inner_widths

from .batch_norm_statistics import recompute_batch_norm, statistics_batches
from .command import split_images
from .config import RunConfig, with_changes
from .data import ImageData
from .evaluation import Member, make_view, measure
from .files import read_json, write_json, write_text
from .remote.mirror import Mirror
from .rundir import Run, RunDirectory
from .session import run_training

RECORD = "prune.json"
# Files of a run that describe its data.
_OF_DATA = ("dataset.json", "labels.txt", "data_files.csv.gz")
# Fine-tuning is a quarter of the training, at a tenth of its rate.
_LENGTH, _RATE = 0.25, 0.1
# Training images that the batch-norm statistics of a pruned net are measured on.
_STATISTICS = 1024


@dataclasses.dataclass(frozen=True)
class Pruning:
    """How a run is pruned.

    Attributes:
        macs: Share of the multiply-adds to keep, above 0 and below 1.
        method: What is removed: `channels` inside units, whole units (`depth`), or `both`.
        criterion: How channels are judged; see `keras_resnet.pruning.channel_importance`.
        images: Number of held-out images that units are judged on.
    """

    macs: float = 0.5
    method: Literal["depth", "channels", "both"] = "channels"
    criterion: Literal["norm", "l1"] = "norm"
    images: int = 512


def prune_run(
    run: Run,
    output: Path,
    pruning: Pruning,
    *,
    data: ImageData,
    say: Callable[[str], None],
    name: str | None = None,
) -> dict[str, Any]:
    """Writes the pruned net of a run as a run of its own, which is not fine-tuned.

    Its batch-norm statistics are measured anew, as those of the whole net do not fit (Li et al.
    2020, arXiv:2007.02491, "adaptive batch normalization").

    Args:
        run: The trained run.
        output: Directory of the pruned run. One that was pruned in the same way is kept.
        pruning: How it is pruned.
        data: The data of the run, at the net's size.
        say: Is called with each step.
        name: Where the run is, if its directory is a copy.

    Returns:
        The content of `prune.json`: what was asked for, and multiply-adds, parameters, shape and
        accuracy before and after.

    Raises:
        ValueError: If the net cannot be pruned so, or `output` holds something else.
    """
    asked = {"run": name or str(run.directory.path.resolve()), **dataclasses.asdict(pruning)}
    if (output / RECORD).is_file():
        kept = dict(read_json(output / RECORD))
        if kept.get("asked") == asked:
            say(f"{output} holds this pruned net already")
            return kept
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} holds other files than this pruned net. Choose another --output"
        )
    images, labels = None, None
    if pruning.method != "channels":
        images, labels = _judged_on(run, data, pruning.images, say)
    say(f"Pruning {run.spec.name} to {pruning.macs:g} of its multiply-adds ({pruning.method})")
    small = keras_resnet.prune(
        run.model,
        pruning.macs,
        method=pruning.method,
        images=images,
        labels=labels,
        criterion=pruning.criterion,
    )
    measured = 0
    if small.spec.norm == "batch":
        batches = statistics_batches(run.config, data, run.preprocess, _STATISTICS)
        measured = recompute_batch_norm(small, batches)
        say(f"Batch-norm statistics measured anew on {measured:,} training images")
    split = "test" if data.test is not None else "validation"
    say(f"Measuring both nets on the {split} split")
    record = {
        "asked": asked,
        "split": split,
        "statistics_images": measured,
        "spec": {
            field: list(value)
            for field in ("depths", "inner_widths")
            if (value := getattr(small.spec, field)) is not None
        },
        "before": _figures(run, run.model, data, split),
        "pruned": _figures(run, small, data, split),
    }
    _write(run, small, output, record)
    return record


def finetuned_config(
    run: Run, pruned: Path, changes: Mapping[str, Any], name: str | None = None
) -> RunConfig:
    """Returns the configuration that fine-tunes a pruned run.

    It is the run's own with a quarter of its length, a tenth of its rate and cosine decay, all
    layers trained.

    Args:
        run: The run before it was pruned.
        pruned: The directory of the pruned run.
        changes: Dotted fields that the user sets; `epochs` or `steps` replace the length.
        name: Where the pruned run is, if its directory is a copy.
    """
    config = run.config
    length: dict[str, Any] = {"epochs": None, "steps": None}
    if config.epochs is not None:
        length["epochs"] = max(1.0, _LENGTH * config.epochs)
    else:
        length["steps"] = max(1, round(_LENGTH * (config.steps or 0)))
    if changes.get("epochs") is not None or changes.get("steps") is not None:
        length = {"epochs": None, "steps": None}
    spec = {**config.model.spec, **read_json(pruned / RECORD)["spec"]}
    return with_changes(
        config,
        {
            "model.weights": name or str(pruned),
            "model.spec": spec,
            "model.freeze": None,
            "head_epochs": 0.0,
            "optimizer.head_factor": 1.0,
            "schedule.kind": "cosine",
            "schedule.learning_rate": _RATE * config.schedule.learning_rate,
            "schedule.warmup_steps": 0,
            "schedule.warmup_epochs": 0.0,
            **length,
            **changes,
        },
    )


def finetune_pruned(
    config: RunConfig, output: Path, record: Mapping[str, Any], mirror: Mirror | None = None
) -> tuple[RunDirectory, dict[str, Any]]:
    """Fine-tunes a pruned run, or resumes it, and adds what came out to the record."""
    directory = run_training(config, output, mirror=mirror)
    values = directory.metrics.get(record["split"], {})
    tuned = {**record["pruned"], "accuracy": values.get("accuracy"), "loss": values.get("loss")}
    full = {**record, "finetuned": tuned}
    write_json(output / RECORD, full)
    return directory, full


def _judged_on(
    run: Run, data: ImageData, limit: int, say: Callable[[str], None]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns normalised images and labels of the validation split, or of the training images."""
    if run.config.data.task == "multilabel":
        say("Units are judged by their norms, as images have several labels")
        return None, None
    split = "train" if data.validation is None else "validation"
    images, labels = split_images(run, data, split, limit)
    say(f"Units are judged by the loss without them on {len(images)} images ({split} split)")
    return run.preprocess.normalize(images), labels.astype("int64")


def _figures(run: Run, model: Any, data: ImageData, split: Any) -> dict[str, Any]:
    counts = count(model)
    member = Member(
        str(run.directory.path), model.spec, run.preprocess, model, "", run.class_names, run
    )
    found = {}
    if run.config.data.task != "multilabel":
        view = make_view("center", run.preprocess, model.spec)
        evaluation = measure([(member, view)], data.split(split)).evaluation
        found = evaluation.to_dict() | {"confusion": None}
    return {
        "multiply_adds": counts.multiply_adds,
        "parameters": counts.parameters,
        "depths": list(model.spec.depths),
        "inner_widths": list(inner_widths(model.spec)),
        "accuracy": found.get("accuracy"),
        "loss": found.get("loss"),
    }


def _write(run: Run, small: Any, output: Path, record: Mapping[str, Any]) -> None:
    """Writes a pruned net as a run, which appears whole or not at all."""
    spec = {**run.config.model.spec, **record["spec"]}
    config = with_changes(run.config, {"model.spec": spec, "model.freeze": None})
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{output.name}.tmp", dir=output.parent))
    try:
        for name in _OF_DATA:
            if (run.directory.path / name).is_file():
                shutil.copy(run.directory.path / name, staging / name)
        write_text(staging / "config.json", config.to_json())
        write_json(staging / RECORD, record)
        directory = RunDirectory(staging)
        small.preprocess = run.preprocess
        directory.write_model(small)
        staging.chmod(0o755)
        if output.is_dir():
            output.rmdir()
        staging.rename(output)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
