"""What tells the data of a run: the content of `dataset.json`, and what has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet import PreprocessSpec

from .data import ImageData


def data_facts(data: ImageData, preprocess: PreprocessSpec) -> dict[str, Any]:
    """Returns what tells two data sets apart, wherever they lie: the record and the files."""
    facts = dataset_record(data, preprocess)
    del facts["path"], facts["notes"]
    if data.listing is not None:
        del facts["name"]
        facts["files"] = hashlib.sha256(data.listing.to_bytes()).hexdigest()
    return facts


def dataset_record(data: ImageData, preprocess: PreprocessSpec) -> dict[str, Any]:
    """Returns the content of `dataset.json`."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "name": data.name,
        "class_names": list(data.class_names),
        "channels": data.channels,
        "examples": {key: len(part) for key, part in parts.items() if part is not None},
        "preprocessing": preprocess.to_dict(),
        "notes": list(data.notes),
        "task": data.task,
        "identity": data.identity,
        "path": data.path,
    }


def changes(before: Mapping[str, Any], data: ImageData, preprocess: PreprocessSpec) -> list[str]:
    """Returns how data differs from what a run stored of it, one text for each difference.

    Files are compared by name, label and content, data sets of TFDS by name and version. Runs of
    earlier versions stored the number of examples only.

    Args:
        before: Content of `dataset.json`.
        data: The data now.
        preprocess: Its preprocessing.
    """
    now = dataset_record(data, preprocess)
    keys = ["class_names", "channels", "examples", "preprocessing"]
    keys += [key for key in ("task", "identity") if key in before]
    if "identity" not in before and not (data.listing or Path(data.name).is_dir()):
        keys.append("name")
    changed = [
        f"{key}: {before.get(key)} then, {now[key]} now"
        for key in keys
        if before.get(key) != now[key]
    ]
    return [*changed, *data.changes]
