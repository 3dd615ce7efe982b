"""`weights=` resolved: a path, a published name or a hub repository to tensors and their net."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import VARIANTS, get_spec
from keras_resnet.nets.network import Dims
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights import hub
from keras_resnet.weights.files.download import Download, fetch
from keras_resnet.weights.files.errors import NotFoundError
from keras_resnet.weights.files.tensor_file import TensorFile, read, read_parts
from keras_resnet.weights.files.tensor_tree import flatten
from keras_resnet.weights.folders import find_files
from keras_resnet.weights.layouts import LAYOUTS, Layout
from keras_resnet.weights.recognize import (
    Recognized,
    check_function,
    recognize,
    same_shapes,
    with_catalog_name,
)
from keras_resnet.weights.sources import SOURCES, Source, find_source
from keras_resnet.weights.state_dicts import to_arrays
from keras_resnet.weights.unwrap import Unwrapped, count_left_out, unwrap

Path = str | os.PathLike[str]

# Keys of the metadata that `weights.save` writes.
SPEC_KEY, PREPROCESS_KEY = "keras_resnet.spec", "keras_resnet.preprocess"
# Keys by which the configs of timm, transformers and KerasHub are told from other JSON files.
_CONFIG_KEYS = {"architecture", "pretrained_cfg", "model_type", "class_name"}
_ENDINGS = (".keras", ".h5", ".safetensors", ".pth", ".pt", ".th", ".bin", ".tar", ".ckpt")


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Tensors of a published net, with the net that they belong to.

    Attributes:
        name: The name or path that was requested.
        spec: The net that computes the publisher's function.
        layout: The library whose names the tensors have.
        tensors: Arrays by these names.
        preprocess: The preprocessing that the weights were evaluated with, or None if unknown.
        licence: The licence as its publisher states it; None for a file.
        files: The files that were read: path, SHA-256 and the hash that was checked.
        assumed: Fields of the spec that neither tensors nor a config determine; they have the
            library's usual values. ReLU is assumed too.
        prefix: The prefix that the names of the net's tensors had.
        left_out: Number of other tensors in the file, by the first part of their names, and of
            objects that are not tensors, by their class.
        explicit: Fields of the spec that neither tensors nor a config determine, but the net that
            was requested.

    Example:
        >>> weights = keras_resnet.weights.open_weights("torchvision/v2", net="resnet50")
        >>> weights.spec.name, weights.classes
        ('resnet50_v1_5', 1000)
        >>> model = keras_resnet.from_pretrained(weights)
    """

    name: str
    spec: ResNetSpec
    layout: Layout
    tensors: Mapping[str, np.ndarray]
    preprocess: PreprocessSpec | None
    licence: str | None
    files: tuple[Download, ...]
    assumed: tuple[str, ...] = ()
    prefix: str = ""
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    explicit: tuple[str, ...] = ()

    @functools.cached_property
    def classes(self) -> int | None:
        """Number of outputs of the classifier; None if there is no classifier."""
        return recognize(self.tensors, source=self.name).classes

    @property
    def dims(self) -> Dims:
        """Space axes of the net: 1 for signals, 2 for images, 3 for volumes."""
        rank = max(array.ndim for array in self.tensors.values())
        return 1 if rank == 3 else 3 if rank == 5 else 2

    @functools.cached_property
    def channels(self) -> int:
        """Number of input channels."""
        for layer in ("stem_conv", "stem_conv1"):
            prefix = self.layout.translate(layer, self.spec)
            role = self.layout.roles["conv"][0]
            kernel = self.tensors.get(f"{prefix}{self.layout.separator}{role}")
            if kernel is not None:
                return kernel.shape[1] if self.layout.torch else kernel.shape[-2]
        return self.spec.input_channels

    def describe(self) -> str:
        """Returns the net's name in the catalog, or its number of layers."""
        listed = self.spec.name in VARIANTS
        return self.spec.name if listed else f"a {self.spec.layers}-layer net"

    def describe_rest(self) -> str:
        """Returns the prefix and the counts of what was left out, on one line; may be empty."""
        parts = [f"prefix {self.prefix!r}"] if self.prefix else []
        if self.left_out:
            parts.append(f"left out {count_left_out(self.left_out)}")
        return "; ".join(parts)


