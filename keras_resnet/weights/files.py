"""Weights in Keras's own files."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import keras

from keras_resnet.model import ResNet, deep_graph


def load(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Loads a `.weights.h5` or `.keras` file into a model of the same architecture.

    Args:
        model: The net, built.
        path: The file. From a `.keras` file the weights are taken layer by layer, by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged, or holds another architecture.
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
            model.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{path!r} does not fit {model.name}: {_line(error)}") from error
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
    theirs = {layer.name: layer for layer in source.layers if layer.weights}
    ours = {layer.name: layer for layer in target.layers if layer.weights}
    problems = [f"no {name!r} in the source" for name in ours if name not in theirs]
    problems += [f"no {name!r} in the target" for name in theirs if name not in ours]
    for name in ours.keys() & theirs.keys():
        had = [tuple(w.shape) for w in theirs[name].weights]
        wanted = [tuple(w.shape) for w in ours[name].weights]
        if had != wanted:
            problems.append(f"{name!r} has shapes {had}, not {wanted}")
    if problems:
        raise ValueError(
            f"Weights of {source.name} do not fit {target.name}: {'; '.join(problems[:4])}"
            + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        )
    for name, layer in ours.items():
        layer.set_weights(theirs[name].get_weights())


def clone_as_float32(model: ResNet, **build_arguments: Any) -> ResNet:
    """Builds the same net anew in float32 and copies the weights: what exports start from.

    Args:
        model: A net made by `build` under any dtype policy.
        **build_arguments: Those that `model` was built with.
    """
    from keras_resnet.network import build

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with deep_graph():
            twin = build(model.spec.replace(norm_sync=False), **build_arguments)
    finally:
        keras.config.set_dtype_policy(policy)
    copy_weights(model, twin)
    return twin


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
