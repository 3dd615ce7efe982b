"""`ResNetSpec`: a residual net as data, from which `network.build` makes a Keras model.

This module does not import Keras, so specs can be read, checked and compared without a backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from keras_resnet.nets.spec_rules import broken_rules

Branch = Literal["basic", "bottleneck", "repvgg", "single"]
Order = Literal["post", "pre", "norm_after_add", "relu_before_add", "relu_only_pre"]
Shortcut = Literal["A", "B", "C", "D"]
Merge = Literal["add", "none", "rezero", "skipinit", "highway", "shortcut_gate"]
Norm = Literal["batch", "group", "fixup", "none"]
Init = Literal["he", "delta_orthogonal"]
Stem = Literal["imagenet", "deep", "tiered", "cifar", "unit"]
StemPool = Literal["max", "max_zero", "conv", "avg"]
StridePlacement = Literal["1x1", "3x3"]
StrideUnit = Literal["first", "last"]
Padding = Literal["symmetric", "same"]
ConvBias = Literal["unnormed"]

_AXES: dict[str, tuple[object, ...]] = {
    "branch": get_args(Branch),
    "order": get_args(Order),
    "shortcut": get_args(Shortcut),
    "merge": get_args(Merge),
    "norm": get_args(Norm),
    "init": get_args(Init),
    "stem": get_args(Stem),
    "stem_pool": get_args(StemPool),
    "stride_placement": get_args(StridePlacement),
    "stride_unit": get_args(StrideUnit),
    "padding": get_args(Padding),
    "conv_bias": (False, True, *get_args(ConvBias)),
    "first_stride": (1, 2),
    "blur": (0, 2, 3, 5),
    "max_stride": (None, 1, 2, 4, 8, 16, 32),
}
_BOOLEANS = (
    "stem_activation",
    "eca",
    "blur_shortcut",
    "stage_projection",
    "shortcut_norm",
    "zero_init_residual",
    "norm_sync",
)
# Above these, a spec is damaged or hostile: the net could be neither built nor run.
_LARGEST = {
    "groups": 2**16,
    "base_width": 2**16,
    "se_divisor": 2**16,
    "se_reduction": 2**16,
    "stem_width": 2**16,
    "classes": 2**24,
    "input_size": 2**16,
    "input_channels": 2**16,
}
_MAX_STAGES, _MAX_UNITS, _MAX_WIDTH = 32, 10_000, 2**16
_POSITIVE = ("groups", "base_width", "se_divisor", "classes", "input_size", "input_channels")


@dataclasses.dataclass(frozen=True)
class ResNetSpec:
    """A residual net along independent axes.

    A residual unit is `merge(shortcut(x), branch(x))`; a net is a stem, stages of such units and
    a head. The number of classes and the input shape belong to a use of the net: `build` takes
    them, and `classes` and `input_size` here are only its defaults.

    Attributes:
        name: Name of the net and, by default, of the Keras model.
        depths: Units in each stage.
        widths: Filters of the 3x3 convolutions in each stage, before `base_width` and `groups`.
        branch: `"basic"` is two 3x3 convolutions; `"bottleneck"` is 1x1, 3x3 and a 1x1 with four
            times the stage's width (He et al. 2015, Figure 5); `"repvgg"` is one 3x3 beside one
            1x1 and a normed identity (Ding et al. 2021, arXiv:2101.03697, Figure 4); `"single"`
            is one 3x3, a fused RepVGG.
        order: `"post"`, convolution then norm then ReLU (He et al. 2015), or `"pre"`, norm and
            ReLU before each convolution (He et al. 2016, arXiv:1603.05027, Figure 4e). Three
            more exist for comparison: `"norm_after_add"` (Figure 4b), `"relu_before_add"` (4c)
            and `"relu_only_pre"` (4d).
        shortcut: `"A"`, identity padded with zero channels; `"B"`, projection where shapes
            differ; `"C"`, projection in every unit (He et al. 2015, section 4.1, Table 3);
            `"D"`, like B, strided by a 2x2 average pool before the projection (He et al. 2018,
            arXiv:1812.01187, Figure 2c).
        merge: `"add"`; `"none"`, the plain net without shortcuts; `"rezero"` (Bachlechner et
            al. 2020, arXiv:2003.04887, equation 1) and `"skipinit"` (De and Smith 2020,
            arXiv:2002.10444, section 4), the branch times a learned scalar that starts at 0;
            `"highway"`, a learned gate between branch and shortcut (Srivastava et al. 2015,
            arXiv:1505.00387, equation 3), called exclusive gating in He et al. 2016;
            `"shortcut_gate"`, the same gate on the shortcut alone (He et al. 2016, section 3.1
            and Figure 2d).
        norm: `"batch"`; `"group"`, group norm with 32 groups (Wu and He 2018, arXiv:1803.08494,
            section 3.1); `"fixup"`, learned scalars and rescaled initial weights in place of norms
            (Zhang et al. 2019, arXiv:1901.09321); or `"none"`.
        init: Initial kernels: `"he"` (arXiv:1502.01852, equation 10) or `"delta_orthogonal"`
            (Xiao et al. 2018, arXiv:1806.05393, section 3).
        stem: `"imagenet"`, 7x7 stride 2 and a 3x3 stride 2 pool; `"deep"`, three 3x3 in place of
            the 7x7 (arXiv:1812.01187, Figure 2b); `"tiered"`, three 3x3 whose first has 3/8 of the
            filters, 24, 32 and 64 (timm's "t" nets); `"cifar"`, 3x3 stride 1; `"unit"`, a unit of
            the net's own kind at stride 2 (RepVGG).
        stem_width: Filters of the stem's output; the first stage's width where None.
        stem_activation: Whether the stem ends in norm and ReLU. Without (pre-activation nets of
            keras.applications, KerasHub and timm, Wide ResNet), the first unit has its own.
        stem_pool: `"max"`; `"max_zero"`, padded with zeros even where values were not rectified
            (keras.applications' V2); `"conv"`, a 3x3 stride 2 convolution with norm and ReLU
            (ResNet-RS, Bello et al. 2021, arXiv:2103.07579, section 3); `"avg"`, the mean of 2x2
            pixels (timm's "aa" nets).
        first_stride: Stride of the first stage.
        stride_placement: Convolution of a bottleneck that strides: the first 1x1 (He et al. 2015)
            or the 3x3 (known as "v1.5"). Basic units always stride in the first convolution.
        stride_unit: Unit that strides: the `"first"` of each later stage, or the `"last"` of
            each stage but the last one, with a subsampled identity (keras.applications' V2).
        stage_projection: Whether the first unit of every stage projects, even where it keeps the
            shape (the "vd" nets of PaddleClas and KerasHub).
        padding: `"symmetric"` pads a strided convolution equally on both sides, like Caffe and
            PyTorch; `"same"` pads like TensorFlow. They differ at stride 2 on even sizes.
        conv_bias: Whether convolutions have a bias; `"unnormed"`: those without a norm behind
            them.
        shortcut_norm: Whether a projection is followed by a norm (post-activation only).
        zero_init_residual: Whether each branch starts at zero, so that each unit starts as its
            shortcut: the last gamma in post-activation units (Goyal et al. 2017, section 5.1),
            the last convolution in units whose branch does not end in a norm.
        groups: Groups of a bottleneck's 3x3 convolution: the cardinality of ResNeXt (Xie et al.
            2016, arXiv:1611.05431, Figure 3c).
        base_width: Filters per group of a bottleneck's 3x3 convolution where the stage's width
            is 64: 4 in ResNeXt "32x4d", 128 in Wide ResNet "50-2" (arXiv:1605.07146, Table 8).
        inner_widths: Filters of the convolutions inside the units of each stage, where channels
            were pruned; those of `widths`, `base_width` and `groups` where None.
        se_reduction: Reduction ratio of squeeze-and-excitation at the end of each branch (Hu et
            al. 2017, arXiv:1709.01507, section 3.3: 16); 0 for none.
        se_divisor: The squeezed channels are rounded to a multiple of this number (timm: 8).
        eca: Whether each branch ends in efficient channel attention: a gate from a convolution
            over neighbouring channels' means (Wang et al. 2020, arXiv:1910.03151, section 3.2).
        stochastic_depth: Probability that the last unit's branch is dropped in training; earlier
            units' grow linearly from 0 (Huang et al. 2016, arXiv:1603.09382, equation 4).
        shortcut_scale: Constant factor of the shortcut, where merge is `"add"` (He et al. 2016,
            section 3.1, "constant scaling": 0.5).
        branch_scale: Constant factor of the branch, where merge is `"add"`.
        shortcut_dropout: Rate of dropout on the shortcut's output, where merge is `"add"` (He
            et al. 2016, section 3.1, "dropout shortcut": 0.5).
        head_dropout: Rate of dropout between the global pool and the classifier (Bello et al.
            2021, arXiv:2103.07579, section 5: 0.25).
        gate_bias: Initial bias of a gate. Below 0 the gate starts nearly closed to the branch, so
            that a new net passes its input on. Srivastava et al. use -1 to -3 (section 2.1); He
            et al. 2016 found -6 best for their 110 layers (Table 1).
        blur: Size of the binomial low-pass filter before every subsampling but that of the stem's
            convolution (Zhang 2019, arXiv:1904.11486, Figure 3); 2 is the mean of 2x2 pixels; 0 for
            none.
        blur_shortcut: Whether `blur` applies to projections too, as in the paper's code. timm's
            nets filter only the branch and the stem's pool.
        max_stride: Largest output stride: later stages are dilated instead of strided (Chen et
            al. 2017, arXiv:1706.05587, section 3.2). No limit where None.
        norm_eps: Added to the variance in batch norm.
        norm_momentum: Keras momentum of the moving statistics (PyTorch's is 1 minus this).
        norm_sync: Whether training statistics are averaged over replicas (TensorFlow only).
        classes: Default number of classes.
        input_size: Default height and width of the input, pixels.
        input_channels: Default number of input channels.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a field has a value outside its axis, or two fields exclude one another.

    Example:
        ```python
        spec = keras_resnet.variants["resnet50"].replace(shortcut="D", se_reduction=16)
        model = keras_resnet.build(spec, classes=10)
        ```
    """

    name: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    branch: Branch = "basic"
    order: Order = "post"
    shortcut: Shortcut = "B"
    merge: Merge = "add"
    norm: Norm = "batch"
    init: Init = "he"
    stem: Stem = "imagenet"
    stem_width: int | None = None
    stem_activation: bool = True
    stem_pool: StemPool = "max"
    first_stride: int = 1
    stride_placement: StridePlacement = "3x3"
    stride_unit: StrideUnit = "first"
    stage_projection: bool = False
    padding: Padding = "symmetric"
    conv_bias: bool | ConvBias = False
    shortcut_norm: bool = True
    zero_init_residual: bool = False
    groups: int = 1
    base_width: int = 64
    inner_widths: tuple[int, ...] | None = None
    se_reduction: int = 0
    se_divisor: int = 1
    eca: bool = False
    stochastic_depth: float = 0.0
    shortcut_scale: float = 1.0
    branch_scale: float = 1.0
    shortcut_dropout: float = 0.0
    head_dropout: float = 0.0
    gate_bias: float = -3.0
    blur: int = 0
    blur_shortcut: bool = True
    max_stride: int | None = None
    norm_eps: float = 1e-5
    norm_momentum: float = 0.9
    norm_sync: bool = False
    classes: int = 1000
    input_size: int = 224
    input_channels: int = 3

    def __post_init__(self) -> None:
        """Checks every field, and the fields against one another."""
        self._check_stages()
        for field, allowed in _AXES.items():
            value = getattr(self, field)
            # `True == 1`, so types are compared too.
            if not any(value == each and type(value) is type(each) for each in allowed):
                raise ValueError(
                    f"`{field}` must be one of {', '.join(map(repr, allowed))}. "
                    f"Received: {field}={value!r}"
                )
        for field in _BOOLEANS:
            if not isinstance(getattr(self, field), bool):
                raise TypeError(
                    f"`{field}` must be True or False. Received: {field}={getattr(self, field)!r}"
                )
        for field in (*_POSITIVE, *(() if self.stem_width is None else ("stem_width",))):
            if not _positive(getattr(self, field)):
                raise ValueError(
                    f"`{field}` must be a positive integer. "
                    f"Received: {field}={getattr(self, field)!r}"
                )
        if type(self.se_reduction) is not int or self.se_reduction < 0:
            raise ValueError(
                "`se_reduction` must be a positive integer, or 0 for none. "
                f"Received: se_reduction={self.se_reduction!r}"
            )
        for field, largest in _LARGEST.items():
            if (getattr(self, field) or 0) > largest:
                raise ValueError(
                    f"`{field}` must be at most {largest}. Received: {field}={getattr(self, field)}"
                )
        if not self.norm_eps > 0:
            raise ValueError(f"`norm_eps` must be above 0. Received: norm_eps={self.norm_eps}")
        for field in ("shortcut_scale", "branch_scale", "gate_bias"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise ValueError(f"`{field}` must be a number. Received: {field}={value!r}")
        for field in ("norm_momentum", "stochastic_depth", "shortcut_dropout", "head_dropout"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(
                    f"`{field}` must lie in [0, 1). Received: {field}={getattr(self, field)}"
                )
        for message in broken_rules(self):
            raise ValueError(f"{message}. Received: {self._differences()}")
        self._check_widths()

    def _check_stages(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"`name` must be a non-empty string. Received: name={self.name!r}")
        fields = ("depths", "widths", *(("inner_widths",) if self.inner_widths is not None else ()))
        for field in fields:
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
        if self.inner_widths is not None and len(self.inner_widths) != len(self.widths):
            raise ValueError(
                f"`inner_widths` needs one entry per stage ({len(self.widths)}). "
                f"Received: inner_widths={self.inner_widths}"
            )

        if len(self.depths) > _MAX_STAGES or sum(self.depths) > _MAX_UNITS:
            raise ValueError(
                f"`depths` must be at most {_MAX_STAGES} stages of {_MAX_UNITS} units together. "
                f"Received: {len(self.depths)} stages of {sum(self.depths)} units"
            )
        if max(self.widths) > _MAX_WIDTH:
            raise ValueError(f"`widths` must be at most {_MAX_WIDTH}. Received: {max(self.widths)}")

    def _check_widths(self) -> None:
        inner = [width * self.base_width // 64 for width in self.widths]
        if max(inner) * self.groups > _MAX_WIDTH:
            raise ValueError(
                f"`widths`, `base_width` and `groups` make convolutions of more than {_MAX_WIDTH} "
                f"filters. Received: {self._differences()}"
            )
        if min(inner) < 1:
            raise ValueError(
                "`base_width` leaves no filters in the narrowest stage. "
                f"Received: {self._differences()}"
            )
        if self.norm == "group" and any(channels % 32 for channels in self._normed_channels):
            raise ValueError(
                "norm='group' has 32 groups: all normed channels must be multiples of 32. "
                f"Received: {self._differences()}"
            )
        channels = [self.stem_filters, *(width * self.expansion for width in self.widths)]
        if self.shortcut == "A" and self.merge != "none" and channels != sorted(channels):
            raise ValueError(
                "shortcut='A' pads channels: neither `stem_width` nor `widths` may shrink from one "
                f"stage to the next. Received: {self._differences()}"
            )

    def _differences(self) -> str:
        """Returns the fields that are not at their defaults."""
        return ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )

    @property
    def _normed_channels(self) -> tuple[int, ...]:
        inner = self.inner_widths or tuple(
            width * self.base_width // 64 * self.groups for width in self.widths
        )
        stem = self.stem_convolutions if self.stem_activation else self.stem_convolutions[:-1]
        return (*stem, *inner, *(width * self.expansion for width in self.widths))

    @property
    def expansion(self) -> int:
        """Ratio of a unit's output channels to its stage's width."""
        return 4 if self.branch == "bottleneck" else 1

    @property
    def stem_filters(self) -> int:
        """Channels that leave the stem."""
        return self.stem_width or self.widths[0]

    @property
    def stem_convolutions(self) -> tuple[int, ...]:
        """Filters of the stem's convolutions."""
        width = self.stem_filters
        if self.stem == "deep":
            return (width // 2, width // 2, width)
        return (3 * (width // 8), width // 2, width) if self.stem == "tiered" else (width,)

    @property
    def activates_first(self) -> bool:
        """Whether a unit begins with its activation (pre-activation, He et al. 2016)."""
        return self.order in ("pre", "relu_only_pre")

    @property
    def norms_branch_end(self) -> bool:
        """Whether a norm follows each of a branch's convolutions, the last one too."""
        return self.order in ("post", "relu_before_add", "relu_only_pre")

    @property
    def layers(self) -> int:
        """Weighted layers as the papers count them: the stem, the branches and the classifier.

        Wide ResNets count convolutions: their projections too, but not the classifier.
        """
        each = {"basic": 2, "bottleneck": 3}.get(self.branch, 1)
        last = self._projections if self.counts_projections else 1
        return 1 + sum(self.depths) * each + last

    @property
    def counts_projections(self) -> bool:
        """Whether `layers` counts as Zagoruyko and Komodakis 2016, section 2: 6n+4 convolutions."""
        return self.stem == "cifar" and self.branch == "basic" and not self.stem_activation

    @property
    def _projections(self) -> int:
        """Number of the stages that begin with a projection, where the shortcut is B."""
        return len(self.depths) - (self.stem_filters == self.widths[0])

    @property
    def stem_stride(self) -> int:
        """Ratio of the input's size to the stem's."""
        return {"cifar": 1, "unit": 2}.get(self.stem, 4)

    @property
    def output_stride(self) -> int:
        """Ratio of the input's size to the last stage's."""
        natural = self.smallest_input
        return (
            natural
            if self.max_stride is None
            else max(self.stem_stride, min(natural, self.max_stride))
        )

    @property
    def smallest_input(self) -> int:
        """Height and width of the smallest input: the product of the strides, undilated."""
        return self.stem_stride * self.first_stride * 2 ** (len(self.depths) - 1)

    def replace(self, **changes: Any) -> ResNetSpec:
        """Returns a copy with other values in some fields, which is checked like a new spec.

        Raises:
            TypeError: If a value has the wrong type.
            ValueError: If a name in `changes` is not a field, or a value is not allowed.

        Example:
            ```python
            spec = keras_resnet.variants["resnet50"].replace(stride_placement="3x3")
            ```
        """
        changes = with_fixup_as_norm(changes)
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
        """Returns the spec of a dict that `to_dict` made; missing fields have their defaults.

        Raises:
            TypeError: If a value has the wrong type.
            ValueError: If a key is not a field, a field without a default is missing, or a value
                is not allowed.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"Not a ResNetSpec: a mapping is needed. Received: {values!r}")
        values = with_fixup_as_norm(values)
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted({"name", "depths", "widths"} - set(values))
        if unknown or missing:
            problem = f"unknown field {unknown[0]!r}" if unknown else f"missing {missing[0]!r}"
            raise ValueError(f"Not a ResNetSpec: {problem}. Received: {dict(values)}")
        return cls(**values)


def with_fixup_as_norm(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields with `norm="fixup"` where files of earlier versions have `merge="fixup"`."""
    if values.get("merge") != "fixup" or values.get("norm", "none") != "none":
        return dict(values)
    return {**values, "merge": "add", "norm": "fixup"}


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
