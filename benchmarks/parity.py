"""Logits of other libraries' nets and of ours with the same random weights.

    python benchmarks/parity.py [--output parity.csv] [--only torchvision]

Each net that torchvision, timm, transformers, KerasHub and keras.applications share with this
package is built by that library with random weights and random batch-norm statistics, recognised
by its tensors, loaded, and run at an even and an odd size. Nets of PyTorch are also written back
and loaded by `load_state_dict(strict=True)`. The output marks libraries that are not installed. All
of them take about ten minutes on two cores; the suite has a part (tests/.../test_parity.py).
"""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_resnet import build
from keras_resnet.weights.recognize import recognize
from keras_resnet.weights.transfer import dump_tensors, load_tensors

CLASSES = 10
SIZES = ((64, 64), (65, 97))
TORCHVISION = """
resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d
wide_resnet50_2 wide_resnet101_2
"""
TIMM = """
resnet18 resnet26 resnet50 resnet50c resnet50s resnet18d resnet34d resnet50d resnet101d
seresnet50 seresnet152d seresnext50_32x4d resnext50_32x4d resnext50d_32x4d wide_resnet50_2
resnetrs50 resnetrs101 resnetv2_18 resnetv2_50 resnetv2_101 repvgg_a0 repvgg_a2 repvgg_b0
repvgg_b1
"""
KERAS = ["ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"]


class Peer(NamedTuple):
    """A net of another library.

    Attributes:
        tensors: Its weights by name.
        logits: Its function of a batch of images, channels last.
        changes: Fields of our spec that its tensors do not show.
        load: Loads tensors strictly, or None where nets are not written back.
    """

    tensors: dict[str, np.ndarray]
    logits: Callable[[np.ndarray], np.ndarray]
    changes: dict[str, Any]
    load: Callable[[dict[str, np.ndarray]], None] | None = None


