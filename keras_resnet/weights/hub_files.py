"""Files of repositories of the Hugging Face hub."""

from __future__ import annotations

import contextlib
from typing import Any

from keras_resnet.nets.catalog import get_spec
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.weights import hub
from keras_resnet.weights.files.download import Download, fetch
from keras_resnet.weights.files.errors import NotFoundError
from keras_resnet.weights.files.json_object import MAX_BYTES, read_object
from keras_resnet.weights.files.tensor_file import read
from keras_resnet.weights.opened import Weights, check_shapes, with_spec
from keras_resnet.weights.recognize import recognize, with_catalog_name
from keras_resnet.weights.unwrap import unwrap


def open_repository(name: str, net: str | ResNetSpec | None, prefix: str | None) -> Weights:
    """Downloads and reads a repository; see `open_weights`."""
    described = read_config(name)
    files = [_fetch_first(name, described.files)]
    tensors = dict(read(files[0].path).tensors)
    if described.head is not None:
        files.append(_fetch(name, described.head))
        head = read(files[1].path).tensors
        tensors.update({key: head[key] for key in head if key.startswith("predictions/")})
    unwrapped = unwrap(tensors, source=name, prefix=prefix)
    recognized = recognize(unwrapped.tensors, source=name)
    differences = described.differences(recognized.spec)
    if differences:
        raise ValueError(
            f"The config of {name} describes another net than its file holds: "
            f"{'; '.join(differences)}"
        )
    recognized = with_spec(recognized, recognized.spec.replace(**described.changes))
    if net is not None:
        check_shapes(get_spec(net), recognized, name)
    return Weights(
        name,
        with_catalog_name(recognized),
        recognized.layout,
        unwrapped.tensors,
        described.preprocess,
        described.licence,
        tuple(files),
        (),
        unwrapped.prefix,
        unwrapped.left_out,
    )


def read_config(name: str) -> hub.HubNet:
    """Downloads and reads the config of a repository of the hub."""
    config = read_object(_fetch(name, "config.json").path)
    processor: dict[str, Any] = {}
    if "architecture" not in config:  # timm's config is complete
        kind = "preprocessor.json" if "class_name" in config else "preprocessor_config.json"
        with contextlib.suppress(NotFoundError):  # it is optional
            processor = read_object(_fetch(name, kind).path)
    return hub.describe(hub.parse(name)[0], config, processor)


def _fetch(name: str, file: str) -> Download:
    """Fetches one file of a repository of the hub."""
    repository, revision = hub.parse(name)
    cache_name = "--".join((*repository.split("/"), revision, file))
    limit = MAX_BYTES if file.endswith(".json") else None
    return fetch(hub.file_url(repository, revision, file), name=cache_name, limit=limit)


def _fetch_first(name: str, files: tuple[str, ...]) -> Download:
    """Fetches the first of several files that the repository has."""
    for file in files[:-1]:
        try:
            return _fetch(name, file)
        except NotFoundError:
            continue
    return _fetch(name, files[-1])
