"""`weights=`: a path or a published name, to the net that computes what its publisher's does."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import VARIANTS, get_spec
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.network import build
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights import hub
from keras_resnet.weights.files.download import Download, NotFoundError, fetch
from keras_resnet.weights.files.pickles import state_dict_of
from keras_resnet.weights.files.tensors import TensorFile, read
from keras_resnet.weights.layouts import LAYOUTS, Layout
from keras_resnet.weights.own_files import load_own, stored_spec
from keras_resnet.weights.recognize import Recognized, recognize, same_shapes
from keras_resnet.weights.sources import SOURCES, Source, find_source
from keras_resnet.weights.transfer import LoadReport, load_tensors

Path = str | os.PathLike[str]

# What `weights.save` writes into a file's metadata.
_SPEC, _PREPROCESS = "keras_resnet.nets.spec", "keras_resnet.preprocess"
# Fields that a file of a library leaves open without its config.
_UNSEEN: dict[str, tuple[str, ...]] = {
    "hf": ("stride_placement", "first_stride"),
    "torchvision": ("max_stride",),
    "timm": ("max_stride", "blur"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Published tensors, and what they are for.

    Attributes:
        name: What they were asked for as.
        spec: The net that computes their publisher's function.
        layout: Whose names they have.
        tensors: By these names.
        preprocess: What they were evaluated with; None where nothing says it.
        licence: As their publisher states it; None for a file.
        files: What they were read from: path, SHA-256 and what that was checked against.
        assumed: Fields of the spec that neither tensors nor a config show: the library's usual
            values stand for them.
    """

    name: str
    spec: ResNetSpec
    layout: Layout
    tensors: Mapping[str, np.ndarray]
    preprocess: PreprocessSpec | None
    licence: str | None
    files: tuple[Download, ...]
    assumed: tuple[str, ...] = ()

    @functools.cached_property
    def classes(self) -> int | None:
        """Outputs of the classifier; None without one."""
        return recognize(self.tensors, source=self.name).classes

    def describe(self) -> str:
        """Returns what net these are, in words."""
        known = self.spec.name in VARIANTS
        return self.spec.name if known else f"a {self.spec.layers}-layer net"


def open_weights(
    name: Path, *, net: str | ResNetSpec | None = None, include_top: bool = True
) -> Weights:
    """Finds, downloads where necessary, and reads weights that others trained.

    Args:
        name: The path of a file; `"imagenet"`, `"torchvision/v1"`, `"torchvision/v2"`,
            `"akamaster"`, `"mlperf_tiny"`; or `hf://owner/repository[@revision]`.
        net: The net they are wanted for, a name of the catalog or a spec. Names of sources need
            it; a file or a repository says itself what it holds.
        include_top: Whether the classifier is wanted.

    Raises:
        DownloadError: If a file cannot be had.
        FileNotFoundError: If a path leads nowhere.
        ValueError: If there is no such source, or the file is damaged, hostile, or of another net.
    """
    text = os.fspath(name)
    if text.startswith("hf://"):
        return _from_hub(text, net)
    if not names_source(text):
        return _from_file(text, net)
    if net is None:
        raise ValueError(
            f"{text!r} is published for several nets: say which one (`net=`). A path that does "
            "not exist is taken for such a name too"
        )
    return _from_source(find_source(text, get_spec(net).name), include_top=include_top)


def from_pretrained(
    name: Path | Weights,
    /,
    net: str | ResNetSpec | None = None,
    *,
    include_top: bool = True,
    classifier_activation: Any = None,
    **form: Any,
) -> ResNet:
    """Builds the net that published weights are for, with these weights.

    Args:
        name: As for `open_weights`: a path, a source's name, or `hf://owner/repository`; or what
            `open_weights` returned.
        net: The net, for names of sources: `from_pretrained("torchvision/v2", "resnet50")`.
        include_top: Whether the net ends in the classifier.
        classifier_activation: Of the classifier; None returns logits.
        **form: More of `build`: `input_shape`, `pooling`, `features`, `name`.

    Returns:
        The net; its `preprocess` is what the weights were evaluated with.

    Raises:
        DownloadError: If a file cannot be had.
        ValueError: If the weights are of no net that this package builds, or have no classifier
            and the top is wanted.
    """
    if "classes" in form:
        raise ValueError(
            "The weights say how many classes there are: give the net another head by "
            f"`keras_resnet.finetune.with_classes`. Received: classes={form['classes']!r}"
        )
    top = include_top and not form.get("features")
    stored = None if isinstance(name, Weights) else stored_spec(os.fspath(name))
    if stored is not None and not isinstance(name, Weights):  # a `.keras` file of our own
        model = build(
            stored, include_top=include_top, classifier_activation=classifier_activation, **form
        )
        load_own(model, os.fspath(name), strict=True)
        return model
    weights = name if isinstance(name, Weights) else open_weights(name, net=net, include_top=top)
    if top and weights.classes is None:
        raise ValueError(f"{weights.name} has no classifier: take `include_top=False`")
    model = build(
        weights.spec,
        include_top=include_top,
        classes=weights.classes or weights.spec.classes,
        classifier_activation=classifier_activation,
        **form,
    )
    apply(model, weights)
    return model