def open_weights(
    name: Path | Mapping[str, Any],
    *,
    net: str | ResNetSpec | None = None,
    include_top: bool = True,
    prefix: str | None = None,
) -> Weights:
    """Finds, downloads if necessary, and reads published weights.

    Args:
        name: The path of a file or of a folder that transformers, timm or KerasHub wrote;
            `"imagenet"`, `"torchvision/v1"`, `"torchvision/v2"`, `"akamaster"`, `"mlperf_tiny"`;
            `hf://owner/repository[@revision]`; or a state dict: a mapping of names to arrays or
            tensors, possibly nested.
        net: The net, as a name in the catalog or a spec. Required for published names; files and
            repositories determine it themselves and are checked against it.
        include_top: Whether the classifier is needed.
        prefix: The prefix of the net's tensors, such as `"module.encoder_q."`, if the file holds
            several nets. By default the only net in the file is found.

    Returns:
        The tensors, and the net that they belong to.

    Raises:
        DownloadError: If a file cannot be downloaded.
        FileNotFoundError: If a path does not exist.
        ValueError: If there are no weights of this name, or the file is damaged, hostile, or
            belongs to another net.

    Example:
        >>> weights = keras_resnet.weights.open_weights("resnet18-f37072fd.pth")
        >>> weights.spec.name, weights.layout.library, weights.files[0].sha256[:8]
        ('resnet18', 'torchvision', 'f37072fd')
    """
    if isinstance(name, Mapping):
        return _from_mapping(name, net, prefix)
    text = os.fspath(name)
    if text.startswith("hf://"):
        return _from_hub(text, net, prefix)
    if not names_source(text):
        return _from_file(text, net, prefix)
    if net is None:
        raise ValueError(
            f"{text!r} is published for several nets: say which one (`net=`). A path that does "
            "not exist is taken for a published name too"
        )
    return _from_source(find_source(text, get_spec(net).name), include_top=include_top)


def preprocess_spec(name: str, net: str | None = None) -> PreprocessSpec:
    """Returns the preprocessing that published weights were evaluated with.

    No weights are downloaded. For a repository of the hub, its config is.

    Args:
        name: A published name, such as `"imagenet"`, `"torchvision/v2"` or `"akamaster"`, or
            `hf://owner/repository[@revision]`.
        net: The net, where the preprocessing depends on it: `"imagenet"` is keras.applications'
            mode "caffe" for `"resnet50"` and -1..1 for `"resnet50v2"`.

    Raises:
        DownloadError: If the config of a repository cannot be downloaded.
        ValueError: If there are no weights of this name, or their publisher does not state the
            preprocessing.

    Example:
        >>> preprocess = keras_resnet.weights.preprocess_spec("torchvision/v2", "resnet50")
        >>> preprocess.size
        (224, 224)
        >>> images = preprocess(np.zeros((2, 300, 400, 3), "uint8"))  # (2, 224, 224, 3), float32
    """
    if not name.startswith("hf://"):
        return find_source(name, net).preprocess
    preprocess = _read_config(name).preprocess
    if preprocess is None:
        raise ValueError(f"{name} does not say how it was evaluated")
    return preprocess


def names_source(text: str) -> bool:
    """Whether `weights=` is a published name, not a file or a repository of the hub."""
    if text.startswith("hf://") or os.path.isfile(text):
        return False
    # A folder with this name does not count: a folder "imagenet" usually contains the data.
    if any(text == source.name for source in SOURCES.values()):
        return True
    return not os.path.exists(text) and not text.endswith(_ENDINGS)


def _from_source(source: Source, *, include_top: bool) -> Weights:
    url, digest = source.url, source.hash
    if not include_top and source.headless is not None:
        url, digest = source.headless
    name = f"{source.name.replace('/', '--')}--{url.rsplit('/', 1)[1]}"
    download = fetch(url, name=name, hash=digest)
    tensors = unwrap(read(download.path).tensors, source=repr(download.path)).tensors
    return Weights(
        f"{source.name} of {source.net}",
        source.spec,
        LAYOUTS[source.layout],
        tensors,
        source.preprocess,
        source.licence,
        (download,),
    )


def _from_mapping(
    values: Mapping[str, Any], net: str | ResNetSpec | None, prefix: str | None
) -> Weights:
    """Returns the weights in a state dict."""
    source = "the mapping"
    tensors, ignored = flatten(to_arrays(values), source=source)
    unwrapped = unwrap(tensors, source=source, prefix=prefix)
    recognized, assumed = _recognize(unwrapped, source)
    spec = _choose_spec(recognized, source, net, assumed)
    return Weights(
        source,
        spec,
        recognized.layout,
        unwrapped.tensors,
        None,
        None,
        (),
        assumed if net is None else (),
        unwrapped.prefix,
        {**unwrapped.left_out, **ignored},
        () if net is None else assumed,
    )


def _recognize(unwrapped: Unwrapped, source: str) -> tuple[Recognized, tuple[str, ...]]:
    """Returns the net of unwrapped tensors, and the fields of its spec that are assumed."""
    recognized = recognize(unwrapped.tensors, source=source)
    older = unwrapped.translated
    if older.changes:
        recognized = _with_spec(recognized, recognized.spec.replace(**older.changes))
    assumed = tuple(field for field in recognized.assumed if field not in older.changes)
    if any(array.ndim == 5 for array in unwrapped.tensors.values()):
        # Video and medical nets differ in the strides of their stems and in their dilation.
        assumed = (*assumed, "stem", "max_stride")
    return recognized, tuple(dict.fromkeys((*assumed, *older.assumed)))


