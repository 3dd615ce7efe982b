"""`.keras` and `.weights.h5` files that nets of this package were saved to."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_resnet.hdf5 import SIGNATURE, allowed_bytes, read_model_config
from keras_resnet.nets.aliases import own_names
from keras_resnet.nets.budget import kernel_parameters
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import (
    assign,
    check_finite,
    group_by_layer,
    is_own_name,
    layer_names,
    weighted_layers,
    write_weights,
)
from keras_resnet.nets.network import Dims
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.files.errors import first_line
from keras_resnet.weights.files.json_object import parse_object, read_member
from keras_resnet.weights.files.tensor_file import read
from keras_resnet.weights.rebuild import HEAD
from keras_resnet.weights.transfer import LoadReport

# Layers that only nets of this package have.
_SIGN = re.compile(r"(.*/)?stem_conv1?/(0|kernel)")
_UNIT = re.compile(r"stage\d+_unit\d+_")
# The stem of nets of this package whose layers have the names of keras.applications.
_APPLICATIONS_STEM = re.compile(r"(.*/)?conv1_conv/(0|kernel)")
# Spec fields that do not change the function of a net with given weights in inference.
WITHOUT_EFFECT = {
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
    "head_dropout",
    "gate_bias",
}


@dataclasses.dataclass(frozen=True, eq=False)
class SavedNet:
    """A net of this package in a file, perhaps inside another model.

    Attributes:
        stored: Arrays by layer name.
        spec: Its spec; None in files without a config (`.weights.h5`).
        preprocess: Its preprocessing, if the file states it.
        prefix: Name of the model around it, if two layers of the file share a name.
        others: Number of arrays of other layers, by layer name.
    """

    stored: dict[str, list[np.ndarray]]
    spec: ResNetSpec | None
    preprocess: PreprocessSpec | None
    prefix: str
    others: dict[str, int]

    @property
    def classes(self) -> int | None:
        """Number of outputs of the classifier; None if there is no classifier."""
        return self.stored["logits"][0].shape[-1] if "logits" in self.stored else None

    @property
    def dims(self) -> Dims:
        """Space axes of the net: 1 for signals, 2 for images, 3 for volumes."""
        rank = self._first_kernel.ndim
        return 1 if rank == 3 else 3 if rank == 5 else 2

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return self._first_kernel.shape[-2]

    @property
    def _first_kernel(self) -> np.ndarray:
        return self.stored["stem_conv1" if "stem_conv1" in self.stored else "stem_conv"][0]


def read_saved(path: str, *, prefix: str | None = None) -> SavedNet | None:
    """Reads a net of this package from a `.keras`, `.weights.h5` or `.h5` file by its contents.

    Args:
        path: The file, or a folder that contains it as `model.keras`.
        prefix: Name of the model around the net, if the file holds several.

    Returns:
        The net; None if the file does not hold one.

    Raises:
        ValueError: If the file is damaged, or holds several nets and no `prefix` is given.
    """
    if os.path.isdir(path):  # of a run
        path = os.path.join(path, "model.keras")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would wait for a writer
        raise ValueError(f"{path!r} is not a regular file")
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError:
        return None
    is_archive = start[:4] == b"PK\3\4" and _keras_config(path) is not None
    if not is_archive and start != SIGNATURE:
        return None
    return _find_saved(path, read(path).tensors, prefix)


def _find_saved(
    path: str, tensors: Mapping[str, np.ndarray], prefix: str | None
) -> SavedNet | None:
    """Returns the net of this package among the arrays of a file; see `read_saved`."""
    whole = _config_of(path)
    places = _places(tensors, whole)
    if not places:
        return None
    chosen = [
        place for place in places if prefix is None or place.rstrip("/") == prefix.rstrip("/")
    ]
    if len(chosen) != 1:
        raise ValueError(
            f"{path!r} holds {len(places)} nets; choose one: "
            f"{', '.join(f'prefix={place!r}' for place in places)}"
        )
    (place,) = chosen
    ours, others = {}, collections.Counter[str]()
    inside = {name: _layer_of(name[len(place) :]) for name in tensors if name.startswith(place)}
    names = own_names(inside.values())
    for name, array in tensors.items():
        if name in inside and is_own_name(names[inside[name]]):
            ours[name[len(place) :]] = array
        else:
            others[name.rpartition("/")[0]] += 1
    config = _find_net(whole, place.rstrip("/").rpartition("/")[2]) or _find_net(whole, "")
    stored, spec = group_by_layer(ours), _read_spec(config.get("spec"), ResNetSpec)
    if spec is not None:
        _check_size(spec, stored, path)
    return SavedNet(
        stored,
        spec,
        _read_spec(config.get("preprocess"), PreprocessSpec),
        place,
        dict(others),
    )


def _check_size(spec: ResNetSpec, stored: dict[str, list[np.ndarray]], path: str) -> None:
    """Refuses a spec of another depth or of wider layers than the weights, before it is built."""
    units = {match[0] for name in stored if (match := _UNIT.match(name))}
    counts = collections.Counter(unit.partition("_")[0] for unit in units)
    depths = tuple(counts[f"stage{number}"] for number in range(1, len(spec.depths) + 1))
    held = sum(array.size for arrays in stored.values() for array in arrays)
    needed = kernel_parameters(spec, 0, 1, 1)  # the least: of signals of one channel
    if depths != spec.depths or needed > held:
        raise ValueError(
            f"{path!r} is damaged: its config describes units {spec.depths} of {needed} weights, "
            f"its weights are {held} in units {depths}"
        )


def _places(tensors: Mapping[str, np.ndarray], config: Any) -> list[str]:
    """Returns the prefixes of the nets of this package in a file."""
    places = [match[1] or "" for name in tensors if (match := _SIGN.fullmatch(name))]
    for name in tensors:
        match = _APPLICATIONS_STEM.fullmatch(name)
        place = (match[1] or "") if match else None
        if place is not None and _is_ours(tensors, place, config):
            places.append(place)
    return list(dict.fromkeys(places))


def _is_ours(tensors: Mapping[str, np.ndarray], place: str, config: Any) -> bool:
    """Whether a net with keras.applications' names is of this package.

    A config says so. Without one the convolutions do: at the end of a branch, those of
    keras.applications have a bias. Ours have one with weights of keras.applications only; the file
    is then read as theirs. DenseNet has `conv2_block1_0_bn` behind no convolution.
    """
    if config is not None:
        inner = _find_net(config, place.rstrip("/").rpartition("/")[2]) or _find_net(config, "")
        return bool(inner)
    unit = f"{place}conv2_block1_"
    held = {name.removeprefix(unit).partition("/")[0] for name in tensors if unit in name}
    if not {"1_conv", "2_conv"} <= held or ("0_bn" in held and "0_conv" not in held):
        return False
    last = f"{unit}{'3' if '3_conv' in held else '2'}_conv"
    kernel = f"{last}/kernel" in tensors or f"{last}/0" in tensors
    return kernel and f"{last}/bias" not in tensors and f"{last}/1" not in tensors


def _layer_of(name: str) -> str:
    """Returns the name under which a file's layer is known here, of a variable's name."""
    layer = name.rpartition("/")[0]
    return "logits" if layer == "predictions" else layer


def _read_spec(values: Any, kind: Any) -> Any:
    """Returns a spec or preprocessing from a config; None if there is none or it is damaged."""
    try:
        return kind.from_dict(values) if isinstance(values, dict) else None
    except (KeyError, TypeError, ValueError):
        return None


def _keras_config(path: str) -> dict[str, Any] | None:
    """Returns the config of a `.keras` archive; None for any other file."""
    try:
        return read_member(path, "config.json")
    except (KeyError, ValueError):
        return None


def _config_of(path: str) -> Any:
    """Returns the config in a `.keras` archive or in a whole model's HDF5 file."""
    if zipfile.is_zipfile(path):
        return _keras_config(path)
    text = read_model_config(path)
    try:
        return None if text is None else parse_object(text, repr(path))
    except ValueError:
        return None


