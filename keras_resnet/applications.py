"""`ResNet50(...)` and its sisters, with the arguments of keras.applications."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from keras_resnet import weights as weights_io
from keras_resnet.catalog import VARIANTS
from keras_resnet.model import ResNet
from keras_resnet.network import Pooling, build


class Application(Protocol):
    """A function that builds one net of the catalog."""

    __name__: str

    def __call__(  # noqa: D102, PLR0913
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
        weights: None for random weights, or the path of a `.weights.h5` or `.keras` file.
        input_tensor: A Keras tensor to use as the input.
        input_shape: `(height, width, channels)`; height and width may be None. `{default}` where
            None; at least {smallest} x {smallest} pixels, with any number of channels.
        pooling: Without the top: None for the feature map, or `"avg"` or `"max"` over it.
        classes: Outputs of the classifier.
        classifier_activation: Activation of the classifier; None returns logits.
        name: Name of the model.

    Returns:
        A functional Keras model.

    Raises:
        ValueError: If an argument has a value that the net cannot take.

    Source: He et al. {source}
    """


def _application(function_name: str, variant: str) -> Application:
    spec = VARIANTS[variant]

    def application(  # noqa: PLR0913
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: Pooling | None = None,
        classes: int = spec.classes,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
    ) -> ResNet:
        model = build(
            spec,
            include_top=include_top,
            input_tensor=input_tensor,
            input_shape=input_shape,
            # keras.applications ignores `pooling` under the top, which pools by itself.
            pooling=None if include_top else pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )
        if weights is not None:
            weights_io.load(model, weights)
        return model

    application.__name__ = application.__qualname__ = function_name
    application.__doc__ = _DOC.format(
        variant=variant,
        default=(spec.input_size, spec.input_size, spec.input_channels),
        smallest=spec.output_stride,
        source=(
            "2016 (arXiv:1603.05027), section 4."
            if spec.order == "pre"
            else "2015 (arXiv:1512.03385), Table 1."
        ),
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