def main() -> None:
    """Compares, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="a CSV file to write")
    parser.add_argument("--only", help="one library")
    args = parser.parse_args()
    rows, failed = [], 0
    for library, name, build_peer in _nets():
        if args.only not in (None, library):
            continue
        try:
            version = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            print(f"{library:16}{name:28}not installed", flush=True)
            continue
        spec, parameters, difference, largest, exact = _compare(build_peer())
        holds = difference <= 1e-4 * max(1.0, largest)
        failed += not holds or exact is False
        row = {
            "library": library,
            "version": version,
            "net": name,
            "ours": spec,
            "parameters": parameters,
            "max_difference": f"{difference:.2e}",
            "max_logit": f"{largest:.3g}",
            "round_trip": {True: "exact", False: "differs", None: ""}[exact],
            "within_1e-4": "yes" if holds else "NO",
        }
        rows.append(row)
        print(f"{library:16}{name:28}{' '.join(map(str, [*row.values()][3:]))}", flush=True)
    if args.output and rows:
        with open(args.output, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    sys.exit(bool(failed))


def _compare(peer: Peer) -> tuple[str, int, float, float, bool | None]:
    """Returns our net's name and parameters, the largest difference and logit, and the round trip.

    The round trip is whether written tensors equal the peer's, or None.
    """
    found = recognize(peer.tensors, source="the peer")
    spec = found.spec.replace(**peer.changes)
    ours = build(spec, classes=CLASSES, input_shape=(None, None, 3))
    load_tensors(ours, peer.tensors, found.layout, source="the peer")
    difference = largest = 0.0
    for size in SIZES:
        images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
        wanted = peer.logits(images)
        got = keras.ops.convert_to_numpy(ours(images))
        difference = max(difference, float(np.abs(got - wanted).max()))
        largest = max(largest, float(np.abs(wanted).max()))
    exact = None
    if peer.load is not None:
        back = dump_tensors(ours, found.layout)
        peer.load(back)
        exact = all(np.array_equal(back[key], value) for key, value in peer.tensors.items())
    names = ", ".join(found.variants[:3]) or spec.name
    parameters = sum(int(np.prod(weight.shape)) for weight in ours.trainable_variables)
    return names, parameters, difference, largest, exact


def _nets() -> Iterator[tuple[str, str, Callable[[], Peer]]]:
    """Yields library, name and a function that builds the peer."""
    for name in KERAS:
        yield "keras", name, partial(_keras_applications, name)
    for kind in ("resnet", "resnet_v2", "resnet_vd"):
        for block in ("basic", "bottleneck"):
            yield "keras-hub", f"{kind} {block}", partial(_keras_hub, kind, block)
    basic = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
    first = {"downsample_in_bottleneck": True}
    yield "transformers", "basic", partial(_transformers, basic, {})
    yield "transformers", "bottleneck", partial(_transformers, {}, {})
    yield (
        "transformers",
        "downsample_in_bottleneck",
        partial(_transformers, first, {"stride_placement": "1x1"}),
    )
    for name in TORCHVISION.split():
        yield "torchvision", name, partial(_torchvision, name)
    for name in TIMM.split():
        yield "timm", name, partial(_timm, name)


def _torchvision(name: str) -> Peer:
    models = importlib.import_module("torchvision.models")
    return _torch(getattr(models, name)(num_classes=CLASSES))


def _timm(name: str) -> Peer:
    return _torch(importlib.import_module("timm").create_model(name, num_classes=CLASSES))


def _torch(module: Any, changes: dict[str, Any] | None = None, output: str = "") -> Peer:
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.0)
            torch.nn.init.normal_(part.bias, 0, 0.1)
            torch.nn.init.normal_(part.running_mean, 0, 0.1)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
        elif isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    module.eval()

    def logits(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            result = module(torch.tensor(np.moveaxis(images, -1, 1).copy()))
        return (getattr(result, output) if output else result).numpy()

    def load(tensors: dict[str, np.ndarray]) -> None:
        module.load_state_dict({key: torch.tensor(value) for key, value in tensors.items()})

    tensors = {key: value.numpy().copy() for key, value in module.state_dict().items()}
    return Peer(tensors, logits, changes or {}, load)


def _transformers(changes: dict[str, Any], ours: dict[str, Any]) -> Peer:
    transformers = importlib.import_module("transformers")
    config = transformers.ResNetConfig(num_labels=CLASSES, **changes)
    return _torch(transformers.ResNetForImageClassification(config), ours, "logits")


def _randomized(layers: list[Any], norm: tuple[str, ...], other: tuple[str, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for layer in (layer for layer in layers if layer.weights):
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if isinstance(layer, keras.layers.BatchNormalization):
            size, roles = shapes[0], norm
            values = [
                rng.uniform(0.5, 1, size),
                rng.normal(0, 0.1, size),
                rng.normal(0, 0.1, size),
                rng.uniform(0.5, 1.5, size),
            ]
        else:
            roles = other
            deviation = np.sqrt(2 / np.prod(shapes[0][:-1]))
            values = [rng.normal(0, deviation, shapes[0])]
            values += [rng.normal(0, 0.1, shape) for shape in shapes[1:]]
        values = [value.astype("float32") for value in values]
        layer.set_weights(values)
        tensors |= {f"{layer.name}/{r}": v for r, v in zip(roles, values, strict=False)}
    return tensors


def _keras_applications(name: str) -> Peer:
    body = getattr(keras.applications, name)(
        weights=None, input_shape=(None, None, 3), include_top=False, pooling="avg"
    )
    head = keras.layers.Dense(CLASSES, name="predictions")(body.output)
    model = keras.Model(body.input, head)
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    tensors = _randomized(model.layers, norm, ("kernel", "bias"))
    return Peer(tensors, lambda x: keras.ops.convert_to_numpy(model(x)), {})


def _keras_hub(kind: str, block: str) -> Peer:
    models = importlib.import_module("keras_hub").models
    vd = kind == "resnet_vd"
    backbone = models.ResNetBackbone(
        input_conv_filters=[32, 32, 64] if vd else [64],
        input_conv_kernel_sizes=[3, 3, 3] if vd else [7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2] if block == "basic" else [3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=f"{block}_block{'_vd' if vd else ''}",
        use_pre_activation=kind == "resnet_v2",
    )
    model = models.ResNetImageClassifier(backbone=backbone, num_classes=CLASSES)
    layers = [*backbone.layers, *(layer for layer in model.layers if layer is not backbone)]
    tensors = _randomized(layers, ("0", "1", "2", "3"), ("0", "1"))
    return Peer(tensors, lambda x: keras.ops.convert_to_numpy(model(x)), {})


if __name__ == "__main__":
    main()