def apply(model: ResNet, weights: Weights, *, strict: bool = True) -> LoadReport:
    """Sets a net's weights and preprocessing.

    Raises:
        ValueError: If they do not fit; names the nets whose shapes they have.
    """
    _check_head(model, weights)
    try:
        report = load_tensors(
            model, weights.tensors, weights.layout, source=weights.name, strict=strict
        )
    except ValueError as error:
        fits = recognize(weights.tensors, source=weights.name).variants
        told = f". Nets of these shapes: {', '.join(fits)}" if fits else ""
        raise ValueError(f"{error}{told if model.spec.name not in fits else ''}") from error
    if weights.preprocess is not None:
        model.preprocess = weights.preprocess
    return report


def load(model: ResNet, path: Path, *, strict: bool = True) -> LoadReport:
    """Loads a file of weights into a net: one of this package's, or of another library's.

    `.keras` and `.weights.h5` files of this package's nets are taken layer by layer, by name.
    Files of other libraries (safetensors; PyTorch's `.pth`, `.th`, `.bin`, read without PyTorch
    and without running anything in them; Keras's HDF5) are told by their tensors.

    Args:
        model: The net, made by `build`.
        path: The file.
        strict: Whether anything that is missing, unexpected or misshaped is an error.

    Returns:
        What was loaded and what did not fit.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged, hostile, or holds another net, also
            one of the same shapes that its library computes otherwise; the model is as it was.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    own = load_own(model, path, strict=strict)
    if own is not None:
        return own
    weights = _from_file(path, None)
    if same_shapes(model.spec, weights.spec):
        _check_function(model.spec, recognize(weights.tensors, source=path), path)
    return apply(model, weights, strict=strict)


def names_source(text: str) -> bool:
    """Whether `weights=` names a publisher, not a file or a repository of the hub."""
    if text.startswith("hf://") or os.path.isfile(text):
        return False
    # A folder called "imagenet" is the data, more often than not.
    if any(text == source.name for source in SOURCES.values()):
        return True
    if os.path.exists(text):
        return False
    return not text.endswith(
        (".keras", ".h5", ".safetensors", ".pth", ".pt", ".th", ".bin", ".tar", ".ckpt")
    )


def _from_source(source: Source, *, include_top: bool) -> Weights:
    url, digest = source.url, source.hash
    if not include_top and source.headless is not None:
        url, digest = source.headless
    name = f"{source.name.replace('/', '--')}--{url.rsplit('/', 1)[1]}"
    got = fetch(url, name=name, hash=digest)
    file = read(got.path)
    return Weights(
        f"{source.name} of {source.net}",
        source.spec,
        LAYOUTS[source.layout],
        file.tensors,
        source.preprocess,
        source.licence,
        (got,),
    )


def _from_file(path: str, net: str | ResNetSpec | None) -> Weights:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    file = read(path)
    # PyTorch's own files are read without the prefixes of DataParallel and torch.compile too.
    tensors = state_dict_of(file.tensors, source=repr(path))
    found = recognize(tensors, source=repr(path))
    assumed = _UNSEEN.get(found.layout.name, ())
    config = os.path.join(os.path.dirname(path), "config.json")
    if found.layout.name == "hf" and os.path.isfile(config):
        # What transformers keeps beside its weights says where the stride stands.
        told = hub.describe(path, hub.read_json(config), {})
        found = dataclasses.replace(found, spec=found.spec.replace(**told.changes))
        assumed = ()
    preprocess = None
    if _SPEC in file.metadata:  # written by `weights.save`
        found = dataclasses.replace(found, spec=_own_spec(file, found))
        assumed = ()
        if _PREPROCESS in file.metadata:
            preprocess = PreprocessSpec.from_dict(json.loads(file.metadata[_PREPROCESS]))
    spec = _chosen(found, path, net)
    got = Download(path=path, sha256=file.sha256, url="", verified_by="none", from_cache=True)
    sources = [each for each in _published(file) if same_shapes(each.spec, spec)]
    if sources:  # a published file under whatever name: its hash tells
        spec, preprocess = (spec if net else sources[0].spec), sources[0].preprocess
        assumed = ()
    if net is not None:
        assumed = ()
    return Weights(repr(path), spec, found.layout, tensors, preprocess, None, (got,), assumed)


def _own_spec(file: TensorFile, found: Recognized) -> ResNetSpec:
    """Returns the spec that `weights.save` wrote beside the tensors."""
    try:
        spec = ResNetSpec.from_dict(json.loads(file.metadata[_SPEC]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file.path!r} has a damaged spec in its metadata: {error}") from error
    if not same_shapes(spec, found.spec):
        raise ValueError(f"{file.path!r} holds tensors of another net than its metadata names")
    return spec.replace(classes=found.classes or spec.classes)


def _published(file: TensorFile) -> list[Source]:
    return [
        source
        for source in SOURCES.values()
        if source.hash
        and source.hash.startswith("sha256:")
        and file.sha256.startswith(source.hash.removeprefix("sha256:"))
    ]


def _chosen(found: Recognized, name: str, net: str | ResNetSpec | None) -> ResNetSpec:
    """Returns the net that was asked for where the tensors fit it, or the one that they show."""
    if net is None:
        return _named(found.spec, found)
    spec = get_spec(net)
    _check_shapes(spec, found, repr(name))
    _check_function(spec, found, name)
    return spec


def _check_shapes(spec: ResNetSpec, found: Recognized, name: str) -> None:
    if not same_shapes(spec, found.spec):
        raise ValueError(
            f"{name} does not hold {spec.name}. Nets of its shapes: "
            f"{', '.join(found.variants) or 'none of the catalog'}"
        )


def _check_function(spec: ResNetSpec, found: Recognized, name: str) -> None:
    """Refuses a net of the right shapes that the library of the tensors cannot have."""
    misfits = found.layout.misfits(spec)
    if misfits:
        raise ValueError(
            f"{name!r} has the shapes of {spec.name}, but {found.layout.library} computes "
            f"another function with them: {'; '.join(misfits)} is not its. Nets of these shapes: "
            f"{', '.join(found.variants)}"
        )


def _named(spec: ResNetSpec, found: Recognized) -> ResNetSpec:
    """Gives a recognised spec the name of the catalog's net that equals it, if there is one."""
    for name in found.variants:
        twin = VARIANTS[name]
        if twin == spec.replace(name=name, classes=twin.classes, input_size=twin.input_size):
            return spec.replace(name=name, input_size=twin.input_size)
    return spec


