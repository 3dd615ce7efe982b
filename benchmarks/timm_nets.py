"""Every residual net of an installed timm: read equal to it, refused with a cause, or wrong.

    python benchmarks/timm_nets.py [--only 'resnetv2_*'] [--output timm_nets.csv]

Each net is made by timm with random weights and statistics and written as timm writes it, as
`model.safetensors` beside `config.json`. The logits of the net that `from_pretrained` makes of the
folder are compared with timm's. Needs PyTorch, timm and safetensors. The exit status is 1 if a net
is read as another function.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

# Modules of timm whose nets are residual nets or come close to them.
MODULES = ("resnet", "resnetv2", "resnest", "res2net", "sknet")
LIMIT = 1e-4  # of the largest logit; above it, ten times the error of timm's own float32


class Row(NamedTuple):
    """The result for one net."""

    net: str
    result: str
    error: float | None
    cause: str
    seconds: float


def main() -> int:
    """Compares the nets; returns 1 if one is read as another function."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="pattern of the names")
    parser.add_argument("--size", type=int, default=96, help="height and width of the images")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    args = parser.parse_args()
    import timm

    names = [name for module in MODULES for name in timm.list_models(module=module)]
    names = fnmatch.filter(sorted(set(names)), args.only)
    rows: list[Row] = []
    for number, name in enumerate(names, start=1):
        rows.append(_compare(name, args.size))
        error = "" if rows[-1].error is None else f"{rows[-1].error:.1e}"
        words = (f"{number}/{len(names)}", name, rows[-1].result, error, rows[-1].cause)
        print(*(word for word in words if word), f"({rows[-1].seconds:.0f} s)", flush=True)
        if args.output:
            _write(args.output, rows)
    counts = {kind: sum(row.result == kind for row in rows) for kind in ("right", "refused")}
    wrong = [row.net for row in rows if row.result == "wrong"]
    print(
        f"timm {timm.__version__}: {counts['right']} right, {counts['refused']} refused, "
        f"{len(wrong)} wrong {' '.join(wrong)}".rstrip()
    )
    return 1 if wrong else 0


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Row._fields[:-1])
        table.writerows(row[:-1] for row in rows)


def _compare(name: str, size: int) -> Row:
    """Reads one net of timm and compares the logits."""
    import keras
    import timm
    import torch

    from keras_resnet import from_pretrained

    started = time.process_time()
    torch.manual_seed(0)
    try:
        model = timm.create_model(name, pretrained=False, num_classes=10).eval()
    except Exception as error:
        return Row(name, "not made by timm", None, str(error)[:80], 0.0)
    _randomize(model)
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    with torch.no_grad():
        wanted = model(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _save(model, name, folder)
        try:
            ours = from_pretrained(folder, input_shape=(size, size, 3))
        except (ValueError, KeyError) as error:
            cause = str(error).replace(folder, "FOLDER").splitlines()[0]
            return Row(name, "refused", None, cause, time.process_time() - started)
    got = keras.ops.convert_to_numpy(ours(images))
    keras.backend.clear_session()
    difference = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    limit, cause = LIMIT, ""
    if difference >= LIMIT:  # deep nets with random weights amplify rounding
        with torch.no_grad():
            exact = model.double()(torch.from_numpy(images.transpose(0, 3, 1, 2)).double()).numpy()
        rounding = float(np.abs(exact - wanted).max() / np.abs(wanted).max())
        limit, cause = 10 * rounding, f"timm's own float32 differs from float64 by {rounding:.1e}"
    result = "right" if difference < limit else "wrong"
    return Row(name, result, difference, cause, time.process_time() - started)


def _randomize(model: Any) -> None:
    """Gives norms statistics and scales that show where a norm is, or another epsilon."""
    import torch

    for module in model.modules():
        if hasattr(module, "running_var") and module.running_var is not None:
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 1:
            with torch.no_grad():
                weight.uniform_(0.5, 1.0)


def _save(model: Any, name: str, folder: str) -> None:
    from safetensors.torch import save_file

    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, os.path.join(folder, "model.safetensors"))
    stated = {
        "architecture": name,
        "num_classes": 10,
        "pretrained_cfg": {**model.pretrained_cfg, "num_classes": 10},
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(stated, file, default=str)


if __name__ == "__main__":
    sys.exit(main())
