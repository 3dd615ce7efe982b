"""Nets to evaluate: from a run, a file of weights or a published name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras

import keras_resnet
from keras_resnet import PreprocessSpec, ResNet, ResNetSpec
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.weights import SOURCES, open_weights
from keras_resnet.weights.rebuild import copy_weights, rebuild, without_activation
from keras_resnet.weights.saved_nets import stored_spec

from ..files import read_json
from ..rundir import Run, Which, open_run
from .classes import known_classes

_ENDINGS = (".keras", ".h5", ".safetensors", ".pth", ".pt", ".th", ".bin", ".tar", ".ckpt")


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """A net to evaluate, with its preprocessing and classes.

    Attributes:
        name: Name that the user gave.
        spec: Its spec.
        preprocess: Its preprocessing.
        model: Returns logits, `(batch, classes)`.
        weights: Description of its weights.
        class_names: Names of its outputs, in order; None if unknown.
        run: The run that it comes from, or None.
    """

    name: str
    spec: ResNetSpec
    preprocess: PreprocessSpec
    model: Any
    weights: str
    class_names: tuple[str, ...] | None = None
    run: Run | None = None

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return int(self.model.inputs[0].shape[-1])

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return int(self.model.outputs[0].shape[-1])

    def __str__(self) -> str:
        """Returns a description of the net and its weights."""
        return f"{self.spec.name} ({self.weights})"


def names_run(text: str) -> bool:
    """Whether RUN is a run's directory rather than a file or a published name."""
    path = Path(text)
    if (path / "config.json").is_file():
        return True
    if text.startswith("hf://") or any(text == source.name for source in SOURCES.values()):
        return False
    return not path.is_file() and (path.is_dir() or not text.endswith(_ENDINGS))


def open_member(text: str, *, checkpoint: Which = "auto", net: str | None = None) -> Member:
    """Opens a net.

    Args:
        text: A run's directory, a file of weights, `hf://owner/repository`, or the name of
            published weights.
        checkpoint: Which weights of a run.
        net: The net, for published names.

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
    layout = ""
    if stored_spec(text) is not None:
        model = _own(text)
        names = _names_beside(Path(text))
        weights = Path(text).name
    else:
        found = open_weights(text, net=net)
        with dtype_policy("float32"):
            model = keras_resnet.from_pretrained(
                found, input_shape=(None, None, found.spec.input_channels)
            )
        layout, weights = found.layout.name, Path(text).name if Path(text).is_file() else text
        names = None
    if not model.preprocess:
        raise ValueError(
            f"{text!r} does not say how its images are prepared: set `model.preprocess` to a "
            "PreprocessSpec and save the model anew"
        )
    member = Member(text, model.spec, model.preprocess, model, weights, names)
    _check_size(member)
    if names is None:
        member = dataclasses.replace(member, class_names=known_classes(layout))
    return member


def fully_convolutional(member: Member) -> Member:
    """Returns the same net for images of any size; its global pooling adapts to the feature map.

    Raises:
        ValueError: If the net has layers that `build` does not create.
    """
    model = member.model
    if model.inputs[0].shape[1:3] == (None, None):
        return member
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
    try:
        model = keras.saving.load_model(path, compile=False)
    except (OSError, KeyError, ValueError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ValueError(f"{path!r} is no readable `.keras` file: {line}") from error
    if not isinstance(model, ResNet) or model.layers[-1].name not in ("logits", "predictions"):
        raise ValueError(f"{path!r} has no classifier as this package builds it, so no classes")
    return without_activation(model)


def _names_beside(path: Path) -> tuple[str, ...] | None:
    """Returns the classes of the run whose directory a `.keras` file is in."""
    if path.name != "model.keras" or not (path.parent / "config.json").is_file():
        return None
    facts = path.parent / "dataset.json"
    names = read_json(facts).get("class_names") if facts.is_file() else None
    return None if names is None else tuple(names)


def _check_size(member: Member) -> None:
    wanted = member.model.inputs[0].shape[1:3]
    given = member.preprocess.size
    if any(side not in (None, made) for side, made in zip(wanted, given, strict=True)):
        raise ValueError(
            f"The net of {member.name!r} takes images of {wanted[0]} x {wanted[1]} pixels, and its "
            f"`preprocess` makes them {given[0]} x {given[1]}"
        )
