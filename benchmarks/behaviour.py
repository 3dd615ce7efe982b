"""Records what a change of the code must not change, and compares with such a record.

Use it around a refactoring: record with the old code, change, compare with the new code.

    python benchmarks/behaviour.py record /tmp/before.json
    python benchmarks/behaviour.py compare /tmp/before.json

Recorded are, for each listed net, its layer names, its parameter counts and the logits of the net
from seed 0 on a fixed input; for each recipe, the weights and the history after a run of 20 steps;
and the history of the quickstart. Hashes are of exact bits, so both runs belong on one machine
with the same number of threads.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np

# Each recipe with a net that is small enough, on images made by the program itself.
RECIPES = {
    "digits": ("cifar_resnet8", "digits", 16),
    "he2015-cifar": ("cifar_resnet8", "synthetic", 32),
    "he2015-imagenet": ("resnet18", "synthetic", 32),
    "goyal2017": ("resnet50_v1_5", "synthetic", 32),
}
STEPS = 20
# Columns of history.csv that a clock fills.
CLOCK = {"seconds"}


def digest(arrays: Any) -> str:
    """Returns a SHA-256 of the bits, shapes and types of arrays in their order."""
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def net_record(name: str) -> dict[str, Any]:
    """Returns what is recorded of one net."""
    import keras

    import keras_resnet

    keras.backend.clear_session()
    spec = keras_resnet.get_spec(name)
    size = max(spec.smallest_input, 32)
    model = keras_resnet.build(spec, input_shape=(size, size, spec.input_channels), seed=0)
    images = np.random.default_rng(0).uniform(0, 1, (2, size, size, spec.input_channels))
    names = [layer.name for layer in model.layers]
    return {
        "layers": len(names),
        "layer_names": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
        "trainable": sum(int(np.prod(w.shape)) for w in model.trainable_weights),
        "parameters": model.count_params(),
        "weights": digest(model.get_weights()),
        "logits": digest([np.asarray(model(images.astype("float32"), training=False))]),
    }


def history(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a run's history without what a clock fills."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def run(*words: str) -> None:
    """Runs a command of the application."""
    done = subprocess.run([sys.executable, "-m", "keras_resnet_train", *words], capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr.decode()[-2000:]}")


def run_record(output: pathlib.Path) -> dict[str, Any]:
    """Returns what is recorded of one training run."""
    import keras

    import keras_resnet  # noqa: F401

    model = keras.saving.load_model(output / "model.keras", compile=False)
    return {"weights": digest(model.get_weights()), "history": history(output / "history.csv")}


def record(only: str | None = None) -> dict[str, Any]:
    """Returns the whole record."""
    import keras_resnet

    found: dict[str, Any] = {"nets": {}, "recipes": {}}
    for name in keras_resnet.list_variants():
        if only in (None, "nets"):
            found["nets"][name] = net_record(name)
            print(name, found["nets"][name]["logits"], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for recipe, (net, data, size) in RECIPES.items():
            if only not in (None, "runs"):
                break
            output = pathlib.Path(folder) / recipe
            run(
                "train",
                "--recipe",
                recipe,
                "--model",
                net,
                "--dataset",
                data,
                "--output",
                str(output),
                "--steps",
                str(STEPS),
                "--batch-size",
                "16",
                "--image-size",
                str(size),
                "--set",
                "schedule.warmup_epochs=0",
                "--set",
                "schedule.warmup_steps=2",
                *(
                    ("--set", "data.mean=null", "--set", "data.std=null")
                    if data == "digits"
                    else ()
                ),
            )
            found["recipes"][recipe] = run_record(output)
            print(recipe, found["recipes"][recipe]["weights"], flush=True)
        if only in (None, "runs"):
            output = pathlib.Path(folder) / "quickstart"
            run("quickstart", "--output", str(output))
            found["quickstart"] = run_record(output)
    return found


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Returns the places in which two records differ, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted(before.keys() | after.keys())
            for line in differences(before.get(key), after.get(key), f"{where}/{key}")
        ]
    return [] if before == after else [f"{where}: {before!r} before, {after!r} now"]


def main() -> int:
    """Records, or compares; the exit status is 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--only", choices=("nets", "runs"), help="a part of the record")
    args = parser.parse_args()
    now = record(args.only)
    if args.action == "record":
        args.file.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    before = json.loads(args.file.read_text(encoding="utf-8"))
    if args.only:
        before = {key: before[key] if now.get(key) else {} for key in before}
        now = {key: now.get(key) or {} for key in before}
    found = differences(before, json.loads(json.dumps(now)))
    print("\n".join(found) or f"equal: {len(now['nets'])} nets, {len(now['recipes'])} recipes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
