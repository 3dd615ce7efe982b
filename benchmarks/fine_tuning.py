"""Fine-tuning beside training from random weights, on the same images for the same steps.

CIFAR-10 images are labelled anew, in two and in four superclasses; a CIFAR ResNet-20 trained on the
ten classes is fine-tuned on a few of them with the recipe `finetune`. The other contender starts
from random weights, with the same steps, batches, augmentation and schedule, and the rate 0.1 of He
et al. 2015 for all layers. The pre-training has seen the training images, with other labels, and
not the test images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Class numbers of CIFAR-10: airplane 0, automobile 1, bird 2, cat 3, deer 4, dog 5, frog 6,
# horse 7, ship 8, truck 9.
TASKS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "2 superclasses": {"animal": (2, 3, 4, 5, 6, 7), "vehicle": (0, 1, 8, 9)},
    "4 superclasses": {
        "air_or_water": (0, 8),
        "road": (1, 9),
        "pet": (3, 5),
        "wild_animal": (2, 4, 6, 7),
    },
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way to train, with the accuracies of its runs.

    Attributes:
        name: The way.
        accuracies: Test accuracy of each seed.
    """

    name: str
    accuracies: tuple[float, ...]

    def __str__(self) -> str:
        spread = statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0
        return f"{100 * statistics.mean(self.accuracies):.2f} +- {100 * spread:.2f} %"


def write_task(
    images: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Mapping[str, tuple[int, ...]],
    folder: Path,
) -> None:
    """Writes images under new labels, as `SPLIT/CLASS/NUMBER.png`.

    Args:
        images: uint8 images by split.
        labels: Their old labels.
        classes: The old labels of each new class.
        folder: Directory to write to; what is there is kept.
    """
    from PIL import Image

    for split, pixels in images.items():
        for name, old in classes.items():
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in np.flatnonzero(np.isin(labels[split], old)):
                Image.fromarray(pixels[number]).save(place / f"{number:05d}.png")


def compare(
    weights: str, dataset: str, data_dir: str | None, output: Path, *, images: int, seeds: int
) -> dict[str, list[Contender]]:
    """Trains both contenders on each task; a run that is there already is not trained again.

    Args:
        weights: The weights, as `--weights` takes them.
        dataset: The TFDS data set.
        data_dir: Its directory.
        output: Directory of the images, the runs and `fine_tuning.json`.
        images: Number of training images.
        seeds: Number of runs of each contender.
    """
    import tensorflow_datasets as tfds

    splits: Any = {
        split: tfds.load(dataset, split=name, data_dir=data_dir, batch_size=-1, download=False)
        for split, name in (("train", f"train[:{images}]"), ("test", "test"))
    }
    pixels = {split: np.asarray(part["image"]) for split, part in splits.items()}
    labels = {split: np.asarray(part["label"]) for split, part in splits.items()}
    results: dict[str, list[Contender]] = {}
    for task, classes in TASKS.items():
        folder = output / task.replace(" ", "_")
        write_task(pixels, labels, classes, folder / "images")
        results[task] = [
            Contender(name, tuple(_accuracy(name, weights, folder, seed) for seed in range(seeds)))
            for name in ("fine-tuned", "random weights")
        ]
        print(f"{task}: " + "; ".join(f"{each.name} {each}" for each in results[task]), flush=True)
    record = {
        task: {each.name: each.accuracies for each in found} for task, found in results.items()
    }
    (output / "fine_tuning.json").write_text(json.dumps(record, indent=2) + "\n")
    return results


def _accuracy(name: str, weights: str, folder: Path, seed: int) -> float:
    """Trains one run and returns its test accuracy."""
    import keras

    from keras_resnet_train.config import with_changes
    from keras_resnet_train.finetuning import finetuning
    from keras_resnet_train.session import run_training

    path = folder / f"{name.replace(' ', '_')}-{seed}"
    changes = {
        "model.weights": weights,
        "data.dataset": str(folder / "images"),
        "seed": seed,
        "checkpoint.every_steps": 0,
    }
    config = finetuning("auto", None, changes, path if name == "fine-tuned" else None)
    if name != "fine-tuned":
        scratch = {"model.weights": None, "optimizer.head_factor": 1.0, "recipe": "custom"}
        config = with_changes(config, {**scratch, "schedule.learning_rate": 0.1})
    with contextlib.redirect_stdout(io.StringIO()):
        directory = run_training(config, path)
    keras.backend.clear_session()
    return float(directory.metrics["test"]["accuracy"])
