"""Trains a CIFAR net by several recipes, here and in PyTorch with timm, and compares accuracies.

Both sides see the same images, rates, batch size, decay and strength of augmentation; seeds differ
in initial weights, order and augmentation. PyTorch's side is `benchmarks/recipes_torch.py`.

    python benchmarks/recipes.py --dataset cifar10_sample --data-dir DIR --epochs 20 --seeds 3 \
        --torch PYTHON --output saved_models/recipe_check

Without `--torch` (a Python with torch and timm) only this package trains. Trainings that are in the
output directory already are not repeated. The table is printed, and written as `table.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from keras_resnet import get_spec
from keras_resnet_train.config import RunConfig
from keras_resnet_train.recipes import get_recipe

NET = "cifar_resnet20"

_STRONG = {
    "augment.policy": "rand",
    "augment.policy_magnitude": 7,
    "augment.mixup": 0.2,
    "augment.cutmix": 1.0,
}

CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "he2015-cifar": ("he2015-cifar", {}),
    "he2015-cifar, mixup, cutmix, RandAugment": ("he2015-cifar", _STRONG),
    "fast-cifar": ("fast-cifar", {}),
}
"""Recipe and changes of each case."""


def main() -> None:
    """Runs the trainings and prints the table."""
    args = _arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, str], list[float]] = {}
    for case in args.cases or CASES:
        for seed in range(args.seeds):
            config = _config(case, args, seed)
            folder = args.output / case.replace(", ", "_")
            folder.mkdir(exist_ok=True)
            rows.setdefault((case, "keras_resnet"), []).append(
                _ours(config, folder / f"ours{seed}")
            )
            if args.torch:
                accuracy = _torch(config, folder / f"torch{seed}", args.torch)
                rows.setdefault((case, "PyTorch and timm"), []).append(accuracy)
            (args.output / "table.md").write_text(_table(rows), encoding="utf-8", newline="\n")
            print(_table(rows), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="cifar10_jpeg", help="a TFDS data set")
    parser.add_argument("--data-dir", help="directory of TFDS data sets")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--torch", help="a Python with torch and timm")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), help="all by default")
    parser.add_argument("--output", type=Path, default=Path("saved_models/recipe_check"))
    return parser.parse_args()


def _config(case: str, args: argparse.Namespace, seed: int) -> RunConfig:
    recipe, changes = CASES[case]
    data = {"data.dataset": args.dataset, "data.data_dir": args.data_dir}
    length = {"epochs": args.epochs, "seed": seed}
    return get_recipe(recipe).configure(NET, {**data, **length, **changes})


def _ours(config: RunConfig, output: Path) -> float:
    """Trains with this package; returns the test accuracy."""
    file = output.with_suffix(".json")
    file.write_text(config.to_json(), encoding="utf-8", newline="\n")
    command = [sys.executable, "-m", "keras_resnet_train", "train"]
    subprocess.run([*command, "--config", str(file), "--output", str(output)], check=True)
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    return float(metrics["test"]["accuracy"])


def _torch(config: RunConfig, output: Path, python: str) -> float:
    """Trains with PyTorch and timm; returns the test accuracy."""
    result = output.with_suffix(".result.json")
    if result.is_file():
        return float(json.loads(result.read_text(encoding="utf-8"))["accuracy"])
    data, settings = output.with_suffix(".npz"), output.with_suffix(".settings.json")
    _write_torch_input(config, data, settings)
    script = str(Path(__file__).with_name("recipes_torch.py"))
    done = subprocess.run(
        [python, script, str(data), str(settings)], check=True, stdout=subprocess.PIPE, text=True
    )
    data.unlink()
    line = done.stdout.splitlines()[-1]
    result.write_text(line + "\n", encoding="utf-8", newline="\n")
    return float(json.loads(line)["accuracy"])


def _write_torch_input(config: RunConfig, data_file: Path, settings_file: Path) -> None:
    """Writes the images, and the configuration in figures that need no code of this package."""
    from keras_resnet_train.data import raw_images, resolve_data
    from keras_resnet_train.length import length_of
    from keras_resnet_train.schedules import make_schedule

    spec = get_spec(config.model.name)
    data, preprocess = resolve_data(config, spec)
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        images, labels = raw_images(data.split(split), preprocess, data.channels)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(data_file, **arrays)  # type: ignore[arg-type]
    length = length_of(config, len(data.train))
    schedule = make_schedule(
        config.schedule, total_steps=length.steps, steps_per_epoch=length.steps_per_epoch
    )
    augment, optimizer = config.augment, config.optimizer
    magnitude = getattr(augment, "policy_magnitude", None)
    policy = getattr(augment, "policy", "none")
    settings = {
        "seed": config.seed,
        "depths": spec.depths,
        "batch_size": config.batch_size,
        "rates": [float(schedule(step)) for step in range(length.steps)],
        "momentum": optimizer.momentum,
        "nesterov": optimizer.nesterov,
        "weight_decay": optimizer.weight_decay,
        "label_smoothing": optimizer.label_smoothing,
        "pad": augment.pad,
        "mixup": augment.mixup,
        "cutmix": augment.cutmix,
        "rand_augment": f"rand-m{magnitude:g}-mstd0.5-inc1" if policy == "rand" else None,
        "mean": preprocess.mean,
        "std": preprocess.std,
    }
    settings_file.write_text(json.dumps(settings), encoding="utf-8", newline="\n")


def _table(rows: Mapping[tuple[str, str], list[float]]) -> str:
    lines = ["| recipe | trained by | test accuracy of each seed, % | mean | deviation |"]
    lines.append("| --- | --- | --- | ---: | ---: |")
    for (case, by), values in rows.items():
        percent = 100 * np.asarray(values)
        spread = f"{percent.std(ddof=1):.2f}" if len(values) > 1 else ""
        each = ", ".join(f"{value:.2f}" for value in percent)
        lines.append(f"| {case} | {by} | {each} | {percent.mean():.2f} | {spread} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