def _find_net(config: Any, name: str) -> dict[str, Any]:
    """Returns the config of the `ResNet` in a model's config; empty if there is none.

    Args:
        config: The config.
        name: Name of the model; empty for any.
    """
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            inner = node.get("config")
            # By its fields, not its class: a user's subclass has another name.
            named = isinstance(inner, dict) and name in ("", inner.get("name"))
            if isinstance(inner, dict) and named and {"spec", "taps"} <= inner.keys():
                return inner
            waiting += list(node.values())
        elif isinstance(node, list):
            waiting += node
    return {}


def load_saved(
    model: ResNet,
    path: str,
    *,
    strict: bool,
    prefix: str | None = None,
    allow_nonfinite: bool = False,
) -> LoadReport | None:
    """Loads a file that a net of this package was saved to, by layer name.

    Returns:
        The layers that were loaded; None if the file is not one of this package.

    Raises:
        ValueError: If the file is damaged or, with `strict`, belongs to another net; the model is
            unchanged then.
    """
    saved = read_saved(path, prefix=prefix)
    if saved is None:
        return None
    return assign_saved(model, saved, path, strict=strict, allow_nonfinite=allow_nonfinite)


def assign_saved(
    model: ResNet, saved: SavedNet, path: str, *, strict: bool, allow_nonfinite: bool = False
) -> LoadReport:
    """Sets the weights of a net; see `load_saved`."""
    if saved.spec is not None and strict:
        _check_function(saved.spec, model.spec, path)
    if not allow_nonfinite:
        check_finite(saved.stored, repr(path))
    stored = dict(saved.stored)
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
        model.preprocess = saved.preprocess
    return dataclasses.replace(report, prefix=saved.prefix, outside=saved.others)


