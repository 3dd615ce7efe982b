"""Weights in this package's own files: `.keras` and `.weights.h5`."""

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
from keras_resnet.weights.rebuild import HEAD
from keras_resnet.weights.transfer import LoadReport


def load_own(model: ResNet, path: str, *, strict: bool) -> LoadReport | None:
    """Loads a file that a net of this package was saved to, layer by layer, by name.

    Returns:
        What was loaded; None if the file is none of this package's.

    Raises:
        ValueError: If the file is damaged or, where `strict`, holds another net; the model is
            then as it was.
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
    # A net without the top takes the file of one with it.
    spare = [name for name in HEAD if name not in {layer.name for layer in model.layers}]
    left_out = tuple(name for name in spare if stored.pop(name, None))
    if strict:
        assign(stored, model, source=repr(path))
        report = LoadReport(tuple(stored), left_out=left_out)
    else:
        report = _assign_what_fits(stored, model)
    if model.preprocess is None:
        model.preprocess = preprocess
    return report


def stored_spec(path: str) -> ResNetSpec | None:
    """Returns the spec in a `.keras` file of this package; None for any other file.

    Its classes are those of the classifier that the file holds.
    """
    if not path.endswith(".keras") or not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        spec = ResNetSpec.from_dict(config["spec"])
        units = [
            layer["config"]["units"] for layer in config["layers"] if layer["name"] == "logits"
        ]
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None
    return spec.replace(classes=units[0]) if units else spec


def _check_function(stored: ResNetSpec, wanted: ResNetSpec, path: str) -> None:
    """Refuses a file whose net has the same layers and computes another function."""
    free = {"name", "classes", "input_size", "input_channels", "init", "norm_momentum"}
    free |= {"norm_sync", "zero_init_residual", "stochastic_depth", "shortcut_dropout", "gate_bias"}
    differences = [
        f"{field.name}={getattr(stored, field.name)!r}, not {getattr(wanted, field.name)!r}"
        for field in dataclasses.fields(stored)
        if field.name not in free and getattr(stored, field.name) != getattr(wanted, field.name)
    ]
    if differences:
        raise ValueError(
            f"Weights of {path!r} do not fit {wanted.name}: its net has {'; '.join(differences)}"
        )


def _read_keras(path: str) -> tuple[dict[str, list[np.ndarray]], PreprocessSpec | None]:
    try:
        source: Any = keras.saving.load_model(path, compile=False)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path!r} is no readable `.keras` file: {_line(error)}") from error
    return read_weights(source), source.preprocess if isinstance(source, ResNet) else None


def _assign_what_fits(stored: dict[str, list[np.ndarray]], model: ResNet) -> LoadReport:
    """Sets the layers that are on both sides and of the same shapes, and says which are not."""
    missing, misshaped, loaded = [], [], []
    for name, layer in weighted_layers(model):
        arrays = stored.get(name)
        if arrays is None:
            missing.append(name)
            continue
        had, need = [a.shape for a in arrays], [tuple(w.shape) for w in layer.weights]
        if had != need:
            first = next(
                (pair for pair in zip(had, need, strict=False) if pair[0] != pair[1]), ((), ())
            )
            misshaped.append((name, *first))
            continue
        loaded.append(name)
    write_weights(model, {name: stored[name] for name in loaded})
    ours = {*layer_names(model)}
    return LoadReport(
        tuple(loaded), tuple(missing), tuple(n for n in stored if n not in ours), tuple(misshaped)
    )


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
