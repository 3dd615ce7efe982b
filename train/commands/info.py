"""`keras-resnet info`: describe a net and its cost."""

from __future__ import annotations

import argparse
import dataclasses
import json

import keras_resnet
from keras_resnet.analysis import Counts, count

from ..command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a net of `keras-resnet list`")
    parser.add_argument("--input-size", type=int, help="height and width of the input, pixels")
    parser.add_argument("--channels", type=int, help="channels of the input")
    parser.add_argument("--classes", type=int, help="classes of the classifier")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(args: argparse.Namespace) -> int:
    spec = keras_resnet.get_spec(args.model)
    size = spec.input_size if args.input_size is None else args.input_size
    channels = spec.input_channels if args.channels is None else args.channels
    model = keras_resnet.build(spec, classes=args.classes, input_shape=(size, size, channels))
    counts = count(model)
    if args.json:
        print(json.dumps({"spec": spec.to_dict(), "counts": vars(counts), "input_size": size}))
        return 0
    for label, value in _facts(model, counts):
        print(f"{label:<22}{value}")
    return 0


def _facts(model: keras_resnet.ResNet, counts: Counts) -> list[tuple[str, str]]:
    spec = model.spec
    shortcut = "none (plain net)" if spec.merge == "none" else f"option {spec.shortcut}"
    stages = ", ".join(f"{d} x {w}" for d, w in zip(spec.depths, spec.widths, strict=True))
    return [
        ("net", spec.name),
        ("layers", str(counts.layers)),
        ("stages (units x width)", stages),
        ("unit", f"{spec.branch}, {spec.order}-activation, shortcut {shortcut}"),
        ("further", _further(spec)),
        ("stem", spec.stem),
        ("input", " x ".join(map(str, model.inputs[0].shape[1:]))),
        ("smallest input", f"{spec.smallest_input} x {spec.smallest_input}"),
        ("classes", str(model.outputs[0].shape[-1])),
        ("parameters", f"{counts.parameters:,} trainable, {counts.state:,} moving statistics"),
        ("multiply-adds", f"{counts.multiply_adds / 1e9:.3f} x 10^9 per image"),
        ("weights", f"{4 * (counts.parameters + counts.state) / 2**20:.1f} MiB in float32"),
        ("activations", f"{4 * counts.activations / 2**20:.1f} MiB per image in float32"),
    ]


def _further(spec: keras_resnet.ResNetSpec) -> str:
    """Returns the fields not listed elsewhere that differ from their defaults."""
    listed = {
        "name",
        "depths",
        "widths",
        "branch",
        "order",
        "shortcut",
        "stem",
        "classes",
        "input_size",
        "input_channels",
    }
    return (
        ", ".join(
            f"{field.name}={getattr(spec, field.name)!r}"
            for field in dataclasses.fields(spec)
            if field.name not in listed and getattr(spec, field.name) != field.default
        )
        or "nothing"
    )


COMMAND = Command(_add_arguments, _run)
