"""`ResNet50(...)` and its sisters, with the arguments of keras.applications."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from keras_resnet.nets.catalog import VARIANTS
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.network import Pooling, build
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.weights import pretrained
from keras_resnet.weights.saved_nets import stored_spec
from keras_resnet.weights.sources import SOURCES, find_source


class Application(Protocol):
    """A function that builds one net of the catalog."""

    __name__: str

    def __call__(  # noqa: D102
        self,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: Pooling | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
    ) -> ResNet: ...


_DOC = """Builds {variant} with keras.applications' arguments.

    Args:
        include_top: Whether the net ends in global average pooling and the classifier.
        weights: None for random weights; the path of a file, of this package or of another
            library; or published weights: {sources}, or
            `"hf://owner/repository"`. With published weights the net computes what its
            publisher's does (stride placement, biases, eps), and `model.preprocess` is what they
            were evaluated with.
        input_tensor: A Keras tensor to use as the input.
        input_shape: `(height, width, channels)`; height and width may be None. `{default}` where
            None, and of any size without the top; at least {smallest} x {smallest} pixels, with
            any number of channels.
        pooling: Without the top: None for the feature map, or `"avg"` or `"max"` over it.
        classes: Outputs of the classifier.
        classifier_activation: Activation of the classifier; None returns logits.
        name: Name of the model.

    Returns:
        A functional Keras model.

    Raises:
        DownloadError: If published weights cannot be had.
        ValueError: If an argument has a value that the net cannot take, or the weights are of
            another net, or of another number of classes under the top.

    Source: {source}
    """


# Fields that make two nets the same of a family: others (biases, eps, where the stride stands) are
# a publisher's, and `weights=` brings them along.
_FAMILY = (
    "depths",
    "widths",
    "branch",
    "order",
    "shortcut",
    "stem",
    "groups",
    "base_width",
    "se_reduction",
)


def _same_family(one: ResNetSpec, other: ResNetSpec) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in _FAMILY)


def _open(
    spec: ResNetSpec, weights: str | os.PathLike[str], include_top: bool, classes: int
) -> pretrained.Weights | None:
    """Returns weights of another library, checked to be of this net; None for our own files."""
    if os.fspath(weights).endswith((".keras", ".weights.h5")):
        return None
    net = spec if pretrained.names_source(os.fspath(weights)) else None
    if net is not None and include_top:
        held = find_source(os.fspath(weights), spec.name).spec.classes
        if classes != held:  # said before anything is downloaded
            raise ValueError(
                f"{os.fspath(weights)!r} has {held} classes: build {spec.name} with "
                "`include_top=False`, or with them and give it another head by "
                f"`keras_resnet.finetune.with_classes`. Received: classes={classes}"
            )
    found = pretrained.open_weights(weights, net=net, include_top=include_top)
    if not _same_family(found.spec, spec):
        raise ValueError(
            f"{found.name} holds {found.describe()}, not {spec.name}: take "
            f"`keras_resnet.from_pretrained({os.fspath(weights)!r})`"
        )
    return found


def _open_shape(spec: ResNetSpec) -> tuple[int | None, ...]:
    """Returns the shape of images of any size, as keras.applications takes without the top."""
    channels = spec.input_channels
    return (channels, None, None) if channel_axis() == 1 else (None, None, channels)


def _paper(spec: ResNetSpec) -> str:
    if spec.stem_pool == "conv":
        return "Bello et al. 2021 (arXiv:2103.07579), section 3."
    if spec.se_reduction:
        return "Hu et al. 2017 (arXiv:1709.01507), section 3 and Table 1."
    if spec.shortcut == "D":
        return "He et al. 2018 (arXiv:1812.01187), Figure 2."
    if spec.groups > 1:
        return "Xie et al. 2016 (arXiv:1611.05431), Table 1."
    if spec.base_width != 64:
        return "Zagoruyko and Komodakis 2016 (arXiv:1605.07146), Table 8."
    if spec.order == "pre":
        return "He et al. 2016 (arXiv:1603.05027), section 4."
    return "He et al. 2015 (arXiv:1512.03385), Table 1."


def _application(function_name: str, variant: str) -> Application:
    spec = VARIANTS[variant]

    def application(
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: Pooling | None = None,
        classes: int = spec.classes,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
    ) -> ResNet:
        taken = None if weights is None else _open(spec, weights, include_top, classes)
        own = None if weights is None else stored_spec(os.fspath(weights))
        if own is not None and not _same_family(own, spec):
            own = None  # another net's: loading says so
        if not include_top and input_shape is None and input_tensor is None:
            input_shape = _open_shape(spec)
        model = build(
            own or (spec if taken is None else taken.spec),
            include_top=include_top,
            input_tensor=input_tensor,
            input_shape=input_shape,
            # keras.applications ignores `pooling` under the top, which pools by itself.
            pooling=None if include_top else pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name or spec.name,
        )
        if taken is not None:
            pretrained.apply(model, taken)
        elif weights is not None:
            pretrained.load(model, weights)
        return model

    application.__name__ = application.__qualname__ = function_name
    application.__doc__ = _DOC.format(
        variant=variant,
        default=(spec.input_size, spec.input_size, spec.input_channels),
        smallest=spec.smallest_input,
        sources=", ".join(f'`"{each.name}"`' for each in SOURCES.values() if each.net == variant)
        or "none of this net",
        source=_paper(spec),
    )
    return application


ResNet18 = _application("ResNet18", "resnet18")
ResNet34 = _application("ResNet34", "resnet34")
ResNet50 = _application("ResNet50", "resnet50")
ResNet101 = _application("ResNet101", "resnet101")
ResNet152 = _application("ResNet152", "resnet152")
ResNet200 = _application("ResNet200", "resnet200")
ResNet18V2 = _application("ResNet18V2", "resnet18v2")
ResNet34V2 = _application("ResNet34V2", "resnet34v2")
ResNet50V2 = _application("ResNet50V2", "resnet50v2")
ResNet101V2 = _application("ResNet101V2", "resnet101v2")
ResNet152V2 = _application("ResNet152V2", "resnet152v2")
ResNet200V2 = _application("ResNet200V2", "resnet200v2")
ResNet18D = _application("ResNet18D", "resnet18d")
ResNet34D = _application("ResNet34D", "resnet34d")
ResNet50D = _application("ResNet50D", "resnet50d")
ResNet101D = _application("ResNet101D", "resnet101d")
ResNet152D = _application("ResNet152D", "resnet152d")
ResNet200D = _application("ResNet200D", "resnet200d")
ResNeXt50_32x4d = _application("ResNeXt50_32x4d", "resnext50_32x4d")
ResNeXt101_32x8d = _application("ResNeXt101_32x8d", "resnext101_32x8d")
ResNeXt101_64x4d = _application("ResNeXt101_64x4d", "resnext101_64x4d")
WideResNet50_2 = _application("WideResNet50_2", "wide_resnet50_2")
WideResNet101_2 = _application("WideResNet101_2", "wide_resnet101_2")
SEResNet50 = _application("SEResNet50", "seresnet50")
SEResNet101 = _application("SEResNet101", "seresnet101")
SEResNet152 = _application("SEResNet152", "seresnet152")
SEResNeXt50_32x4d = _application("SEResNeXt50_32x4d", "seresnext50_32x4d")
SEResNeXt101_32x4d = _application("SEResNeXt101_32x4d", "seresnext101_32x4d")
ResNetRS50 = _application("ResNetRS50", "resnetrs50")
ResNetRS101 = _application("ResNetRS101", "resnetrs101")
ResNetRS152 = _application("ResNetRS152", "resnetrs152")
ResNetRS200 = _application("ResNetRS200", "resnetrs200")
ResNetRS270 = _application("ResNetRS270", "resnetrs270")
ResNetRS350 = _application("ResNetRS350", "resnetrs350")
ResNetRS420 = _application("ResNetRS420", "resnetrs420")
