"""Recognition of a net by its tensors: the library of their names, the spec of their shapes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import VARIANTS
from keras_resnet.nets.geometry import squeezed_channels
from keras_resnet.nets.spec import ResNetSpec, Stem
from keras_resnet.texts import escaped
from keras_resnet.weights.layouts import KERAS3_ROLES, LAYOUTS, Layout, LayoutName

# Tensors that only the nets of one library have, in the order in which they are looked up.
SIGNS: tuple[tuple[str, LayoutName], ...] = (
    ("resnet.embedder.embedder.convolution.weight", "hf"),
    ("stem.conv_kxk.conv.weight", "timm_repvgg"),
    ("stages.0.blocks.0.conv1.weight", "timm_v2"),
    ("layer1.0.conv1.weight", "torchvision"),
    ("stack0_block0_1_conv/0", "keras_hub"),
    ("conv2_block1_1_conv/kernel", "keras"),
    ("conv2_block1_1_conv/0", "keras"),  # as Keras 3 writes them
    ("conv2d/kernel", "mlperf_tiny"),
)
# Spec fields that names and shapes of tensors determine.
_VISIBLE = (
    "depths",
    "widths",
    "branch",
    "order",
    "merge",
    "norm",
    "groups",
    "base_width",
    "eca",
    "conv_bias",
    "stem_activation",
)
# Spec fields that the function in inference does not depend on, given the shapes of the tensors.
_FREE = {
    *("name", "classes", "input_size", "input_channels", "stem_width", "se_reduction"),
    *("se_divisor", "init", "zero_init_residual", "stochastic_depth", "shortcut_dropout"),
    *("head_dropout", "gate_bias", "norm_momentum", "norm_sync"),
}
# Spec fields that neither tensors nor names determine. Many programs use torchvision's names, with
# other strides (Caffe's, in the 1x1), padding, pools and constants.
_HIDDEN: dict[str, tuple[str, ...]] = {
    "torchvision": (
        *("stride_placement", "first_stride", "max_stride", "stem_pool", "blur"),
        *("padding", "norm_eps"),
    ),
    "timm": ("max_stride", "stem_pool", "blur"),
    "timm_v2": ("shortcut", "max_stride", "stem_pool"),
    "timm_repvgg": ("max_stride",),
    "hf": ("stride_placement", "first_stride"),
}


@dataclasses.dataclass(frozen=True)
class Recognized:
    """A net recognised by its tensors.

    Attributes:
        layout: The library whose names the tensors have.
        spec: A net with these names and shapes. Fields that they do not determine (stride
            placement, eps, padding) have the library's usual values.
        variants: Names of the catalog's nets that have the same shapes.
        classes: Number of outputs of the classifier; None if there is no classifier.
    """

    layout: Layout
    spec: ResNetSpec
    variants: tuple[str, ...]
    classes: int | None

    @property
    def listed(self) -> str:
        """The catalog's nets that have the same shapes, for messages."""
        return ", ".join(self.variants) or "none of the catalog"

    @property
    def assumed(self) -> tuple[str, ...]:
        """Fields of the spec that neither tensors nor names determine.

        They have the library's usual values in `spec`. The activation, ReLU, is assumed too.
        """
        hidden = list(_HIDDEN.get(self.layout.name, ()))
        if self.spec.branch != "bottleneck" and "stride_placement" in hidden:
            hidden.remove("stride_placement")
        if "stem_pool" in hidden and (self.spec.stem == "cifar" or self.spec.stem_pool == "conv"):
            hidden.remove("stem_pool")
        if "shortcut" in hidden and self.spec.stem == "imagenet":
            hidden.remove("shortcut")
        if self.spec.norm == "group":
            hidden.append("norm")
        return tuple(hidden)

    def differences(self, spec: ResNetSpec) -> tuple[str, ...]:
        """Returns the fields in which a net of the same shapes computes another function."""
        free = _FREE
        if spec.branch == "bottleneck":  # whose first units project anyway
            free = free | {"stage_projection"}
        if not spec.blur and not self.spec.blur:
            free = free | {"blur_shortcut"}
        return tuple(
            field.name
            for field in dataclasses.fields(spec)
            if field.name not in free
            and getattr(spec, field.name) != getattr(self.spec, field.name)
        )


