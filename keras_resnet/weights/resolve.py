"""`weights=` resolved: a path, a published name or a hub repository to tensors and their net."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keras_resnet.nets.catalog import get_spec
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.files.download import fetch
from keras_resnet.weights.files.tensor_file import read
from keras_resnet.weights.files.tensor_tree import flatten
from keras_resnet.weights.hub_files import open_repository, read_config
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.local_files import open_file
from keras_resnet.weights.opened import Net, choose_spec, recognize_unwrapped, settle
from keras_resnet.weights.opened import Weights as Weights
from keras_resnet.weights.sources import SOURCES, Source, find_source
from keras_resnet.weights.state_dicts import to_arrays
from keras_resnet.weights.unwrap import unwrap

Path = str | os.PathLike[str]

_ENDINGS = (".keras", ".h5", ".safetensors", ".pth", ".pt", ".th", ".bin", ".tar", ".ckpt")


def open_weights(
    name: Path | Mapping[str, Any],
    *,
    net: Net | None = None,
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
            repositories determine it themselves and are checked against it. For files and state
            dicts also fields that they do not show, such as `{"stride_placement": "1x1"}`.
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
        return open_repository(text, _whole(net), prefix)
    if not names_source(text):
        return open_file(text, net, prefix)
    whole = _whole(net)
    if whole is None:
        raise ValueError(
            f"{text!r} is published for several nets: say which one (`net=`). A path that does "
            "not exist is taken for a published name too"
        )
    return _from_source(find_source(text, get_spec(whole).name), include_top=include_top)


def _whole(net: Net | None) -> str | ResNetSpec | None:
    """Returns the requested net; refuses single fields, which published nets state themselves."""
    if isinstance(net, Mapping):
        raise TypeError(
            "`net` may be fields of a spec for files and state dicts; for published names and "
            f"repositories it must be a name or a ResNetSpec. Received: net={net!r}"
        )
    return net


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
    preprocess = read_config(name).preprocess
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


def _from_mapping(values: Mapping[str, Any], net: Net | None, prefix: str | None) -> Weights:
    """Returns the weights in a state dict."""
    source = "the mapping"
    tensors, ignored = flatten(to_arrays(values), source=source)
    unwrapped = unwrap(tensors, source=source, prefix=prefix)
    recognized, assumed = recognize_unwrapped(unwrapped, source)
    spec = choose_spec(recognized, source, net, assumed)
    left_open, determined = settle(net, assumed)
    return Weights(
        source,
        spec,
        recognized.layout,
        unwrapped.tensors,
        unwrapped.translated.preprocess,
        None,
        (),
        left_open,
        unwrapped.prefix,
        {**unwrapped.left_out, **ignored},
        determined,
    )
