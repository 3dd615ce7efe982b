"""Weights in Keras's own files."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import keras
import numpy as np

from keras_resnet.model import ResNet
from keras_resnet.network import build


def load(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Loads a `.weights.h5` or `.keras` file into a model of the same architecture.

    Args:
        model: The net, built.
        path: The file. Weights are taken layer by layer, by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged, or holds another architecture; the
            model is then as it was.
    """
    path = os.fspath(path)
    if not path.endswith((".weights.h5", ".keras")):
        raise ValueError(
            "`weights` must be None or the path of a `.weights.h5` or `.keras` file; named "
            f"pretrained weights are not part of this version. Received: weights={path!r}"
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    if path.endswith(".weights.h5"):
        try:
            stored = _read_h5(path)
        except (OSError, KeyError) as error:
            message = f"{path!r} is no readable `.weights.h5` file: {_line(error)}"
            raise ValueError(message) from error
        _assign(stored, model, source=repr(path))
        return
    try:
        source: Any = keras.saving.load_model(path, compile=False)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path!r} is no readable `.keras` file: {_line(error)}") from error
    copy_weights(source, model)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies weights from one model to another, layer by layer, by name.

    Raises:
        ValueError: If a layer with weights is missing on either side or differs in shape; names
            the first of each.
    """
    stored = {layer.name: layer.get_weights() for layer in source.layers if layer.weights}
    _assign(stored, target, source=source.name)


def _read_h5(path: str) -> dict[str, list[np.ndarray]]:
    """Returns the weights of a `.weights.h5` file by layer name.

    `Model.load_weights` numbers layers of a kind in their order and leaves the names aside, so it
    takes the weights of a post-activation net for a pre-activation one where the shapes agree.
    """
    import h5py

    stored = {}
    with h5py.File(path, "r") as file:
        for group in file["layers"].values():
            values = group["vars"]
            if len(values):
                arrays = [np.asarray(values[str(index)]) for index in range(len(values))]
                stored[str(values.attrs["name"])] = arrays
    return stored


def _assign(stored: dict[str, list[np.ndarray]], target: keras.Model, *, source: str) -> None:
    ours = {layer.name: layer for layer in target.layers if layer.weights}
    problems = [f"no {name!r} in the source" for name in ours if name not in stored]
    problems += [f"no {name!r} in the target" for name in stored if name not in ours]
    for name, layer in ours.items():
        had = [array.shape for array in stored.get(name, [])]
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if name in stored and had != wanted:
            problems.append(f"{name!r} has shapes {had}, not {wanted}")
    if problems:
        raise ValueError(
            f"Weights of {source} do not fit {target.name}: {'; '.join(problems[:4])}"
            + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        )
    for name, layer in ours.items():
        layer.set_weights(stored[name])


def clone_as_float32(model: ResNet) -> ResNet:
    """Builds the same net anew in float32 and copies the weights: what exports start from.

    Args:
        model: A net with its classifier, made by `build` under any dtype policy.

    Raises:
        ValueError: If the model has no classifier or carries no spec.
    """
    layers = {layer.name: layer for layer in model.layers}
    if "logits" not in layers:
        raise ValueError(f"{model.name!r} has no layer 'logits': build it with include_top=True")
    activation = layers["predictions"].activation if "predictions" in layers else None
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        twin = build(
            model.spec.replace(norm_sync=False),
            classes=layers["logits"].units,
            input_shape=model.inputs[0].shape[1:],
            classifier_activation=activation,
            name=model.name,
        )
    finally:
        keras.config.set_dtype_policy(policy)
    copy_weights(model, twin)
    return twin


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
