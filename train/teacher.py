"""Distillation: a trained net whose outputs a run learns from."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet import PreprocessSpec, from_pretrained
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.weights.saved_nets import load_keras_file, read_saved

from .config import LossConfig
from .data import ImageData
from .files import read_json, write_json
from .pretrained import check_names_net
from .remote.weights import weights_at_hand
from .rundir import open_run

RECORD = "teacher.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen net in inference mode, which takes the images of a run and returns logits.

    It sees the crops and the mixtures of the training images that the student sees.

    Source: Hinton et al. 2015 (arXiv:1503.02531), section 2; Beyer et al. 2022 (arXiv:2106.05237),
    section 3.1 (the same crop for teacher and student).

    Args:
        model: The net, in float32.
        preprocess: The preprocessing that it takes; None takes the student's images.
        student: The preprocessing of the run's images.
        source: What `loss.teacher` says.

    Example:
        >>> teacher = open_teacher(config.loss, data, preprocess)
        >>> logits = teacher(images)  # normalized for the student
    """

    model: Any
    preprocess: PreprocessSpec | None
    student: PreprocessSpec
    source: str

    def __call__(self, images: Any) -> Any:
        """Returns float32 logits `(batch, classes)` of normalized training images."""
        import tensorflow as tf

        outputs = tf.cast(self.model(self.convert(images), training=False), tf.float32)
        if self._gives_probabilities:
            outputs = tf.math.log(tf.maximum(outputs, 1e-30))
        return tf.stop_gradient(outputs)

    def convert(self, images: Any) -> Any:
        """Returns the student's images, normalized and sized for the teacher."""
        import tensorflow as tf

        images = tf.cast(images, tf.float32)
        if self.preprocess is not None:
            factor, shift = self._factor_and_shift()
            if self.preprocess.channel_order != self.student.channel_order:
                images = images[..., ::-1]
            if np.any(factor != 1) or np.any(shift != 0):
                images = images * factor.astype("float32") + shift.astype("float32")
        size = tuple(self.model.inputs[0].shape[1:3])
        if None in size or size == tuple(images.shape[1:3]):
            return images
        return tf.image.resize(images, size, antialias=True)

    @property
    def identity(self) -> str:
        """SHA-256 of the names, shapes and values of all weights."""
        digest = hashlib.sha256()
        for variable in self.model.weights:
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
            digest.update(f"{variable.name} {value.dtype} {value.shape}".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def record(self, run: Path) -> None:
        """Writes `teacher.json` to a run; a run that resumes must have the same teacher.

        Raises:
            ValueError: If the run began with other weights.
        """
        path, identity = run / RECORD, self.identity
        if path.is_file():
            began = read_json(path)
            if began["sha256"] != identity:
                raise ValueError(
                    f"The teacher {self.source!r} is not the one that the run began with: SHA-256 "
                    f"of its weights {identity[:12]}, not {began['sha256'][:12]}. Choose another "
                    "--output"
                )
            return
        preprocess = self.preprocess and self.preprocess.to_dict()
        values = {"source": self.source, "net": self.model.name, "sha256": identity}
        write_json(path, {**values, "preprocessing": preprocess})

    @property
    def description(self) -> str:
        """The net, its source, hash and input in one line."""
        taken = "the run's normalized images"
        if self.preprocess is not None:
            taken = f"mean {_numbers(self.preprocess.mean)}, std {_numbers(self.preprocess.std)}"
        size = self.model.inputs[0].shape[1:3]
        return (
            f"Teacher: {self.model.name} of {self.source}, SHA-256 of its weights "
            f"{self.identity[:12]}; takes {taken}, {size[0]} x {size[1]} pixels, in float32"
        )

    @property
    def _gives_probabilities(self) -> bool:
        last = self.model.layers[-1]
        activation = getattr(last, "activation", None)
        return activation is keras.activations.softmax or isinstance(last, keras.layers.Softmax)

    def _factor_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns `a` and `b` of the conversion `a x + b`, in the teacher's channel order."""
        assert self.preprocess is not None
        flipped = self.preprocess.channel_order != self.student.channel_order
        step = -1 if flipped else 1
        mean, std = (
            np.asarray(values, "float64")[::step]
            for values in (self.student.mean, self.student.std)
        )
        own_mean, own_std = np.asarray(self.preprocess.mean), np.asarray(self.preprocess.std)
        return std / own_std, (mean - own_mean) / own_std


def open_teacher(config: LossConfig, data: ImageData, student: PreprocessSpec) -> Teacher | None:
    """Opens the teacher of a run, or returns None; call it in the strategy's scope.

    Args:
        config: The loss: `teacher`, `teacher_net` and `teacher_input`.
        data: The run's data, for its classes and channels.
        student: The preprocessing of the run's images.

    Raises:
        FileNotFoundError: If there is no such run or file.
        ValueError: If its classes or channels are not the data's, or if a Keras model does not
            state its preprocessing and `loss.teacher_input` does not either.
    """
    if config.teacher is None:
        return None
    with dtype_policy("float32"):
        model, preprocess, names = _open(weights_at_hand(config.teacher), config.teacher_net)
    model.trainable = False
    if config.teacher_input == "pixels":
        preprocess = PreprocessSpec(student.size)
    elif config.teacher_input == "normalized":
        preprocess = None
    elif preprocess is None:
        raise ValueError(
            f"{config.teacher!r} does not state its preprocessing. Give `loss.teacher_input`: "
            "'pixels' (0..255) or 'normalized' (as the run's images)"
        )
    _check(model, names, data, config.teacher)
    return Teacher(model, preprocess, student, config.teacher)


def _open(
    source: str, net: str | None
) -> tuple[Any, PreprocessSpec | None, tuple[str, ...] | None]:
    """Returns the net of a run, a file or a published name, its preprocessing and classes."""
    path = Path(source)
    if (path / "config.json").is_file():
        run = open_run(path)
        return run.model, run.preprocess, run.class_names
    if path.is_file() and path.suffix == ".keras" and read_saved(source) is None:
        model = load_keras_file(path)
        return model, getattr(model, "preprocess", None) or None, None
    if net is None:
        check_names_net(source, "loss.teacher_net")
    model = from_pretrained(source, net)
    return model, model.preprocess or None, None


def _check(model: Any, names: tuple[str, ...] | None, data: ImageData, source: str) -> None:
    outputs, classes = model.outputs[0].shape[-1], len(data.class_names)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"The teacher {source!r} needs one input and one output")
    if outputs != classes:
        raise ValueError(
            f"The teacher {source!r} must have the data's {classes} classes. Received: {outputs}"
        )
    if names is not None and names != data.class_names:
        raise ValueError(
            f"The teacher {source!r} must have the data's classes in their order: "
            f"{', '.join(names[:4])} ... against {', '.join(data.class_names[:4])} ..."
        )
    channels = model.inputs[0].shape[-1]
    if channels != data.channels:
        raise ValueError(
            f"The teacher {source!r} takes {channels} channel(s), and the data has {data.channels}"
        )


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