def check_function(
    spec: ResNetSpec, recognized: Recognized, name: str, assumed: tuple[str, ...]
) -> tuple[str, ...]:
    """Returns the fields that a requested net determines otherwise than the recognised one.

    Args:
        spec: The requested net, of the same shapes.
        recognized: The recognised net.
        name: Name of the source, for messages.
        assumed: Fields that nothing but the request determines.

    Raises:
        ValueError: If the net differs in a field that tensors, names or a config determine.

    Warns:
        UserWarning: If the library has no such net, so that another program wrote the tensors.
    """
    differences = recognized.differences(spec)
    allowed = {*assumed, *(("blur_shortcut",) if "blur" in assumed else ())}
    wrong = [
        f"{field}={getattr(spec, field)!r} (not {getattr(recognized.spec, field)!r})"
        for field in differences
        if field not in allowed
    ]
    if wrong:
        raise ValueError(
            f"{name!r} has the shapes of {spec.name}, but {recognized.layout.library} computes "
            f"another function with them, without {'; '.join(wrong)}. Nets of these shapes: "
            f"{recognized.listed}"
        )
    if differences and recognized.layout.misfits(spec):
        taken = ", ".join(f"{field}={getattr(spec, field)!r}" for field in differences)
        usual = ", ".join(f"{field}={getattr(recognized.spec, field)!r}" for field in differences)
        warnings.warn(
            f"{name!r} is read as {spec.name}, with {taken}; nets of {recognized.layout.library} "
            f"usually have {usual}, and the file does not show which",
            stacklevel=3,
        )
    return differences


def with_catalog_name(recognized: Recognized) -> ResNetSpec:
    """Returns the recognised spec, with the name of the equal net of the catalog if any.

    Nets that differ only in training, in classes or in input channels are equal.
    """
    spec = recognized.spec
    for name in recognized.variants:
        if not recognized.differences(VARIANTS[name]):
            return spec.replace(name=name, input_size=VARIANTS[name].input_size)
    return spec


def _find_layout(tensors: Mapping[str, np.ndarray], *, source: str) -> Layout:
    """Returns the layout of tensors.

    Raises:
        ValueError: If no known library uses these names, or the net is BiT.
    """
    name = next((layout for sign, layout in SIGNS if sign in tensors), None)
    if name is None:
        listed = ", ".join(escaped(name[:80]) for name in list(tensors)[:4])
        raise ValueError(
            f"{source} is not a residual net of {', '.join(LAYOUTS)}. Its tensors: {listed} ..."
        )
    layout = LAYOUTS[name]
    if name == "keras" and "conv2_block1_1_conv/0" in tensors:
        layout = dataclasses.replace(layout, roles=KERAS3_ROLES)
    if name == "timm_v2" and "stem.conv1.weight" not in tensors and not _has_statistics(tensors):
        raise ValueError(
            f"{source} has no batch-norm statistics: this package does not build BiT, whose "
            "convolutions have standardised weights"
        )
    if name == "torchvision":
        if "linear.weight" in tensors:
            return LAYOUTS["akamaster"]
        if _timm_only(tensors):
            return LAYOUTS["timm"]
    return layout


