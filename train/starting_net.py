"""The net that a run starts from, fitted to its data."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import keras

from keras_resnet import PreprocessSpec
from keras_resnet.finetune import with_input_channels
from keras_resnet.nets.named_weights import classifier_of
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.quantize import is_quantize_aware
from keras_resnet.weights.rebuild import HEAD, copy_weights

from .config import RunConfig
from .data import ImageData
from .data.walk import counted
from .files import read_json
from .pretrained import Pretrained
from .rundir import RunDirectory

if TYPE_CHECKING:
    from keras_resnet.nets.model import ResNet


@dataclasses.dataclass(frozen=True, eq=False)
class StartingNet:
    """The net of published weights, or of another run, for the images of a run.

    Attributes:
        net: The net in float32, with the channels and the size of the images; None where a
            checkpoint has the weights.
        keeps_head: Whether its classifier is that of the data's classes.
        preprocess: The preprocessing of the run.
        changes: What was changed, for people.
    """

    net: ResNet | None
    keeps_head: bool
    preprocess: PreprocessSpec
    changes: tuple[str, ...]

    def assign(self, model: ResNet) -> None:
        """Copies the weights to a run's model, whose classifier is new unless `keeps_head`."""
        if self.net is not None:
            copy_weights(self.net, model, skip=() if self.keeps_head else HEAD)


def stated_preprocess(config: RunConfig, pretrained: Pretrained) -> PreprocessSpec | None:
    """Returns the preprocessing of weights, with the mean and deviation that the user gave.

    Args:
        config: The run, after `with_pretrained`.
        pretrained: The weights.
    """
    preprocess, mean, std = pretrained.preprocess, config.data.mean, config.data.std
    if preprocess is None or mean is None or std is None:
        return preprocess
    return dataclasses.replace(preprocess, mean=mean, std=std)


def starting_net(
    config: RunConfig,
    pretrained: Pretrained,
    data: ImageData,
    preprocess: PreprocessSpec,
    directory: RunDirectory,
) -> StartingNet:
    """Builds the net of the weights for the images of a run.

    Args:
        config: The run, after `with_pretrained`.
        pretrained: The weights.
        data: The data of the run.
        preprocess: Size and crop of the run's images; all of it where the weights state none.
        directory: The run, for its preprocessing where it resumes.

    Raises:
        ValueError: If the net cannot take such images.
    """
    keeps_head = pretrained.class_names == data.class_names
    if pretrained.open is None:
        record = read_json(directory.path / "dataset.json")
        recorded = PreprocessSpec.from_dict(record["preprocessing"])
        return StartingNet(None, keeps_head, recorded, ())
    classes = len(data.class_names)
    changes: list[str] = []
    with dtype_policy("float32"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = pretrained.open(preprocess.size)
        _check_float(pretrained, net)
        old = net.inputs[0].shape[-1]
        if data.channels != old:
            net = with_input_channels(net, data.channels)
            changes.append(f"{data.channels} input channels made from {old}")
    if config.quantize.enabled:
        keeps_head, head = _check_head(pretrained, net, data), "its classifier"
        if pretrained.class_names is None:
            head += f", whose {classes} outputs are taken for the data's classes in their order"
    else:
        head = "its classifier" if keeps_head else f"a new classifier of {classes} classes"
    changes.insert(0, head)
    changes += [str(warning.message) for warning in caught if warning.category is UserWarning]
    return StartingNet(
        net, keeps_head, _fitted(config, pretrained, net, preprocess, data), tuple(changes)
    )


def _check_float(pretrained: Pretrained, net: ResNet) -> None:
    """Checks that a net to start from has its norms and no ranges.

    Raises:
        ValueError: If it is quantise-aware.
    """
    if is_quantize_aware(net):
        raise ValueError(
            f"{pretrained.source!r} is quantise-aware already. Start from the float net that it "
            "was trained from, or give its own command again to resume it"
        )


def _check_head(pretrained: Pretrained, net: ResNet, data: ImageData) -> bool:
    """Checks that the weights of a quantise-aware run are trained for its classes.

    Raises:
        ValueError: If they are not.
    """
    names, count = pretrained.class_names, int(net.outputs[0].shape[-1])
    if (names is not None and names != data.class_names) or count != len(data.class_names):
        raise ValueError(
            f"`--quantize` keeps the classifier, so the weights must be trained on the data's "
            f"{len(data.class_names)} classes: fine-tune them without --quantize first. Received: "
            f"{pretrained.source!r} with {count} outputs"
            + ("" if names is None else f" ({', '.join(names[:4])}, ...)")
        )
    return True


def _fitted(
    config: RunConfig,
    pretrained: Pretrained,
    net: ResNet,
    preprocess: PreprocessSpec,
    data: ImageData,
) -> PreprocessSpec:
    """Returns the preprocessing with values for each channel of the images."""
    if pretrained.preprocess is None or not net.preprocess:
        return preprocess
    fitted = dataclasses.replace(
        net.preprocess, size=preprocess.size, crop_fraction=preprocess.crop_fraction
    )
    mean, std = config.data.mean, config.data.std
    if mean is None or std is None or mean == pretrained.preprocess.mean:
        return fitted
    if len(mean) not in (1, data.channels):
        raise ValueError(
            f"`data.mean` needs one value per channel ({data.channels}). Received: {mean}"
        )
    return dataclasses.replace(fitted, mean=mean, std=std)


def describe_start(config: RunConfig, pretrained: Pretrained, start: StartingNet) -> str:
    """Returns one line that says what a run starts from, and what was changed."""
    parts = list(start.changes)
    if config.model.freeze == "all":
        parts.append("all but the classifier frozen, norms included")
    elif config.model.freeze is not None:
        stages = int(config.model.freeze)
        frozen = "the stem" + (f" and {counted(stages, 'stage')}" if stages else "")
        parts.append(f"{frozen} frozen, norms included")
    given = start.preprocess
    height, width = given.size
    order = "grey" if len(given.mean) == 1 else given.channel_order.upper()
    images = f"images {height} x {width}, {order}, {given.interpolation}"
    values = ", ".join(f"{value:.4g}" for value in given.mean)
    deviations = ", ".join(f"{value:.4g}" for value in given.std)
    origin = (
        "the weights'" if pretrained.preprocess is not None else "measured: the weights have no"
    )
    parts.append(
        f"{images}, crop {given.crop_fraction:.4g}, {origin} mean ({values}) and standard "
        f"deviation ({deviations})"
    )
    return f"Starts from {pretrained.described}: {'; '.join(parts)}"


def draw_classifier(model: Any, std: float, seed: int) -> None:
    """Draws the kernel of the classifier from a normal distribution; its bias does not change.

    Source: Goyal et al. 2017 (arXiv:1706.02677), section 5.1, with a deviation of 0.01.
    """
    head = classifier_of(model)
    if head is None:
        raise ValueError(f"{model.name!r} has no classifier")
    draw = keras.initializers.RandomNormal(0.0, std, seed=seed)
    head.kernel.assign(draw(head.kernel.shape))
