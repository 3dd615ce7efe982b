"""Layouts: how other libraries name and shape the tensors of nets that this package builds too.

A `Layout` combines a name map with the order of the axes and the specs that the library can
express. Loading, saving and recognition are the same code for all libraries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from keras_resnet.nets.geometry import squeezed_channels
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.weights import name_maps

LayoutName = Literal[
    "torchvision",
    "timm",
    "timm_v2",
    "timm_repvgg",
    "hf",
    "akamaster",
    "keras",
    "keras_hub",
    "mlperf_tiny",
]

# The names of a layer's tensors by kind of layer, in the order of the weights in Keras.
TORCH_ROLES = {
    "conv": ("weight", "bias"),
    "dense": ("weight", "bias"),
    "norm": ("weight", "bias", "running_mean", "running_var"),
}
KERAS_ROLES = {
    "conv": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "norm": ("gamma", "beta", "moving_mean", "moving_variance"),
}
# Keras 3's `.weights.h5` numbers a layer's variables.
KERAS3_ROLES = {"conv": ("0", "1"), "dense": ("0", "1"), "norm": ("0", "1", "2", "3")}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names and shapes of one library's tensors.

    Attributes:
        name: Name of the layout.
        library: Name of the library in messages.
        translate: Name map: our layer's name and the spec to the library's prefix, or None if the
            library has no such layer.
        base: Values of spec fields that hold for the library's nets and that shapes do not show.
        fixed: For each restricted spec field, the values that the library can express.
        when: `(field, value, changes)`: `changes` replaces entries of `fixed` for nets whose
            `field` is `value`.
        separator: String between prefix and role.
        roles: Names of a layer's tensors by kind of layer.
        torch: Whether axes are in PyTorch's order: OIHW kernels, transposed dense kernels.
        head_as_conv: Whether the classifier is stored as a 1x1 convolution.
    """

    name: LayoutName
    library: str
    translate: Callable[[str, ResNetSpec], str | None]
    base: dict[str, Any]
    fixed: dict[str, tuple[Any, ...]]
    when: tuple[tuple[str, Any, dict[str, tuple[Any, ...]]], ...] = ()
    separator: str = "."
    roles: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: TORCH_ROLES)
    torch: bool = True
    head_as_conv: bool = False

    def misfits(self, spec: ResNetSpec) -> list[str]:
        """Returns the fields of a spec that the library cannot express, as messages."""
        fixed = dict(self.fixed)
        for field, value, changes in self.when:
            if getattr(spec, field) == value:
                fixed.update(changes)
        misfits = [
            f"{field}={getattr(spec, field)!r} (not {' or '.join(map(repr, allowed))})"
            for field, allowed in fixed.items()
            if getattr(spec, field) not in allowed
        ]
        if self.name == "timm" and spec.se_reduction:
            # timm rounds the squeezed channels to multiples of 8, the paper does not.
            squeezed = [squeezed_channels(spec, width * spec.expansion) for width in spec.widths]
            misfits += [
                f"squeezed to {n} channels (not a multiple of 8)" for n in squeezed if n % 8
            ]
        return misfits


_POST_ONLY: dict[str, tuple[Any, ...]] = {
    "order": ("post",),
    "merge": ("add",),
    "norm": ("batch",),
    "branch": ("basic", "bottleneck"),
    "padding": ("symmetric",),
    "conv_bias": (False,),
    "shortcut_norm": (True,),
    "stride_unit": ("first",),
    "first_stride": (1,),
    "blur": (0,),
    "norm_eps": (1e-5,),
    "max_stride": (None,),
    "shortcut_scale": (1.0,),
    "branch_scale": (1.0,),
}
_TORCHVISION: dict[str, tuple[Any, ...]] = {
    **_POST_ONLY,
    "shortcut": ("B",),
    "stem": ("imagenet",),
    "stem_pool": ("max",),
    "stride_placement": ("3x3",),
    "se_reduction": (0,),
    "stage_projection": (False,),
    "eca": (False,),
}
# The combinations of timm's `aa_layer`: none, `BlurPool2d` and `AvgPool2d`.
_TIMM_FILTERS: tuple[tuple[str, Any, dict[str, tuple[Any, ...]]], ...] = (
    ("blur", 2, {"stem_pool": ("avg",), "blur_shortcut": (False,)}),
    ("blur", 3, {"stem_pool": ("max",), "blur_shortcut": (False,)}),
)
# keras.applications and KerasHub have one width and no groups.
_KERAS: dict[str, tuple[Any, ...]] = {
    **_TORCHVISION,
    "order": ("post", "pre"),
    "groups": (1,),
    "base_width": (64,),
}
_PRE = {"order": "pre", "stem_activation": False}

