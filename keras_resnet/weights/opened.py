"""`Weights`: tensors that were read, with the net that they belong to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import VARIANTS, get_spec
from keras_resnet.nets.network import Dims
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.files.download import Download
from keras_resnet.weights.layouts import Layout
from keras_resnet.weights.recognize import (
    Recognized,
    check_function,
    recognize,
    same_shapes,
    with_catalog_name,
)
from keras_resnet.weights.unwrap import Unwrapped, count_left_out

# A requested net: its name, its spec, or the fields of the recognised one that are to be others.
Net = str | ResNetSpec | Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Tensors of a published net, with the net that they belong to.

    Attributes:
        name: The name or path that was requested.
        spec: The net that computes the publisher's function.
        layout: The library whose names the tensors have.
        tensors: Arrays by these names.
        preprocess: The preprocessing that the weights were evaluated with, or None if unknown.
        licence: The licence as its publisher states it; None for a file.
        files: The files that were read: path, SHA-256 and the hash that was checked.
        assumed: Fields of the spec that neither tensors nor a config determine; they have the
            library's usual values. ReLU is assumed too.
        prefix: The prefix that the names of the net's tensors had.
        left_out: Number of other tensors in the file, by the first part of their names, and of
            objects that are not tensors, by their class.
        explicit: Fields of the spec that neither tensors nor a config determine, but the net that
            was requested.

    Example:
        >>> weights = keras_resnet.weights.open_weights("torchvision/v2", net="resnet50")
        >>> weights.spec.name, weights.classes
        ('resnet50_v1_5', 1000)
        >>> model = keras_resnet.from_pretrained(weights)
    """

    name: str
    spec: ResNetSpec
    layout: Layout
    tensors: Mapping[str, np.ndarray]
    preprocess: PreprocessSpec | None
    licence: str | None
    files: tuple[Download, ...]
    assumed: tuple[str, ...] = ()
    prefix: str = ""
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    explicit: tuple[str, ...] = ()

    @functools.cached_property
    def classes(self) -> int | None:
        """Number of outputs of the classifier; None if there is no classifier."""
        return recognize(self.tensors, source=self.name).classes

    @property
    def dims(self) -> Dims:
        """Space axes of the net: 1 for signals, 2 for images, 3 for volumes."""
        rank = max(array.ndim for array in self.tensors.values())
        return 1 if rank == 3 else 3 if rank == 5 else 2

    @functools.cached_property
    def channels(self) -> int:
        """Number of input channels."""
        for layer in ("stem_conv", "stem_conv1"):
            prefix = self.layout.translate(layer, self.spec)
            role = self.layout.roles["conv"][0]
            kernel = self.tensors.get(f"{prefix}{self.layout.separator}{role}")
            if kernel is not None:
                return kernel.shape[1] if self.layout.torch else kernel.shape[-2]
        return self.spec.input_channels

    def describe(self) -> str:
        """Returns the net's name in the catalog, or its number of layers."""
        listed = self.spec.name in VARIANTS
        return self.spec.name if listed else f"a {self.spec.layers}-layer net"

    def describe_rest(self) -> str:
        """Returns the prefix and the counts of what was left out, on one line; may be empty."""
        parts = [f"prefix {self.prefix!r}"] if self.prefix else []
        if self.left_out:
            parts.append(f"left out {count_left_out(self.left_out)}")
        return "; ".join(parts)


def recognize_unwrapped(unwrapped: Unwrapped, source: str) -> tuple[Recognized, tuple[str, ...]]:
    """Returns the net of unwrapped tensors, and the fields of its spec that are assumed."""
    recognized = recognize(unwrapped.tensors, source=source)
    older = unwrapped.translated
    if older.changes:
        recognized = with_spec(recognized, recognized.spec.replace(**older.changes))
    assumed = tuple(field for field in recognized.assumed if field not in older.changes)
    if any(array.ndim == 5 for array in unwrapped.tensors.values()):
        # Video and medical nets differ in the strides of their stems and in their dilation.
        assumed = (*assumed, "stem", "max_stride")
    return recognized, tuple(dict.fromkeys((*assumed, *older.assumed)))


def with_spec(recognized: Recognized, spec: ResNetSpec) -> Recognized:
    """Returns a recognised net with another spec."""
    return dataclasses.replace(recognized, spec=spec)


def choose_spec(
    recognized: Recognized, name: str, net: Net | None, assumed: tuple[str, ...]
) -> ResNetSpec:
    """Returns the requested net if the tensors fit it, or the recognised one.

    Raises:
        ValueError: If they do not fit, or the net differs in what they show.
    """
    if net is None:
        return with_catalog_name(recognized)
    if isinstance(net, Mapping):
        spec = with_catalog_name(with_spec(recognized, recognized.spec.replace(**net)))
    else:
        spec = get_spec(net)
    check_shapes(spec, recognized, repr(name))
    check_function(spec, recognized, name, assumed)
    return spec


def settle(net: Net | None, assumed: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the assumed fields that a request leaves open, and those that it determines."""
    if net is None:
        return assumed, ()
    given = tuple(field for field in assumed if not isinstance(net, Mapping) or field in net)
    return tuple(field for field in assumed if field not in given), given


def check_shapes(spec: ResNetSpec, recognized: Recognized, name: str) -> None:
    """Checks that the tensors have the shapes of the requested net.

    Raises:
        ValueError: If they do not; names the nets that have them.
    """
    if not same_shapes(spec, recognized.spec):
        raise ValueError(
            f"{name} does not hold {spec.name}. Nets of its shapes: {recognized.listed}"
        )
