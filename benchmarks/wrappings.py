"""One file of each wrapping that published nets come in, loaded and compared with a reference.

    python benchmarks/wrappings.py [--output wrappings.csv] [--certificates FOLDER]

A small net with random weights is written as each program would write it and read by
`from_pretrained`. Its logits (or pooled features, where there is no classifier) are compared with
an evaluation of the unwrapped tensors in NumPy and float64, which shares no code with the reader.
The tests use the same table (tests/keras_resnet/test_reports.py).
"""

from __future__ import annotations

import argparse
import csv
import os
import pickle
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_resnet import ResNetSpec, build, from_pretrained
from keras_resnet.weights.certificate import Certificate, certify, source_of
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.resolve import open_weights
from keras_resnet.weights.transfer import dump_tensors

Tensors = dict[str, np.ndarray]
SPEC = ResNetSpec(
    "small", (2, 1), (8, 16), "bottleneck", stride_placement="3x3", classes=3, input_size=32
)


class Wrapping(NamedTuple):
    """A way in which programs keep a net.

    Attributes:
        wrap: From tensors in torchvision's names to what the program saves.
        prefix: The prefix under which the net is found.
        choose: `prefix=`, where there are several nets.
        classifier: Whether the classifier is the net's.
        layout: The layout of the tensors that `wrap` takes.
        left_out: What is counted beside the net.
    """

    wrap: Callable[[Tensors], Mapping[str, Any]]
    prefix: str = ""
    choose: str | None = None
    classifier: bool = True
    layout: str = "torchvision"
    left_out: Mapping[str, int] = MappingProxyType({})


def under(prefix: str, tensors: Tensors) -> Tensors:
    """Returns tensors with a prefix."""
    return {f"{prefix}{name}": array for name, array in tensors.items()}


_CLASSIFIERS = ("fc.", "classifier.")


def body(tensors: Tensors) -> Tensors:
    """Returns tensors without the classifier."""
    return {name: array for name, array in tensors.items() if not name.startswith(_CLASSIFIERS)}


