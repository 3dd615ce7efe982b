"""Nets to evaluate: from a run, a file of weights or a published name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import keras_resnet
from keras_resnet import PreprocessSpec, ResNet, ResNetSpec
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.weights import SOURCES, open_weights
from keras_resnet.weights.rebuild import copy_weights, rebuild, without_activation
from keras_resnet.weights.resolve import names_source
from keras_resnet.weights.saved_nets import load_keras_file, stored_spec
from keras_resnet.weights.sources import find_source

from ..data.decoding import STANDARD, Decoding
from ..files import read_json
from ..pretrained import check_names_net
from ..rundir import Run, Which, open_run
from .classes import known_classes

_FOREIGN_KEYS = {"architecture", "architectures", "pretrained_cfg", "model_type", "class_name"}
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
        notes: What was assumed, for the user.
    """

    name: str
    spec: ResNetSpec
    preprocess: PreprocessSpec
    model: Any
    weights: str
    class_names: tuple[str, ...] | None = None
    run: Run | None = None
    notes: tuple[str, ...] = ()

    @property
    def decoding(self) -> Decoding:
        """How image files become pixels: as in the run's training."""
        if self.run is None:
            return STANDARD
        config = self.run.config.data
        return Decoding(config.orientation == "exif", config.decoding == "accurate")

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels: each output is then a label of its own."""
        return self.run is not None and self.run.config.data.task == "multilabel"

    @property
    def thresholds(self) -> np.ndarray:
        """Probability of each output above which an image has that label.

        They were chosen on the run's validation images; 1/2 where there were none.
        """
        metrics = {} if self.run is None else self.run.directory.metrics
        for split in ("validation", "test"):
            stored = metrics.get(split, {}).get("thresholds")
            if stored is not None and len(stored) == self.classes:
                return np.asarray(stored, "float64")
        return np.full(self.classes, 0.5)

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
    config = path / "config.json"
    if config.is_file():  # also in folders of timm, transformers and KerasHub, with their own keys
        return not _FOREIGN_KEYS & set(read_json(config))
    if text.startswith("hf://") or any(text == source.name for source in SOURCES.values()):
        return False
    return not path.is_file() and (path.is_dir() or not text.endswith(_ENDINGS))


def open_member(
    text: str, *, checkpoint: Which = "auto", net: str | None = None, default_net: bool = False
) -> Member:
    """Opens a net.

    Args:
        text: A run's directory, a file of weights, `hf://owner/repository`, or the name of
            published weights.
        checkpoint: Which weights of a run.
        net: The net, for published names.
        default_net: Whether a published name without `net` stands for the first net of `SOURCES`
            that has such weights; a note says so.

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
    model = load_keras_file(path)
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
