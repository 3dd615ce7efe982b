"""Files on this machine: their tensors, and what stands beside them."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights import hub
from keras_resnet.weights.files.download import Download
from keras_resnet.weights.files.json_object import parse_object, read_object
from keras_resnet.weights.files.tensor_file import TensorFile, read_parts
from keras_resnet.weights.folders import find_files
from keras_resnet.weights.opened import (
    Net,
    Weights,
    choose_spec,
    recognize_unwrapped,
    settle,
    with_spec,
)
from keras_resnet.weights.recognize import Recognized, same_shapes
from keras_resnet.weights.sources import SOURCES, Source
from keras_resnet.weights.unwrap import unwrap

# Keys of the metadata that `weights.save` writes.
SPEC_KEY, PREPROCESS_KEY = "keras_resnet.spec", "keras_resnet.preprocess"
# Keys by which the configs of timm, transformers and KerasHub are told from other JSON files.
_CONFIG_KEYS = {"architecture", "pretrained_cfg", "model_type", "class_name"}


def open_file(path: str, net: Net | None, prefix: str | None) -> Weights:
    """Reads a file or folder; see `open_weights`."""
    parts = find_files(path)
    path = parts[0]
    file = read_parts(parts)
    try:
        unwrapped = unwrap(file.tensors, source=repr(path), prefix=prefix)
        recognized, assumed = recognize_unwrapped(unwrapped, repr(path))
    except ValueError:
        _local_config(path)  # raises if it names a net that is not built: the cause
        raise
    stated = _stated(path, file, recognized, net)
    preprocess = unwrapped.translated.preprocess
    if stated is not None:
        recognized, assumed = with_spec(recognized, stated.spec), ()
        preprocess = stated.preprocess
    if net is not None or stated is None or not stated.whole:
        spec = choose_spec(recognized, path, net, assumed)
    else:
        spec = stated.spec  # with the size of its input
    left_open, determined = settle(net, assumed)
    local = Download(path=path, sha256=file.sha256, url="", verified_by="none", from_cache=True)
    return Weights(
        repr(path),
        spec,
        recognized.layout,
        unwrapped.tensors,
        preprocess,
        None,
        (local,),
        left_open,
        unwrapped.prefix,
        {**unwrapped.left_out, **file.ignored},
        determined,
    )


@dataclasses.dataclass(frozen=True)
class _Stated:
    """What a file, its hash or the config beside it states of its net.

    Attributes:
        spec: The recognised net with the stated values.
        preprocess: The preprocessing; None if it is not stated.
        whole: Whether the whole spec is stated, with its name, not only some fields.
    """

    spec: ResNetSpec
    preprocess: PreprocessSpec | None
    whole: bool = True


def _stated(path: str, file: TensorFile, recognized: Recognized, net: Net | None) -> _Stated | None:
    """Returns what is stated: by the published table, the file, or the config beside it."""
    published = _published_source(file, recognized.spec)
    if published is not None:
        return _Stated(published.spec, published.preprocess)
    described = _described(path, recognized, net)
    preprocess = None if described is None else described.preprocess
    if SPEC_KEY in file.metadata:
        if PREPROCESS_KEY in file.metadata:
            stored = parse_object(file.metadata[PREPROCESS_KEY], f"{PREPROCESS_KEY} in {path!r}")
            preprocess = PreprocessSpec.from_dict(stored)
        return _Stated(_saved_spec(file, recognized), preprocess)
    if described is None:
        return None
    return _Stated(recognized.spec.replace(**described.changes), preprocess, whole=False)


def _described(path: str, recognized: Recognized, net: Net | None) -> hub.HubNet | None:
    """Returns the net of the config beside a file, unless it is that of another net.

    Raises:
        ValueError: If the config describes other shapes than the file has, and no net is named.

    Warns:
        UserWarning: If the config is ignored because a net is named.
    """
    described = _local_config(path)
    if described is None:
        return None
    differences = described.differences(recognized.spec)
    if not differences:
        return described
    message = (
        f"The config.json beside {path!r} describes another net than the file holds: "
        f"{'; '.join(differences)}"
    )
    if net is None:
        raise ValueError(f"{message}. Put the file into a folder of its own, or name the net")
    warnings.warn(f"{message}; it is ignored, because the net is named", stacklevel=5)
    return None


def _local_config(path: str) -> hub.HubNet | None:
    """Returns the net of the `config.json` of timm, transformers or KerasHub beside a file.

    Raises:
        ValueError: If it is one of their configs, for a net that this package does not build.
    """
    folder = os.path.dirname(path)
    config_path = os.path.join(folder, "config.json")
    if not os.path.isfile(config_path):
        return None
    config = read_object(config_path)
    if not _CONFIG_KEYS & set(config):
        return None  # of another program
    processor: dict[str, Any] = {}
    for name in ("preprocessor.json", "preprocessor_config.json"):
        if os.path.isfile(os.path.join(folder, name)):
            processor = read_object(os.path.join(folder, name))
            break
    try:
        return hub.describe(path, config, processor)
    except ValueError as error:
        message = str(error).replace(f"hf://{path}", f"The config.json beside {path!r}")
        raise ValueError(message) from error


def _saved_spec(file: TensorFile, recognized: Recognized) -> ResNetSpec:
    """Returns the spec that `weights.save` wrote into the metadata."""
    try:
        spec = ResNetSpec.from_dict(parse_object(file.metadata[SPEC_KEY], SPEC_KEY))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file.path!r} has a damaged spec in its metadata: {error}") from error
    if not same_shapes(spec, recognized.spec):
        raise ValueError(f"{file.path!r} contains tensors of another net than its metadata names")
    return spec.replace(classes=recognized.classes or spec.classes)


def _published_source(file: TensorFile, spec: ResNetSpec) -> Source | None:
    """Returns the published file that this one is, by its SHA-256; its name does not matter."""
    for source in SOURCES.values():
        kind, _, digest = (source.hash or "").partition(":")
        if kind == "sha256" and file.sha256.startswith(digest) and same_shapes(source.spec, spec):
            return source
    return None