def _from_file(path: str, net: str | ResNetSpec | None, prefix: str | None) -> Weights:
    parts = find_files(path)
    path = parts[0]
    file = read_parts(parts)
    unwrapped = unwrap(file.tensors, source=repr(path), prefix=prefix)
    tensors = unwrapped.tensors
    recognized, assumed = _recognize(unwrapped, repr(path))
    preprocess = None
    described = _local_config(path)
    if described is not None:
        # The config that timm and transformers keep beside their weights determines the function.
        recognized = _with_spec(recognized, recognized.spec.replace(**described.changes))
        preprocess, assumed = described.preprocess, ()
    if SPEC_KEY in file.metadata:
        recognized = _with_spec(recognized, _saved_spec(file, recognized))
        assumed = ()
        if PREPROCESS_KEY in file.metadata:
            preprocess = PreprocessSpec.from_dict(json.loads(file.metadata[PREPROCESS_KEY]))
    published = _published_source(file, recognized.spec)
    if published is not None:
        preprocess, assumed = published.preprocess, ()
        recognized = _with_spec(recognized, published.spec)
    spec = _choose_spec(recognized, path, net, assumed)
    if net is None and (published is not None or SPEC_KEY in file.metadata):
        spec = recognized.spec  # stated, with the size of its input
    local = Download(path=path, sha256=file.sha256, url="", verified_by="none", from_cache=True)
    return Weights(
        repr(path),
        spec,
        recognized.layout,
        tensors,
        preprocess,
        None,
        (local,),
        assumed if net is None else (),
        unwrapped.prefix,
        {**unwrapped.left_out, **file.ignored},
        () if net is None else assumed,
    )


def _local_config(path: str) -> hub.HubNet | None:
    """Returns the net of the `config.json` of timm, transformers or KerasHub beside a file.

    Raises:
        ValueError: If it is one of their configs, for a net that this package does not build.
    """
    folder = os.path.dirname(path)
    config_path = os.path.join(folder, "config.json")
    if not os.path.isfile(config_path):
        return None
    config = hub.read_json(config_path)
    if not _CONFIG_KEYS & set(config):
        return None  # of another program
    processor: dict[str, Any] = {}
    for name in ("preprocessor.json", "preprocessor_config.json"):
        if os.path.isfile(os.path.join(folder, name)):
            processor = hub.read_json(os.path.join(folder, name))
            break
    try:
        return hub.describe(path, config, processor)
    except ValueError as error:
        message = str(error).replace(f"hf://{path}", f"The config.json beside {path!r}")
        raise ValueError(message) from error


def _with_spec(recognized: Recognized, spec: ResNetSpec) -> Recognized:
    return dataclasses.replace(recognized, spec=spec)


def _saved_spec(file: TensorFile, recognized: Recognized) -> ResNetSpec:
    """Returns the spec that `weights.save` wrote into the metadata."""
    try:
        spec = ResNetSpec.from_dict(json.loads(file.metadata[SPEC_KEY]))
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


def _choose_spec(
    recognized: Recognized, name: str, net: str | ResNetSpec | None, assumed: tuple[str, ...]
) -> ResNetSpec:
    """Returns the requested net if the tensors fit it, or the recognised one."""
    if net is None:
        return with_catalog_name(recognized)
    spec = get_spec(net)
    _check_shapes(spec, recognized, repr(name))
    check_function(spec, recognized, name, assumed)
    return spec


def _check_shapes(spec: ResNetSpec, recognized: Recognized, name: str) -> None:
    if not same_shapes(spec, recognized.spec):
        raise ValueError(
            f"{name} does not hold {spec.name}. Nets of its shapes: {recognized.listed}"
        )


def _from_hub(name: str, net: str | ResNetSpec | None, prefix: str | None) -> Weights:
    described = _read_config(name)
    files = [_fetch_first(name, described.files)]
    tensors = dict(read(files[0].path).tensors)
    if described.head is not None:
        files.append(_fetch(name, described.head))
        head = read(files[1].path).tensors
        tensors.update({key: head[key] for key in head if key.startswith("predictions/")})
    unwrapped = unwrap(tensors, source=name, prefix=prefix)
    recognized = recognize(unwrapped.tensors, source=name)
    recognized = _with_spec(recognized, recognized.spec.replace(**described.changes))
    if net is not None:
        _check_shapes(get_spec(net), recognized, name)
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


def _read_config(name: str) -> hub.HubNet:
    """Downloads and reads the config of a repository of the hub."""
    config = hub.read_json(_fetch(name, "config.json").path)
    processor: dict[str, Any] = {}
    if "architecture" not in config:  # timm's config is complete
        kind = "preprocessor.json" if "class_name" in config else "preprocessor_config.json"
        with contextlib.suppress(NotFoundError):  # it is optional
            processor = hub.read_json(_fetch(name, kind).path)
    return hub.describe(hub.parse(name)[0], config, processor)


def _fetch(name: str, file: str) -> Download:
    """Fetches one file of a repository of the hub."""
    repository, revision = hub.parse(name)
    cache_name = "--".join((*repository.split("/"), revision, file))
    return fetch(hub.file_url(repository, revision, file), name=cache_name)


def _fetch_first(name: str, files: tuple[str, ...]) -> Download:
    """Fetches the first of several files that the repository has."""
    for file in files[:-1]:
        try:
            return _fetch(name, file)
        except NotFoundError:
            continue
    return _fetch(name, files[-1])