def _has_statistics(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the net has batch norms; group norms have no moving statistics."""
    return any(key.endswith("running_mean") for key in tensors)


def _timm_only(tensors: Mapping[str, np.ndarray]) -> bool:
    signs = (
        "conv1.0.weight",
        "layer2.0.downsample.2.weight",
        "layer1.0.se.fc1.weight",
        "layer1.0.se.conv.weight",
    )
    return any(sign in tensors for sign in signs) or not _has_statistics(tensors)


def recognize(tensors: Mapping[str, np.ndarray], *, source: str) -> Recognized:
    """Recognises the net that tensors belong to; builds no net.

    Args:
        tensors: Arrays by the names of their library.
        source: Name of their source, for messages.

    Raises:
        ValueError: If this package does not build the net.
    """
    layout = _find_layout(tensors, source=source)
    shapes = _Shapes(tensors, layout)
    try:
        spec = shapes.spec()
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise ValueError(
            f"{source} has the names of {layout.library}, but not the shapes of a residual net: "
            f"{error}"
        ) from error
    variants = tuple(name for name in VARIANTS if same_shapes(VARIANTS[name], spec))
    return Recognized(layout, spec, variants, shapes.classes())


def same_shapes(one: ResNetSpec, other: ResNetSpec) -> bool:
    """Whether the weights of two nets have the same shapes."""
    return _visible(one) == _visible(other)


def _visible(spec: ResNetSpec) -> tuple[Any, ...]:
    """Returns the properties of a net that determine the shapes of its weights."""
    # With bottlenecks, `stage_projection` adds nothing: their first unit projects anyway.
    projects = spec.stage_projection and spec.branch == "basic"
    fields = [getattr(spec, field) for field in _VISIBLE]
    if spec.se_reduction:
        fields += [squeezed_channels(spec, width * spec.expansion) for width in spec.widths]
    return (*fields, spec.stem, spec.stem_filters, spec.shortcut == "A", projects)


class _Shapes:
    """The shapes of one net's tensors, by our layer names, and the spec that they show."""

    def __init__(self, tensors: Mapping[str, np.ndarray], layout: Layout) -> None:
        self.tensors = tensors
        self.layout = layout
        pools = "layer2.0.downsample.2.weight" in tensors
        fields: dict[str, Any] = {"shortcut": "D" if pools else "B", **layout.base}
        if layout.name == "timm_repvgg":
            fields = _fields(VARIANTS["repvgg_a0"])
        elif layout.name == "keras_hub" and "conv2_conv/0" in tensors:
            fields["shortcut"] = "D"
        if any(key in tensors for key in ("post_bn/0", "post_bn/gamma")):
            variant = VARIANTS["keras_resnet50v2" if layout.name == "keras" else "resnetv2_50"]
            fields = {**_fields(variant), "branch": "basic", "stride_placement": "3x3"}
        if layout.name == "keras" and fields.get("order") != "pre":
            fields["stride_placement"] = "1x1"
        # A net with the same layer names, which the name maps need.
        self.probe = ResNetSpec("net", (1,), (1,), **fields)
        if layout.name == "mlperf_tiny":
            self.probe = VARIANTS["mlperf_tiny_resnet8"]

    def shape(self, layer: str) -> tuple[int, ...] | None:
        """Returns the shape of a layer's first tensor with Keras's axes; None if there is none."""
        prefix = self.layout.translate(layer, self.probe)
        kind = "norm" if "norm" in layer else "dense" if layer == "logits" else "conv"
        if prefix is None:
            return None
        name = f"{prefix}{self.layout.separator}{self.layout.roles[kind][0]}"
        array = self.tensors.get(name)
        if array is None:
            return None
        shape = tuple(array.shape)
        if self.layout.torch and kind != "norm" and len(shape) > 1:
            shape = (*shape[2:], shape[1], shape[0])
        return shape

    def kernel(self, layer: str) -> tuple[int, ...]:
        shape = self.shape(layer)
        if shape is None:
            raise ValueError(f"no kernel for {layer!r}")
        return shape

    def classes(self) -> int | None:
        shape = self.shape("logits")
        return shape[-1] if shape else None

    def spec(self) -> ResNetSpec:
        if self.layout.name == "mlperf_tiny":
            return self.probe
        depths: list[int] = []
        widths: list[int] = []
        while self.shape(f"stage{len(depths) + 1}_unit1_conv1"):
            stage = len(depths) + 1
            units = 1
            while self.shape(f"stage{stage}_unit{units + 1}_conv1"):
                units += 1
            depths.append(units)
            widths.append(self._width(stage))
        stem, kind = self._stem()
        changes: dict[str, Any] = {
            "name": "net",
            "depths": tuple(depths),
            "widths": tuple(widths),
            **self._branch(widths[0], len(depths)),
        }
        changes["stem"] = kind
        changes["input_channels"] = self._first_kernel()[-2]
        changes["stem_width"] = None if stem[-1] == widths[0] else stem[-1]
        if self.shape("stem_pool_conv"):
            changes["stem_pool"] = "conv"
        projected = self.shape("stage1_unit1_shortcut_conv") is not None
        if changes["branch"] == "basic" and projected and stem[-1] == widths[0]:
            changes["stage_projection"] = True
        if self.layout.name == "timm_v2" and kind in ("deep", "tiered"):
            changes["shortcut"] = "D"
        if self.layout.torch and not _has_statistics(self.tensors):
            changes["norm"] = "group"
        classes = self.classes()
        if classes:
            changes["classes"] = classes
        spec = self.probe.replace(**changes)
        return spec.replace(name=f"resnet{spec.layers}")

    def _first_kernel(self) -> tuple[int, ...]:
        names = ("stem_conv1", "stem_conv")
        return next(filter(None, map(self.shape, names)), None) or self.kernel("stem_conv")

    def _stem(self) -> tuple[tuple[int, ...], Stem]:
        """Returns the shape of the stem's last kernel, and the kind of stem."""
        if self.probe.stem == "unit":
            return self.kernel("stem_conv1"), "unit"
        if self.shape("stem_conv3") is None:
            stem = self.kernel("stem_conv")
            kinds: dict[int, Stem] = {7: "imagenet", 3: "cifar"}
            if stem[0] not in kinds:
                raise ValueError(f"a stem of kernel size {stem[0]}, not 7 or 3")
            return stem, kinds[stem[0]]
        filters = [self.kernel(f"stem_conv{number}")[-1] for number in (1, 2, 3)]
        width = filters[-1]
        if filters == [width // 2, width // 2, width]:
            return self.kernel("stem_conv3"), "deep"
        if filters == [3 * (width // 8), width // 2, width]:
            return self.kernel("stem_conv3"), "tiered"
        raise ValueError(f"a stem of {', '.join(map(str, filters))} filters")

    def _width(self, stage: int) -> int:
        last = self.shape(f"stage{stage}_unit1_conv3")
        if last is None:
            return self.kernel(f"stage{stage}_unit1_conv1")[-1]
        return last[-1] // 4

    def _branch(self, width: int, stages: int) -> dict[str, Any]:
        if self.probe.branch == "repvgg":
            return {"branch": "repvgg"}
        middle = self.kernel("stage1_unit1_conv2")
        changes: dict[str, Any] = {"branch": "basic", **self._attention(stages)}
        if self.shape("stage1_unit1_conv3") is not None:
            groups = middle[-1] // middle[-2]
            if groups == 0 or width == 0:
                raise ValueError(
                    f"'stage1_unit1_conv2' has {middle[-2]} inputs per group and {middle[-1]} "
                    "outputs: the net is pruned, or its widths are none of a residual net"
                )
            changes["branch"] = "bottleneck"
            changes["groups"] = groups
            changes["base_width"] = middle[-1] * 64 // (groups * width)
        return changes

    def _attention(self, stages: int) -> dict[str, Any]:
        if self.shape("stage1_unit1_se_conv"):
            return {"eca": True}
        gates = [self.shape(f"stage{stage + 1}_unit1_se_fc1") for stage in range(stages)]
        if gates[0] is None or gates[-1] is None:
            return {}
        # Rounding to multiples of 8 shows in the narrow stages.
        reduction = round(gates[-1][-2] / gates[-1][-1])
        rounded = gates[0][-1] != max(1, gates[0][-2] // reduction)
        return {"se_reduction": reduction, "se_divisor": 8 if rounded else 1}


def _fields(spec: ResNetSpec) -> dict[str, Any]:
    """Returns a spec's fields without those that the tensors determine."""
    shown = {"name", "depths", "widths", "stem_width"}
    return {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if field.name not in shown
    }
