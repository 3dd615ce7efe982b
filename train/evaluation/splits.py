"""The figures of a run's splits, for its files and for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .classify import Evaluation
from .confusion import DENSE_UP_TO
from .multilabel import MultilabelEvaluation

Evaluated = Mapping[str, Evaluation | MultilabelEvaluation]


def split_metrics(evaluated: Evaluated) -> dict[str, dict[str, Any]]:
    """Returns the JSON-ready metrics of each split.

    Where images may have several labels, the thresholds of the classes are chosen on the validation
    images and applied to all splits; they are 1/2 where no images are held out.

    Args:
        evaluated: The evaluation of each split.
    """
    held_out = evaluated.get("validation")
    thresholds = held_out.thresholds() if isinstance(held_out, MultilabelEvaluation) else None
    return {
        split: each.to_dict(thresholds)
        if isinstance(each, MultilabelEvaluation)
        else each.to_dict()
        for split, each in evaluated.items()
    }


def save_confusions(evaluated: Evaluated, folder: Path) -> None:
    """Writes `confusion_<split>.npz` of each split where `metrics.json` does not hold all counts.

    Args:
        evaluated: The evaluation of each split.
        folder: The run's directory.
    """
    for split, each in evaluated.items():
        if isinstance(each, Evaluation) and each.counts.classes > DENSE_UP_TO:
            each.counts.save(folder / f"confusion_{split}.npz")


def describe_metrics(values: Mapping[str, Any]) -> str:
    """Returns the figures of a split in one line.

    Args:
        values: The metrics, as `split_metrics` returns them.
    """
    rest = f"loss {values['loss']:.4f}, {values['examples']} images"
    if "mean_average_precision" in values:
        return (
            f"mean average precision {values['mean_average_precision']:.4f}, F1 "
            f"{values['micro_f1']:.4f} (micro) and {values['macro_f1']:.4f} (macro), {rest}"
        )
    low, high = values["accuracy_interval"]
    interval = f"(95 % interval {low:.4f} to {high:.4f})"
    return f"accuracy {values['accuracy']:.4f} {interval}, {rest}"
