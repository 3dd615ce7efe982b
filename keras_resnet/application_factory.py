"""The functions of `keras_resnet.applications`: one network each, keras.applications' arguments."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from keras_resnet.nets.catalog import VARIANTS
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.network import Pooling, build
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.tensor import Tensor
from keras_resnet.weights import pretrained
from keras_resnet.weights.saved_nets import read_saved, stored_spec
from keras_resnet.weights.sources import SOURCES, find_source


class Application(Protocol):
    """A function that builds one network of the catalog."""

    __name__: str
    __qualname__: str

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Tensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: Pooling | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
    ) -> ResNet:
        """Builds the network."""


_DOC = """Builds {variant} with the arguments of keras.applications.

    Args:
        include_top: Whether the network ends in global average pooling and the classifier.
        weights: None for random weights; the path of a file, of this package or of another
            library; or published weights: {sources}, or
            `"hf://owner/repository"`. With published weights the network computes what its
            publisher's does (stride placement, biases, eps), and `model.preprocess` is the
            preprocessing they were evaluated with.
        input_tensor: A Keras tensor to use as the input.
        input_shape: `(height, width, channels)`; height and width may be None. The default is
            `{default}`, or any size without the top. At least {smallest} x {smallest} pixels, with
            any number of channels.
        pooling: Without the top: None for the feature map, or `"avg"` or `"max"` over it.
        classes: Outputs of the classifier.
        classifier_activation: Activation of the classifier, the layer `predictions`; None returns
            logits.
        name: Name of the model.

    Returns:
        A functional Keras model.

    Raises:
        DownloadError: If published weights cannot be downloaded.
        ValueError: If an argument has a value that the network cannot take, a file of weights does
            not exist, or the weights are those of another network, or of another number of
            classes with the top.

    Source: {source}

    Example:
        >>> model = keras_resnet.FUNCTION(weights=None, classes=10)
    """


def application(variant: str) -> Application:
    """Returns the function that builds a network of the catalog; `name_functions` names it."""
    spec = VARIANTS[variant]

    def build_variant(
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Tensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: Pooling | None = None,
        classes: int = spec.classes,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
    ) -> ResNet:
        published = None
        own_spec = None
        if include_top not in (True, False):
            raise ValueError(
                f"`include_top` must be True or False. Received: include_top={include_top!r}; "
                "name the other arguments: `weights=...`"
            )
        if pooling not in (None, "avg", "max"):
            raise ValueError(
                f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}"
            )
        if not include_top and input_shape is None and input_tensor is None:
            input_shape = _open_shape(spec)
        with _errors_of_keras():
            if weights is not None:
                published = _open(spec, weights, include_top, classes)
                own_spec = _own_spec(spec, weights)
            model = build(
                own_spec or (published.spec if published else spec),
                include_top=include_top,
                input_tensor=input_tensor,
                input_shape=input_shape,
                # With the top, keras.applications ignores `pooling`: the top pools by itself.
                pooling=None if include_top else pooling,
                classes=classes,
                # Not None: the layer is named `predictions`, as in keras.applications.
                classifier_activation=classifier_activation or "linear",
                name=name or spec.name,
                layer_names="keras.applications",
            )
            if weights is not None:
                pretrained.fill(model, published or weights)
        return model

    build_variant.__doc__ = _DOC.format(
        variant=variant,
        default=(spec.input_size, spec.input_size, spec.input_channels),
        smallest=spec.smallest_input,
        sources=", ".join(f'`"{each.name}"`' for each in SOURCES.values() if each.net == variant)
        or "none of this network",
        source=_paper(spec),
    )
    return build_variant


class MissingFileError(FileNotFoundError, ValueError):
    """A file of weights that does not exist; keras.applications raises a `ValueError`."""


class ArgumentError(TypeError, ValueError):
    """An argument of the wrong type; keras.applications raises a `ValueError`."""


@contextlib.contextmanager
def _errors_of_keras() -> Iterator[None]:
    """Makes errors `ValueError`s too where keras.applications raises these."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(*error.args) from error
    except TypeError as error:
        raise ArgumentError(*error.args) from error


def name_functions(module: dict[str, Any]) -> None:
    """Gives each public function of a module the name that it is bound to there.

    `help`, tracebacks and pickle then find it by that name.

    Args:
        module: The module's `globals()`; its public names are those of `application`'s functions.
    """
    for name, function in module.items():
        if not name.startswith("_"):
            function.__name__ = function.__qualname__ = name
            function.__module__ = module["__name__"]
            function.__doc__ = function.__doc__.replace("FUNCTION", name)


# Two networks that agree in these fields are of one family. The others (biases, eps, where the
# stride is) depend on the publisher, and `weights=` sets them.
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
    "eca",
    "norm",
    "blur",
)


def _same_family(one: ResNetSpec, other: ResNetSpec) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in _FAMILY)


def _own_spec(spec: ResNetSpec, weights: str | os.PathLike[str]) -> ResNetSpec | None:
    """Returns the spec in a `.keras` file of this package; None if it is of another family.

    Loading such a file raises the error that says so.
    """
    own = stored_spec(os.fspath(weights))
    return own if own is not None and _same_family(own, spec) else None


def _open(
    spec: ResNetSpec, weights: str | os.PathLike[str], include_top: bool, classes: int
) -> pretrained.Weights | None:
    """Returns the weights of another library, checked to fit; None for this package's files."""
    path = os.fspath(weights)
    if read_saved(path) is not None:
        return None
    published = pretrained.names_source(path)
    if published and include_top:
        held = find_source(path, spec.name).spec.classes
        if classes != held:  # checked before anything is downloaded
            raise ValueError(
                f"{path!r} has {held} classes: build {spec.name} with "
                "`include_top=False`, or with them and replace its head by "
                f"`keras_resnet.finetune.with_classes`. Received: classes={classes}"
            )
    opened = pretrained.open_weights(
        weights, net=spec if published else None, include_top=include_top
    )
    if not _same_family(opened.spec, spec):
        raise ValueError(
            f"{opened.name} holds {opened.describe()}, not {spec.name}: use "
            f"`keras_resnet.from_pretrained({path!r})`"
        )
    return opened


def _open_shape(spec: ResNetSpec) -> tuple[int | None, ...]:
    """Returns the shape of images of any size: keras.applications' default without the top."""
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
