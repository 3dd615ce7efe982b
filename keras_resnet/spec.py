"""A network is data: `ResNetSpec` says what a residual net is; `network.build` makes it.

This module imports no Keras, so specs can be read, checked and compared without a backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

Branch = Literal["basic", "bottleneck"]
Order = Literal["post", "pre"]
Shortcut = Literal["A", "B", "C"]
Merge = Literal["add", "none"]
Stem = Literal["imagenet", "cifar"]
StridePlacement = Literal["1x1", "3x3"]
Padding = Literal["symmetric", "same"]

_AXES: dict[str, tuple[str, ...]] = {
    "branch": get_args(Branch),
    "order": get_args(Order),
    "shortcut": get_args(Shortcut),
    "merge": get_args(Merge),
    "stem": get_args(Stem),
    "stride_placement": get_args(StridePlacement),
    "padding": get_args(Padding),
}
_BOOLEANS = ("conv_bias", "shortcut_norm", "zero_init_residual", "norm_sync")


@dataclasses.dataclass(frozen=True)
class ResNetSpec:
    """What a residual net is, along independent axes.

    A residual unit is `merge(shortcut(x), branch(x))`; a net is a stem, stages of such units and
    a head. The number of classes and the input shape belong to a use of the net, not to the net:
    `build` takes them, and `classes` and `input_size` here are only its defaults.

    Attributes:
        name: Name of the net; becomes the name of the Keras model.
        depths: Units in each stage.
        widths: Filters of the 3x3 convolutions in each stage.
        branch: `"basic"` is two 3x3 convolutions; `"bottleneck"` is 1x1, 3x3 and a 1x1 that
            widens to four times the stage's width (He et al. 2015, Figure 5).
        order: `"post"`, convolution then norm then ReLU (He et al. 2015), or `"pre"`, norm and
            ReLU before each convolution (He et al. 2016, Figure 4e).
        shortcut: `"A"`, identity padded with zero channels; `"B"`, projection where shapes
            differ; `"C"`, projection in every unit (He et al. 2015, section 4.1, Table 3).
        merge: `"add"`, or `"none"` for the plain net that has no shortcuts.
        stem: `"imagenet"`, 7x7 stride 2 and a 3x3 stride 2 max pool; `"cifar"`, 3x3 stride 1.
        stride_placement: Which convolution of a bottleneck carries the stride: the first 1x1
            (He et al. 2015) or the 3x3 (known as "v1.5"). Basic units always stride in conv1.
        padding: `"symmetric"` pads a strided convolution equally on both sides, as Caffe and
            PyTorch do; `"same"` pads as TensorFlow does. They differ at stride 2 on even sizes.
        conv_bias: Whether convolutions carry a bias (keras.applications' do).
        shortcut_norm: Whether a projection is followed by a norm (post-activation only).
        zero_init_residual: Whether each branch starts as zero, so that each unit starts as its
            shortcut: the last gamma in post-activation units (Goyal et al. 2017, section 5.1),
            the last convolution in pre-activation ones, where a zero gamma would leave the ReLU
            behind it without a gradient.
        norm_eps: Added to the variance in batch norm.
        norm_momentum: Keras momentum of the moving statistics (PyTorch's is 1 minus this).
        norm_sync: Whether training statistics are averaged over replicas (TensorFlow only).
        classes: Default number of classes.
        input_size: Default height and width of the input, pixels.
        input_channels: Default number of input channels.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a field has a value outside its axis, or two fields exclude one another.
    """

    name: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    branch: Branch = "basic"
    order: Order = "post"
    shortcut: Shortcut = "B"
    merge: Merge = "add"
    stem: Stem = "imagenet"
    stride_placement: StridePlacement = "3x3"
    padding: Padding = "symmetric"
    conv_bias: bool = False
    shortcut_norm: bool = True
    zero_init_residual: bool = False
    norm_eps: float = 1e-5
    norm_momentum: float = 0.9
    norm_sync: bool = False
    classes: int = 1000
    input_size: int = 224
    input_channels: int = 3

    def __post_init__(self) -> None:
        """Checks every field, and the fields against one another."""
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"`name` must be a non-empty string. Received: name={self.name!r}")
        for field in ("depths", "widths"):
            value = getattr(self, field)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field, value)
            if not isinstance(value, tuple) or not value or not all(_positive(v) for v in value):
                raise ValueError(
                    f"`{field}` must hold one positive integer per stage. "
                    f"Received: {field}={value!r}"
                )
        if len(self.depths) != len(self.widths):
            raise ValueError(
                f"`depths` needs one entry per stage ({len(self.widths)}). "
                f"Received: depths={self.depths}"
            )
        for field, allowed in _AXES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(
                    f"`{field}` must be one of {', '.join(map(repr, allowed))}. "
                    f"Received: {field}={value!r}"
                )
        for field in _BOOLEANS:
            if not isinstance(getattr(self, field), bool):
                raise TypeError(
                    f"`{field}` must be True or False. Received: {field}={getattr(self, field)!r}"
                )
        for field in ("classes", "input_size", "input_channels"):
            if not _positive(getattr(self, field)):
                raise ValueError(
                    f"`{field}` must be a positive integer. "
                    f"Received: {field}={getattr(self, field)!r}"
                )
        if not self.norm_eps > 0:
            raise ValueError(f"`norm_eps` must be above 0. Received: norm_eps={self.norm_eps}")
        if not 0 <= self.norm_momentum < 1:
            raise ValueError(
                f"`norm_momentum` must lie in [0, 1). Received: norm_momentum={self.norm_momentum}"
            )
        if self.zero_init_residual and self.merge == "none":
            raise ValueError(
                "`zero_init_residual` needs a shortcut: a plain net (merge='none') whose branches "
                "start at zero passes nothing on. Received: zero_init_residual=True"
            )

    @property
    def expansion(self) -> int:
        """How much wider a unit's output is than its 3x3 convolution."""
        return 4 if self.branch == "bottleneck" else 1

    @property
    def layers(self) -> int:
        """Weighted layers as the papers count them: the stem, the branches and the classifier."""
        return sum(self.depths) * (3 if self.branch == "bottleneck" else 2) + 2

    @property
    def output_stride(self) -> int:
        """Ratio of the input's size to the last stage's; also the smallest input the net takes."""
        return (4 if self.stem == "imagenet" else 1) * 2 ** (len(self.depths) - 1)

    def replace(self, **changes: Any) -> ResNetSpec:
        """Returns a copy with some fields changed and checked anew.

        Raises:
            ValueError: If a name in `changes` is no field of the spec.
        """
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(
                f"ResNetSpec has no field {unknown[0]!r}. Fields: {', '.join(sorted(known))}"
            )
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as JSON-ready values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ResNetSpec:
        """Makes a spec from what `to_dict` returned; fields left out take their defaults.

        Raises:
            ValueError: If a key is no field, or a field that has no default is missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted({"name", "depths", "widths"} - set(values))
        if unknown or missing:
            problem = f"unknown field {unknown[0]!r}" if unknown else f"missing {missing[0]!r}"
            raise ValueError(f"Not a ResNetSpec: {problem}. Received: {dict(values)}")
        return cls(**values)


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