def hub_preprocess(name: str) -> PreprocessSpec | None:
    """Returns what a repository of the hub says of its net's preprocessing."""
    return _told(name).preprocess


def _get(name: str, file: str) -> Download:
    repository, revision = hub.parse(name)
    own = "--".join((*repository.split("/"), revision, file))
    return fetch(hub.file_url(repository, revision, file), name=own)


def _told(name: str) -> hub.HubNet:
    config = hub.read_json(_get(name, "config.json").path)
    processor = {}
    if "architecture" not in config:  # timm says all in its config
        kind = "preprocessor.json" if "class_name" in config else "preprocessor_config.json"
        try:
            processor = hub.read_json(_get(name, kind).path)
        except NotFoundError:
            processor = {}  # a repository may do without
    return hub.describe(hub.parse(name)[0], config, processor)


def _from_hub(name: str, net: str | ResNetSpec | None) -> Weights:
    told = _told(name)
    files = [_first(name, told.files)]
    tensors = dict(read(files[0].path).tensors)
    if told.head is not None:
        files.append(_get(name, told.head))
        head = read(files[1].path).tensors
        tensors.update({key: head[key] for key in head if key.startswith("predictions/")})
    found = recognize(tensors, source=name)
    found = dataclasses.replace(found, spec=found.spec.replace(**told.changes))
    spec = _named(found.spec, found)
    if net is not None:
        _check_shapes(get_spec(net), found, name)
    return Weights(name, spec, found.layout, tensors, told.preprocess, told.licence, tuple(files))


def _first(name: str, files: tuple[str, ...]) -> Download:
    for file in files[:-1]:
        try:
            return _get(name, file)
        except NotFoundError:
            continue
    return _get(name, files[-1])


def _check_head(model: ResNet, weights: Weights) -> None:
    layers = {layer.name: layer for layer in model.layers}
    if "logits" not in layers or weights.classes in (None, layers["logits"].units):
        return
    raise ValueError(
        f"{weights.name} has {weights.classes} classes, the net {layers['logits'].units}: build "
        "it with `include_top=False`, or with the weights' classes and give it another head by "
        "`keras_resnet.finetune.with_classes`"
    )