LAYOUTS: dict[LayoutName, Layout] = {
    layout.name: layout
    for layout in (
        Layout("torchvision", "torchvision", name_maps.torchvision, {}, _TORCHVISION),
        Layout(
            "timm",
            "timm",
            name_maps.torchvision,
            {},
            {
                **_TORCHVISION,
                "shortcut": ("B", "D"),
                "stem": ("imagenet", "deep", "tiered"),
                "stem_pool": ("max", "conv"),
                "se_reduction": (0, 4, 16),
                "eca": (False, True),
                "norm": ("batch", "group"),
                "blur": (0, 2, 3),
            },
            _TIMM_FILTERS,
        ),
        Layout(
            "timm_v2",
            "timm",
            name_maps.timm_v2,
            _PRE,
            {
                **_TORCHVISION,
                "order": ("pre",),
                "stem_activation": (False,),
                "shortcut_norm": (True, False),
                "norm": ("batch", "group"),
            },
            (
                ("stem", "deep", {"shortcut": ("D",), "stem": ("deep",)}),
                ("stem", "tiered", {"shortcut": ("D",), "stem": ("tiered",)}),
            ),
            head_as_conv=True,
        ),
        Layout(
            "timm_repvgg",
            "timm",
            name_maps.timm_repvgg,
            {},
            {
                **_POST_ONLY,
                "branch": ("repvgg",),
                "stem": ("unit",),
                "first_stride": (2,),
                "stage_projection": (False,),
            },
        ),
        Layout(
            "hf",
            "Hugging Face transformers",
            name_maps.hugging_face,
            {"stride_placement": "3x3"},
            {
                **_TORCHVISION,
                "stride_placement": ("1x1", "3x3"),
                "first_stride": (1, 2),
                "groups": (1,),
                "base_width": (64,),
            },
        ),
        Layout(
            "akamaster",
            "akamaster's CIFAR nets",
            name_maps.akamaster,
            {"shortcut": "A", "stem": "cifar"},
            {**_TORCHVISION, "branch": ("basic",), "shortcut": ("A",), "stem": ("cifar",)},
        ),
        Layout(
            "keras",
            "keras.applications",
            name_maps.keras,
            {"conv_bias": True, "norm_eps": 1.001e-5, "norm_momentum": 0.99},
            {
                **_KERAS,
                "branch": ("bottleneck",),
                "conv_bias": (True,),
                "norm_eps": (1.001e-5,),
                "stride_placement": ("1x1",),
            },
            (
                (
                    "order",
                    "pre",
                    {
                        "conv_bias": ("unnormed",),
                        "stem_activation": (False,),
                        "stem_pool": ("max_zero",),
                        "stride_placement": ("3x3",),
                        "stride_unit": ("last",),
                    },
                ),
            ),
            separator="/",
            roles=KERAS_ROLES,
            torch=False,
        ),
        Layout(
            "keras_hub",
            "KerasHub",
            name_maps.keras_hub,
            {},
            {**_KERAS, "stem": ("imagenet", "deep"), "stage_projection": (False, True)},
            (
                ("order", "pre", {"stem_activation": (False,), "shortcut_norm": (True, False)}),
                ("stem", "deep", {"shortcut": ("D",)}),
            ),
            separator="/",
            roles=KERAS3_ROLES,
            torch=False,
        ),
        Layout(
            "mlperf_tiny",
            "MLPerf Tiny",
            name_maps.mlperf_tiny,
            {},
            {
                **_TORCHVISION,
                "branch": ("basic",),
                "stem": ("cifar",),
                "padding": ("same",),
                "conv_bias": (True,),
                "shortcut_norm": (False,),
                "norm_eps": (1e-3,),
            },
            separator="/",
            roles=KERAS_ROLES,
            torch=False,
        ),
    )
}