def numbers(tensors: Tensors) -> Tensors:
    """Returns tensors with the names of `Sequential(*net.children())`."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "fc": 9}
    return {
        re.sub(r"^\w+", lambda match: str(places[match[0]]), name): array
        for name, array in tensors.items()
    }


def detectron2(tensors: Tensors) -> Tensors:
    """Returns tensors with detectron2's names."""
    renamed = {}
    for name, array in body(tensors).items():
        new = re.sub(r"layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
        new = re.sub(r"bn(\d)", r"conv\1.norm", new)
        new = new.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        renamed[f"stem.{new}" if new.startswith("conv1") else new] = array
    return renamed


ONE = np.ones((3, 3), "float32")
_HEAD = {"0.weight": ONE, "0.bias": ONE[0], "3.weight": ONE}
WRAPPINGS: dict[str, Wrapping] = {
    "torchvision": Wrapping(dict),
    "DataParallel": Wrapping(lambda t: under("module.", t), "module."),
    "torch.compile": Wrapping(lambda t: under("_orig_mod.", t), "_orig_mod."),
    "DataParallel of a compiled net": Wrapping(
        lambda t: {"state_dict": under("module._orig_mod.", t), "epoch": 3},
        "state_dict.module._orig_mod.",
    ),
    "Lightning": Wrapping(
        lambda t: {
            "state_dict": under("model.", t),
            "hyper_parameters": {"lr": 0.1},
            "pytorch-lightning_version": "2.5.0",
        },
        "state_dict.model.",
    ),
    "MoCo, query": Wrapping(
        lambda t: {
            "arch": "resnet50",
            "state_dict": {
                **under("module.encoder_q.", body(t) | under("fc.", _HEAD)),
                **under("module.encoder_k.", body(t) | under("fc.", _HEAD)),
                "module.queue": ONE,
            },
        },
        "state_dict.module.encoder_q.",
        choose="state_dict.module.encoder_q",
        classifier=False,
    ),
    "SimSiam": Wrapping(
        lambda t: (
            under("module.encoder.", body(t) | under("fc.", _HEAD))
            | under("module.predictor.", _HEAD)
        ),
        "module.encoder.",
        classifier=False,
        left_out={"module.predictor": 3},
    ),
    "SimCLR": Wrapping(
        lambda t: under("backbone.", body(t)) | under("projector.", _HEAD),
        "backbone.",
        classifier=False,
        left_out={"projector": 3},
    ),
    "SimCLR of children": Wrapping(
        lambda t: under("f.", numbers(body(t))) | under("g.", _HEAD),
        "f.",
        classifier=False,
        left_out={"g": 3},
    ),
    "BYOL, online": Wrapping(
        lambda t: (
            under("online_network.encoder.", body(t)) | under("target_network.encoder.", body(t))
        ),
        "online_network.encoder.",
        choose="online_network",
        classifier=False,
        left_out={"target_network": 72},
    ),
    "DINO, teacher": Wrapping(
        lambda t: {
            "student": under("module.backbone.", body(t)) | under("module.head.mlp.", _HEAD),
            "teacher": under("backbone.", body(t)) | under("head.mlp.", _HEAD),
        },
        "teacher.backbone.",
        choose="teacher",
        classifier=False,
    ),
    "SwAV": Wrapping(
        lambda t: under(
            "module.", body(t) | under("projection_head.", _HEAD) | {"prototypes.weight": ONE}
        ),
        "module.",
        classifier=False,
    ),
    "Barlow Twins": Wrapping(body, classifier=False),
    "mmpretrain": Wrapping(
        lambda t: {
            "meta": {"epoch": 100},
            "state_dict": under("backbone.", body(t))
            | {f"head.{name}": array for name, array in t.items() if name.startswith("fc.")},
        },
        "state_dict.backbone.",
    ),
    "torchvision detection": Wrapping(
        lambda t: (
            under("backbone.body.", body(t))
            | under("backbone.fpn.inner_blocks.", _HEAD)
            | under("rpn.head.conv.", _HEAD)
        ),
        "backbone.body.",
        classifier=False,
        left_out={"backbone.fpn": 3, "rpn": 3},
    ),
    "DETR": Wrapping(
        lambda t: {"model": under("backbone.0.body.", body(t)) | under("class_embed.", _HEAD)},
        "model.backbone.0.body.",
        classifier=False,
        left_out={"model.class_embed": 3},
    ),
    "detectron2": Wrapping(
        lambda t: {"model": under("backbone.bottom_up.", detectron2(t))},
        "model.backbone.bottom_up.",
        classifier=False,
    ),
    "Sequential of children": Wrapping(numbers),
    "transformers' ResNetModel": Wrapping(
        lambda t: {name.removeprefix("resnet."): array for name, array in body(t).items()},
        layout="hf",
        classifier=False,
    ),
    "transformers' backbone": Wrapping(
        lambda t: {
            f"model.backbone.{name.removeprefix('resnet.')}": array
            for name, array in body(t).items()
        },
        "model.backbone.",
        layout="hf",
        classifier=False,
    ),
    "EMA with a counter": Wrapping(
        lambda t: {"ema": under("module.", t) | {"updates": np.asarray(7)}},
        "ema.module.",
        left_out={"ema.updates": 1},
    ),
    "timm's EMA": Wrapping(
        lambda t: {"state_dict": t, "state_dict_ema": dict(t)},
        "state_dict_ema.",
        "state_dict_ema",
    ),
    "SWA": Wrapping(
        lambda t: under("module.", t) | {"n_averaged": np.asarray(3)},
        "module.",
        left_out={"n_averaged": 1},
    ),
    "outer key net": Wrapping(lambda t: {"net": t, "acc": 91.0, "epoch": 3}, "net."),
    "outer key weights": Wrapping(lambda t: {"weights": t}, "weights."),
    "outer key model_state_dict": Wrapping(
        lambda t: {"model_state_dict": t, "optimizer": {"state": {0: {"momentum": ONE}}}},
        "model_state_dict.",
        left_out={"optimizer": 1},
    ),
    "a user's head": Wrapping(lambda t: body(t) | under("fc.", _HEAD), classifier=False),
}


def write(path: Path, values: Mapping[str, Any]) -> Path:
    """Writes a checkpoint in PyTorch's form; its arrays are NumPy's, so PyTorch is not needed."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(dict(values), protocol=2))
    return path


def tensors_of(wrapping: Wrapping, model: Any) -> Tensors:
    """Returns the tensors of the small net that a wrapping takes, without the classifier if so."""
    tensors = dump_tensors(model, LAYOUTS[wrapping.layout])  # type: ignore[index]
    return tensors if wrapping.classifier else body(tensors)


def random_net() -> Any:
    """Returns the small net with random weights and statistics."""
    model, rng = build(SPEC), np.random.default_rng(0)

    def values(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)

    model.set_weights([values(tuple(each.shape)) for each in model.weights])
    return model


def certificate(wrapping: Wrapping, model: Any, folder: Path) -> tuple[str, Certificate]:
    """Writes a wrapped file, reads it and compares; returns the prefix that was found too."""
    path = write(folder / "net.pth", wrapping.wrap(dump_tensors(model, LAYOUTS[wrapping.layout])))  # type: ignore[index]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left out and assumed
        opened = open_weights(path, prefix=wrapping.choose)
        form: dict[str, Any] = {"input_shape": (32, 32, 3)}
        if not wrapping.classifier:
            form |= {"include_top": False, "pooling": "avg"}
        net = from_pretrained(opened, **form)
    tensors = tensors_of(wrapping, model)
    return opened.prefix, certify(net, tensors, opened.layout, source=source_of(opened))


def main() -> int:
    """Compares all wrappings and prints a table; returns 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="a CSV file to write")
    parser.add_argument("--certificates", type=Path, help="a folder for the certificates")
    args = parser.parse_args()
    model = random_net()
    rows = []
    print(f"{'wrapping':32}{'prefix':34}{'difference':>11}{'largest':>9}  result")
    for name, wrapping in WRAPPINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            prefix, found = certificate(wrapping, model, Path(folder))
        if args.certificates:
            args.certificates.mkdir(parents=True, exist_ok=True)
            file = args.certificates / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
            file.write_text(found.to_json(), encoding="utf-8")
        row = (name, prefix, found.max_difference, found.max_logit, found.holds)
        rows.append((*row, len(found.assumed)))
        result = "equal" if found.holds else "DIFFERS: no certificate"
        if found.holds and found.assumed:
            result = f"equal; the certificate states {len(found.assumed)} assumed fields"
        print(f"{name:32}{prefix:34}{row[2]:11.1e}{row[3]:9.2f}  {result}", flush=True)
    if args.output:
        with args.output.open("w", newline="", encoding="utf-8") as file:
            names = ("wrapping", "prefix", "max_difference", "max_logit", "equal", "assumed")
            csv.writer(file, lineterminator="\n").writerows([names, *rows])
    return 0 if all(row[4] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
