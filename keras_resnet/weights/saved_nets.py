"""`.keras` and `.weights.h5` files that nets of this package were saved to."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from typing import Any

import keras
import numpy as np

from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import (
    assign,
    layer_names,
    read_h5,
    read_weights,
    weighted_layers,
    write_weights,
)
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.files.errors import first_line
from keras_resnet.weights.rebuild import HEAD
from keras_resnet.weights.transfer import LoadReport

# Spec fields that do not change the function of a net with given weights in inference.
_IRRELEVANT = {
    "name",
    "classes",
    "input_size",
    "input_channels",
    "init",
    "norm_momentum",
    "norm_sync",
    "zero_init_residual",
    "stochastic_depth",
    "shortcut_dropout",
    "gate_bias",
}


def load_saved(model: ResNet, path: str, *, strict: bool) -> LoadReport | None:
    """Loads a file that a net of this package was saved to, by layer name.

    Returns:
        The layers that were loaded; None if the file is not one of this package.

    Raises:
        ValueError: If the file is damaged or, with `strict`, belongs to another net; the model is
            unchanged then.
    """
    preprocess = None
    spec = stored_spec(path)
    if spec is not None and strict:
        _check_function(spec, model.spec, path)
    if path.endswith(".keras"):
        stored, preprocess = _read_keras(path)
    elif path.endswith(".weights.h5"):
        stored = read_h5(path)
    else:
        return None
    if not {"stem_conv", "stem_conv1"} & set(stored):
        return None
    # A net without the top takes the file of a net with it.
    names = layer_names(model)
    left_out = tuple(name for name in HEAD if name in stored and name not in names)
    for name in left_out:
        del stored[name]
    if strict:
        assign(stored, model, source=repr(path))
        report = LoadReport(tuple(stored), left_out=left_out)
    else:
        report = _assign_fitting(stored, model)
    if not model.preprocess:
        model.preprocess = preprocess
    return report


def stored_spec(path: str) -> ResNetSpec | None:
    """Returns the spec in a `.keras` file of this package; None for any other file.

    Its `classes` is the number of outputs of the stored classifier.
    """
    if not path.endswith(".keras") or not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        spec = ResNetSpec.from_dict(config["spec"])
        head = [
            layer["config"]["units"]
            for layer in config["layers"]
            if layer["class_name"] == "Dense" and layer["name"] in ("logits", "predictions")
        ]
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None
    return spec.replace(classes=head[0]) if head else spec


def _check_function(stored: ResNetSpec, wanted: ResNetSpec, path: str) -> None:
    """Refuses a file whose net computes another function, even with the same layers."""
    differences = [
        f"{field.name}={getattr(stored, field.name)!r}, not {getattr(wanted, field.name)!r}"
        for field in dataclasses.fields(stored)
        if field.name not in _IRRELEVANT
        and getattr(stored, field.name) != getattr(wanted, field.name)
    ]
    if differences:
        raise ValueError(
            f"Weights of {path!r} do not fit {wanted.name}: its net has {'; '.join(differences)}"
        )


def _read_keras(path: str) -> tuple[dict[str, list[np.ndarray]], PreprocessSpec | None]:
    try:
        source: Any = keras.saving.load_model(path, compile=False)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        message = f"{path!r} is not a readable `.keras` file: {first_line(error)}"
        raise ValueError(message) from error
    preprocess = source.preprocess or None if isinstance(source, ResNet) else None
    return read_weights(source), preprocess


def _assign_fitting(stored: dict[str, list[np.ndarray]], model: ResNet) -> LoadReport:
    """Sets the layers that exist on both sides with the same shapes; reports the others."""
    missing, misshaped, loaded = [], [], []
    for name, layer in weighted_layers(model):
        if name not in stored:
            missing.append(name)
            continue
        shapes = [array.shape for array in stored[name]]
        needed = [tuple(weight.shape) for weight in layer.weights]
        if shapes == needed:
            loaded.append(name)
            continue
        pairs = zip(shapes, needed, strict=False)
        misshaped.append((name, *next((pair for pair in pairs if pair[0] != pair[1]), ((), ()))))
    write_weights(model, {name: stored[name] for name in loaded})
    ours = {*layer_names(model)}
    unexpected = tuple(name for name in stored if name not in ours)
    return LoadReport(tuple(loaded), tuple(missing), unexpected, tuple(misshaped))