def stored_spec(path: str) -> ResNetSpec | None:
    """Returns the spec in a `.keras` file of this package; None for any other file.

    Its `classes` is the number of outputs of the stored classifier.
    """
    # A pipe would wait for a writer.
    if not path.endswith(".keras") or not os.path.isfile(path) or not zipfile.is_zipfile(path):
        return None
    try:
        config = read_member(path, "config.json")["config"]
        spec = ResNetSpec.from_dict(config["spec"])
        head = [
            layer["config"]["units"]
            for layer in config["layers"]
            if layer["class_name"] == "Dense" and layer["name"] in ("logits", "predictions")
        ]
        return spec.replace(classes=head[0]) if head else spec
    except (KeyError, TypeError, ValueError):
        return None


def load_keras_file(path: str | os.PathLike[str]) -> Any:
    """Loads a `.keras` file by Keras, after its archive has been checked.

    Raises:
        ValueError: If it is damaged, unfolds to much more than it holds, declares layers that its
            weights do not have, or Keras cannot load it.
    """
    path = os.fspath(path)
    try:
        tensors = read(path).tensors
        config = read_member(path, "config.json")
        _find_saved(path, tensors, None)  # checks the spec of a net of this package
        _check_variables(config, os.path.getsize(path))
        return keras.saving.load_model(path, compile=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # Keras and its backends raise errors of many types
        raise ValueError(f"{path!r} is no readable `.keras` file: {first_line(error)}") from error


def _check_variables(config: Any, size: int) -> None:
    """Refuses layers whose weights would take more memory than a file of `size` bytes allows."""
    with ThreadPoolExecutor(1) as thread:
        needed = thread.submit(_bytes_of_variables, config).result()
    if needed > allowed_bytes(size):
        raise ValueError(f"its config describes weights of {needed} bytes, and it has {size}")


def _bytes_of_variables(config: Any) -> int:
    """Returns the size of a model's weights, which are made without their values.

    `keras.StatelessScope` postpones the values: whichever numbers of the config decide a shape,
    they count. Call it in a thread of its own. Keras notes such variables by the thread, and the
    next scope that ends in it would give them their values, however large they are.
    """
    with keras.StatelessScope(initialize_variables=False):
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    return sum(4 * math.prod(variable.shape) for variable in model.variables)


def _check_function(stored: ResNetSpec, wanted: ResNetSpec, path: str) -> None:
    """Refuses a file whose net computes another function, even with the same layers."""
    differences = [
        f"{field.name}={getattr(stored, field.name)!r}, not {getattr(wanted, field.name)!r}"
        for field in dataclasses.fields(stored)
        if field.name not in WITHOUT_EFFECT
        and getattr(stored, field.name) != getattr(wanted, field.name)
    ]
    if differences:
        raise ValueError(
            f"Weights of {path!r} do not fit {wanted.name}: its net has {'; '.join(differences)}"
        )


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
