"""Nets to evaluate: from a run, a file of weights or a published name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras_resnet
from keras_resnet import PreprocessSpec, ResNet
from keras_resnet.export.runtimes import is_exported
from keras_resnet.nets.named_weights import classifier_of
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.weights import SOURCES, open_weights
from keras_resnet.weights.rebuild import copy_weights, rebuild, without_activation
from keras_resnet.weights.resolve import names_source
from keras_resnet.weights.saved_nets import load_keras_file, stored_spec
from keras_resnet.weights.sources import find_source

from ..files import read_object
from ..pretrained import check_names_net
from ..rundir import Which, open_run
from .classes import known_classes
from .exported import FileMember, FileSettings, open_exported
from .member import Member as Member

_FOREIGN_KEYS = {"architecture", "architectures", "pretrained_cfg", "model_type", "class_name"}
_ENDINGS = (".keras", ".h5", ".safetensors", ".pth", ".pt", ".th", ".bin", ".tar", ".ckpt")


def names_run(text: str) -> bool:
    """Whether RUN is a run's directory rather than a file or a published name."""
    path = Path(text)
    config = path / "config.json"
    if is_exported(path):
        return False
    if config.is_file():  # also in folders of timm, transformers and KerasHub, with their own keys
        return not _FOREIGN_KEYS & set(read_object(config))
    if text.startswith("hf://") or any(text == source.name for source in SOURCES.values()):
        return False
    return not path.is_file() and (path.is_dir() or not text.endswith(_ENDINGS))


def open_member(
    text: str,
    *,
    checkpoint: Which = "auto",
    net: str | None = None,
    default_net: bool = False,
    file: FileSettings | None = None,
) -> Member:
    """Opens a net.

    Args:
        text: A run's directory, a file of weights, `hf://owner/repository`, the name of published
            weights, or an exported file: LiteRT, ONNX, or a SavedModel directory.
        checkpoint: Which weights of a run.
        net: The net, for published names.
        default_net: Whether a published name without `net` stands for the first net of `SOURCES`
            that has such weights; a note says so.
        file: What the user states of an exported file; None where such files are not taken.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If it is damaged, has no classifier, or nothing says how its images are
            prepared.
    """
    if names_run(text):
        run = open_run(Path(text), checkpoint)
        return Member(text, run.spec, run.preprocess, run.model, run.weights, run.class_names, run)
    if checkpoint != "auto":
        raise ValueError(f"`--checkpoint` applies to runs. Received: {checkpoint}, for {text!r}")
    if is_exported(text):
        if net is not None:
            raise ValueError(f"{text!r} is an exported file: leave out --model. Received: {net}")
        if file is None:
            raise ValueError(
                f"{text!r} is an exported file, whose graph cannot be changed: give the run or the "
                "weights that it was made from. `evaluate`, `predict` and `latency` take it"
            )
        return open_exported(text, file)
    own = stored_spec(text) is not None
    if own and net is not None:
        raise ValueError(f"{text!r} says which net it is: leave out --model. Received: {net}")
    member = _own_member(text) if own else _published(text, net, default_net=default_net)
    _check_size(member)
    return member


def _stated(text: str, model: ResNet) -> PreprocessSpec:
    """Returns the preprocessing that a net states."""
    if not isinstance(model.preprocess, PreprocessSpec):
        raise ValueError(
            f"{text!r} does not say how its images are prepared: set `model.preprocess` to a "
            "PreprocessSpec and save the model again"
        )
    return model.preprocess


def _own_member(text: str) -> Member:
    """Opens a file of this package."""
    model, path = _own(text), Path(text)
    preprocess = _stated(text, model)
    return Member(text, model.spec, preprocess, model, path.name, _names_beside(path))


def _published(text: str, net: str | None, *, default_net: bool) -> Member:
    """Opens weights of other libraries."""
    notes = []
    if net is None and names_source(text):
        if not default_net or not any(text == source.name for source in SOURCES.values()):
            check_names_net(text, "--model")
        net = find_source(text).net
        notes.append(f"{text} is taken for {net}'s; --model names another net")
    found = open_weights(text, net=net)
    if found.assumed:
        notes.append(
            f"{text} does not state {', '.join(found.assumed)}: taken as {found.layout.library} "
            "usually has them"
        )
    with dtype_policy("float32"):
        model = keras_resnet.from_pretrained(
            found, input_shape=(None, None, found.spec.input_channels)
        )
    weights = Path(text).name if Path(text).is_file() else text
    names = known_classes(found.layout.name)
    preprocess = _stated(text, model)
    return Member(text, model.spec, preprocess, model, weights, names, notes=tuple(notes))


def fully_convolutional(member: Member) -> Member:
    """Returns the same net for images of any size; its global pooling adapts to the feature map.

    Raises:
        ValueError: If the net has layers that `build` does not create.
    """
    if member.input_size == (None, None):
        return member
    model = member.model
    if isinstance(member, FileMember):
        raise ValueError(
            "`--views multi-scale` needs a net that takes images of any size. Received: "
            f"{member.name}, which takes {' x '.join(map(str, member.input_size))}"
        )
    spec = member.spec.replace(norm_sync=False)
    shape = (None, None, member.channels)
    try:
        twin = rebuild(model, spec=spec, shape=shape, dtype="float32")
    except (TypeError, ValueError) as error:
        message = f"`--views multi-scale` needs a net as `build` makes it: {error}"
        raise ValueError(message) from error
    copy_weights(model, twin)
    return dataclasses.replace(member, model=twin)


def _own(path: str) -> ResNet:
    """Loads a `.keras` file of this package, without the activation of its classifier."""
    model = load_keras_file(path)
    if not isinstance(model, ResNet) or classifier_of(model) is None:
        raise ValueError(f"{path!r} has no classifier as this package builds it, so no classes")
    return without_activation(model)


def _names_beside(path: Path) -> tuple[str, ...] | None:
    """Returns the classes of the run whose directory a `.keras` file is in."""
    if path.name != "model.keras" or not (path.parent / "config.json").is_file():
        return None
    facts = path.parent / "dataset.json"
    names = read_object(facts).get("class_names") if facts.is_file() else None
    if names is not None and not isinstance(names, list):
        raise ValueError(f"{facts} is damaged: its class_names are no list")
    return None if names is None else tuple(map(str, names))


def _check_size(member: Member) -> None:
    wanted = member.model.inputs[0].shape[1:3]
    given = member.preprocess.size
    if any(side not in (None, made) for side, made in zip(wanted, given, strict=True)):
        raise ValueError(
            f"The net of {member.name!r} takes images of {wanted[0]} x {wanted[1]} pixels, and its "
            f"`preprocess` makes them {given[0]} x {given[1]}"
        )
