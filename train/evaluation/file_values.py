"""What goes into an exported file and what comes out: stated by it, by the user, or assumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet.export.runtimes import Runtime
from keras_resnet.export.stated import Stated
from keras_resnet.preprocessing import Interpolation

Values = Literal["raw", "unit", "tf", "torch", "caffe"]
Outputs = Literal["logits", "probabilities"]

# What a file takes for pixels of 0..255: mean, standard deviation and order of the channels. The
# last three are the modes of `keras.applications.imagenet_utils.preprocess_input`.
_MODES: dict[str, tuple[tuple[float, ...], tuple[float, ...], Literal["rgb", "bgr"]]] = {
    "unit": ((0.0,), (255.0,), "rgb"),
    "tf": ((127.5,), (127.5,), "rgb"),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb"),
    "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bgr"),
}
# What a file of this package returns, by its activation.
_RETURNS = {"none": "logits", "softmax": "probabilities", "sigmoid": "sigmoids"}
_PROBABILITY_STEP = 1 / 256  # of the output of a quantised softmax, in LiteRT's specification
_STATE = "--inputs, or --mean and --std, state other values"


@dataclasses.dataclass(frozen=True)
class FileSettings:
    """What a user states of an exported file that does not say it.

    Attributes:
        inputs: The values it takes: pixels of 0..255 (`raw`; of type int8 they are pixel - 128),
            0..1 (`unit`), or a mode of `keras.applications`: `tf` (-1..1), `torch` (ImageNet's mean
            and standard deviation), `caffe` (BGR minus ImageNet's means).
        mean: Mean of each channel, in pixel values; in place of `inputs`.
        std: Standard deviation of each channel, in pixel values.
        image_size: Height and width, for a file that takes any.
        crop_fraction: Share of the image's shorter side that is kept.
        interpolation: Method of resizing.
        outputs: Whether it returns logits or probabilities.
    """

    inputs: Values | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: tuple[int, int] | None = None
    crop_fraction: float | None = None
    interpolation: Interpolation | None = None
    outputs: Outputs | None = None

    def __post_init__(self) -> None:
        """Checks that the values are stated once."""
        if (self.mean is None) != (self.std is None):
            raise ValueError("`--mean` and `--std` need each other. Received: one of them")
        if self.mean is not None and self.inputs is not None:
            raise ValueError(
                "`--inputs` and `--mean` with `--std` state the same: give one of them. "
                f"Received: --inputs {self.inputs} and --mean {self.mean}"
            )

    @property
    def given(self) -> bool:
        """Whether anything is stated."""
        return any(value is not None for value in dataclasses.astuple(self))

    @property
    def states_values(self) -> bool:
        """Whether the values that the file takes are stated."""
        return self.inputs is not None or self.mean is not None


def preprocess_of(
    path: Path,
    runtime: Runtime,
    size: tuple[int, int],
    says: Stated,
    settings: FileSettings,
    notes: list[str],
) -> PreprocessSpec:
    """Returns the preprocessing, and sets whether the runtime normalises."""
    base = says.preprocess or PreprocessSpec(size)
    given: dict[str, Any] = {
        name: value
        for name in ("crop_fraction", "interpolation")
        if (value := getattr(settings, name)) is not None
    }
    base = dataclasses.replace(base, size=size, **given)
    if says.preprocess is None and not given:
        notes.append(
            f"{path.name} does not state how images are resized: bilinear, the largest central "
            "part (--crop-fraction and --interpolation state others)"
        )
    channels = int(runtime.input.shape[-1] or 0)
    if settings.states_values:
        if runtime.own and (runtime.input.mode == "raw" or says.preprocess is not None):
            raise ValueError(
                f"{path} states what it takes ({runtime.input.name}): leave out --inputs, --mean "
                "and --std"
            )
        return _stated_by_user(path, runtime, base, settings, channels)
    if runtime.own and runtime.input.mode == "raw":
        return base
    if runtime.own and says.preprocess is not None:
        return base
    if says.mean is not None and says.std is not None and runtime.input.dtype != "uint8":
        _normalized(runtime)
        return _with_values(path, base, says.mean, says.std, channels)
    if runtime.own:
        raise ValueError(
            f"{path} takes normalised values, and neither a manifest.json beside it nor its "
            "metadata says how: give --mean and --std, or --inputs"
        )
    if runtime.input.dtype == "int16":
        raise ValueError(f"{path} takes int16 values and does not say which: give --inputs")
    taken = {"uint8": "pixels", "int8": "pixel - 128"}.get(
        runtime.input.dtype, "pixel values 0..255"
    )
    notes.append(f"{path.name} does not state the values that it takes: {taken} ({_STATE})")
    return base


def _stated_by_user(
    path: Path, runtime: Runtime, base: PreprocessSpec, settings: FileSettings, channels: int
) -> PreprocessSpec:
    if settings.inputs == "raw":
        return base
    if np.dtype(runtime.input.dtype).kind in "iu" and runtime.input.scale is None:
        raise ValueError(
            f"{path} takes {runtime.input.dtype} without a scale, so pixels: leave out --inputs, "
            "--mean and --std"
        )
    _normalized(runtime)
    if settings.inputs is not None:
        mean, std, order = _MODES[settings.inputs]
        base = dataclasses.replace(base, channel_order=order)
        return _with_values(path, base, mean, std, channels)
    return _with_values(path, base, settings.mean or (), settings.std or (), channels)


def _with_values(
    path: Path,
    base: PreprocessSpec,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    channels: int,
) -> PreprocessSpec:
    if len(mean) not in (1, channels) or len(mean) != len(std):
        raise ValueError(
            f"The normalisation of {path} needs one value, or one per channel ({channels}). "
            f"Received: mean={mean}, std={std}"
        )
    return dataclasses.replace(base, mean=mean, std=std)


def _normalized(runtime: Runtime) -> None:
    runtime.input = dataclasses.replace(runtime.input, mode="normalized")


def returns_of(
    path: Path, runtime: Runtime, probe: np.ndarray, settings: FileSettings, notes: list[str]
) -> str:
    """Returns whether a file returns logits, probabilities or independent probabilities."""
    known = _RETURNS[runtime.activation]
    if settings.outputs is not None:
        given = known if known == "sigmoids" and settings.outputs == "probabilities" else None
        if runtime.own and settings.outputs != known and given is None:
            stated = "probabilities" if known == "sigmoids" else known
            raise ValueError(
                f"`--outputs` must be {stated}, which {path} states. Received: {settings.outputs}"
            )
        return given or settings.outputs
    if runtime.own:
        return known
    last = runtime.last_operator
    sums = np.abs(probe.sum(axis=1) - 1).max()
    if last == "softmax" or runtime.output_scale == _PROBABILITY_STEP:
        found, cause = "probabilities", "it ends in a softmax"
    elif last in ("logistic", "sigmoid"):
        found, cause = "sigmoids", "it ends in a sigmoid"
    elif probe.min() >= 0 and sums < 1e-3:
        found, cause = "probabilities", "they are not negative and their sum is 1"
    else:
        found, cause = "logits", "they do not sum to 1"
    words = {"sigmoids": "probabilities of independent labels"}.get(found, found)
    notes.append(f"the outputs of {path.name} are taken for {words}, as {cause} (--outputs)")
    return found
