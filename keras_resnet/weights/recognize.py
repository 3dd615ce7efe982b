"""Recognition of a net by its tensors: the library of their names, the spec of their shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import VARIANTS
from keras_resnet.nets.spec import ResNetSpec
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
    "groups",
    "base_width",
    "se_reduction",
    "conv_bias",
    "stem_activation",
)


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


def _find_layout(tensors: Mapping[str, np.ndarray], *, source: str) -> Layout:
    """Returns the layout of tensors.

    Raises:
        ValueError: If no known library uses these names, or the net has group norms.
    """
    name = next((layout for sign, layout in SIGNS if sign in tensors), None)
    if name is None:
        listed = ", ".join(list(tensors)[:4])
        raise ValueError(
            f"{source} is not a residual net of {', '.join(LAYOUTS)}. Its tensors: {listed} ..."
        )
    layout = LAYOUTS[name]
    if name == "keras" and "conv2_block1_1_conv/0" in tensors:
        layout = dataclasses.replace(layout, roles=KERAS3_ROLES)
    if layout.torch and not any(key.endswith("running_mean") for key in tensors):
        raise ValueError(
            f"{source} has no batch-norm statistics: this package does not build GroupNorm nets "
            "such as BiT (weight-standardised convolutions)"
        )
    if name == "torchvision":
        if "linear.weight" in tensors:
            return LAYOUTS["akamaster"]
        if _timm_only(tensors):
            return LAYOUTS["timm"]
    return layout


def _timm_only(tensors: Mapping[str, np.ndarray]) -> bool:
    signs = ("conv1.0.weight", "layer2.0.downsample.2.weight", "layer1.0.se.fc1.weight")
    return any(sign in tensors for sign in signs)


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
    fields = tuple(getattr(spec, field) for field in _VISIBLE)
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
        deep = self.shape("stem_conv3") is not None
        changes: dict[str, Any] = {
            "name": "net",
            "depths": tuple(depths),
            "widths": tuple(widths),
            **self._branch(widths[0]),
        }
        if self.probe.stem != "unit":
            stem = self.kernel("stem_conv3" if deep else "stem_conv")
            sizes = {7: "imagenet", 3: "deep" if deep else "cifar"}
            changes["stem"] = sizes[stem[0]]
        else:
            stem = self.kernel("stem_conv1")
        changes["stem_width"] = None if stem[-1] == widths[0] else stem[-1]
        if self.shape("stem_pool_conv"):
            changes["stem_pool"] = "conv"
        projected = self.shape("stage1_unit1_shortcut_conv") is not None
        if changes["branch"] == "basic" and projected and stem[-1] == widths[0]:
            changes["stage_projection"] = True
        classes = self.classes()
        if classes:
            changes["classes"] = classes
        spec = self.probe.replace(**changes)
        return spec.replace(name=f"resnet{spec.layers}")

    def _width(self, stage: int) -> int:
        last = self.shape(f"stage{stage}_unit1_conv3")
        if last is None:
            return self.kernel(f"stage{stage}_unit1_conv1")[-1]
        return last[-1] // 4

    def _branch(self, width: int) -> dict[str, Any]:
        if self.probe.branch == "repvgg":
            return {"branch": "repvgg"}
        gate = self.shape("stage1_unit1_se_fc1")
        middle = self.kernel("stage1_unit1_conv2")
        if self.shape("stage1_unit1_conv3") is None:
            reduction = round(gate[-2] / gate[-1]) if gate else 0
            return {"branch": "basic", "se_reduction": reduction}
        groups = middle[-1] // middle[-2]
        return {
            "branch": "bottleneck",
            "groups": groups,
            "base_width": middle[-1] * 64 // (groups * width),
            "se_reduction": round(gate[-2] / gate[-1]) if gate else 0,
        }


def _fields(spec: ResNetSpec) -> dict[str, Any]:
    """Returns a spec's fields without those that the tensors determine."""
    shown = {"name", "depths", "widths", "stem_width"}
    return {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if field.name not in shown
    }
