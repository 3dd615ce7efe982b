"""Name maps: what other libraries call the tensors of the nets that they share with this one.

A `Layout` turns the name of one of our layers into the prefix that another library gives its
tensors; the rest (loading, saving, telling nets by their tensors) is the same for all of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from keras_resnet.nets.geometry import units
from keras_resnet.nets.spec import ResNetSpec

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

_UNIT = re.compile(r"stage(\d+)_unit(\d+)_(shortcut_)?(conv|norm|se_fc)(\d*)")
_STEM = re.compile(r"stem_(conv|norm)(\d*)")

# How a library writes a layer's tensors: by kind of layer, in the order of Keras's own weights.
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
    """How one library names and shapes tensors.

    Attributes:
        name: Its name here.
        library: Its name in messages.
        translate: Our layer's name and the spec to the library's prefix; None where the library
            has no such layer.
        base: Fields of the spec that the library's nets have and shapes do not show.
        fixed: Fields of the spec with the values that the library can express.
        when: A field, a value of it, and what of `fixed` differs in nets that have it.
        separator: Between prefix and role.
        roles: Names of the tensors of a layer.
        torch: Whether axes stand as PyTorch's: OIHW kernels, transposed dense layers.
        head_as_conv: Whether the classifier's kernel is that of a 1x1 convolution.
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
        """Returns the fields of a spec that the library's nets cannot have, as messages."""
        fixed = dict(self.fixed)
        for field, value, further in self.when:
            if getattr(spec, field) == value:
                fixed.update(further)
        found = [
            f"{field}={getattr(spec, field)!r} (not {' or '.join(map(repr, allowed))})"
            for field, allowed in fixed.items()
            if getattr(spec, field) not in allowed
        ]
        if self.name == "timm" and spec.se_reduction:
            # timm rounds the squeezed channels to multiples of 8, the paper does not.
            squeezed = [width * spec.expansion // spec.se_reduction for width in spec.widths]
            found += [f"squeezed to {n} channels (not a multiple of 8)" for n in squeezed if n % 8]
        return found


def _parts(name: str) -> tuple[int, int, bool, str, str] | None:
    """Returns stage and unit from 0, whether it is the shortcut's, kind and number."""
    match = _UNIT.fullmatch(name)
    if match is None:
        return None
    stage, unit, shortcut, kind, number = match.groups()
    return int(stage) - 1, int(unit) - 1, bool(shortcut), kind, number


def _torchvision(name: str, spec: ResNetSpec) -> str | None:
    stem = _STEM.fullmatch(name)
    if stem:
        kind, place = stem[1], int(stem[2] or 0)
        if not place:
            return "conv1" if kind == "conv" else "bn1"
        if kind == "norm" and place == 3:
            return "bn1"
        return f"conv1.{3 * place - 3 + (kind == 'norm')}"
    if name in ("stem_pool_conv", "stem_pool_norm", "logits"):
        return {"stem_pool_conv": "maxpool.0", "stem_pool_norm": "maxpool.1"}.get(name, "fc")
    parts = _parts(name)
    if parts is None:
        return None
    stage, unit, shortcut, kind, number = parts
    prefix = f"layer{stage + 1}.{unit}"
    if shortcut:  # with option D the pool, or what stands for it, is the first of three
        return f"{prefix}.downsample.{(kind == 'norm') + (spec.shortcut == 'D')}"
    if kind == "se_fc":
        return f"{prefix}.se.fc{number}"
    return f"{prefix}.{'bn' if kind == 'norm' else 'conv'}{number}"


def _timm_v2(name: str, spec: ResNetSpec) -> str | None:
    fixed = {"stem_conv": "stem.conv", "final_norm": "norm", "logits": "head.fc"}
    parts = _parts(name)
    if parts is None or parts[3] == "se_fc":
        return fixed.get(name)
    stage, unit, shortcut, kind, number = parts
    return f"stages.{stage}.blocks.{unit}." + ("downsample.conv" if shortcut else kind + number)


def _timm_repvgg(name: str, spec: ResNetSpec) -> str | None:
    if name == "logits":
        return "head.fc"
    stem = _STEM.fullmatch(name)
    parts = (0, 0, False, stem[1], stem[2]) if stem else _parts(name)
    if parts is None or parts[3] == "se_fc":
        return None
    stage, unit, shortcut, kind, number = parts
    prefix = "stem" if stem else f"stages.{stage}.{unit}"
    if shortcut:
        return f"{prefix}.identity"
    path = {"1": "conv_kxk", "2": "conv_1x1"}.get(number)
    return path and f"{prefix}.{path}.{'bn' if kind == 'norm' else 'conv'}"


def _hugging_face(name: str, spec: ResNetSpec) -> str | None:
    words = {"conv": "convolution", "norm": "normalization"}
    stem = _STEM.fullmatch(name)
    if stem:
        return None if stem[2] else f"resnet.embedder.embedder.{words[stem[1]]}"
    if name == "logits":
        return "classifier.1"
    parts = _parts(name)
    if parts is None or parts[3] == "se_fc":
        return None
    stage, unit, shortcut, kind, number = parts
    prefix = f"resnet.encoder.stages.{stage}.layers.{unit}"
    return f"{prefix}.{'shortcut' if shortcut else f'layer.{int(number) - 1}'}.{words[kind]}"


def _akamaster(name: str, spec: ResNetSpec) -> str | None:
    return "linear" if name == "logits" else _torchvision(name, spec)


def _keras(name: str, spec: ResNetSpec) -> str | None:
    return _keras_like(name, spec, "conv{stage}_block{unit}", (2, 1), "_preact_bn")


def _keras_hub(name: str, spec: ResNetSpec) -> str | None:
    return _keras_like(name, spec, "stack{stage}_block{unit}", (0, 0), "_pre_activation_bn")


def _keras_like(
    name: str, spec: ResNetSpec, form: str, first: tuple[int, int], preactivation: str
) -> str | None:
    stem = _STEM.fullmatch(name)
    if stem:
        return f"conv{stem[2] or 1}_{'bn' if stem[1] == 'norm' else 'conv'}"
    if name in ("final_norm", "logits"):
        return "post_bn" if name == "final_norm" else "predictions"
    parts = _parts(name)
    if parts is None or parts[3] == "se_fc":
        return None
    stage, unit, shortcut, kind, number = parts
    prefix = form.format(stage=stage + first[0], unit=unit + first[1])
    if shortcut:
        return f"{prefix}_0_{'bn' if kind == 'norm' else 'conv'}"
    if kind == "conv":
        return f"{prefix}_{number}_conv"
    if spec.order == "post":
        return f"{prefix}_{number}_bn"
    # Their norms are numbered after the convolution before them, ours after the one behind.
    return f"{prefix}_{int(number) - 1}_bn" if number != "1" else prefix + preactivation


def _mlperf_tiny(name: str, spec: ResNetSpec) -> str | None:
    return dict(_numbered(spec)).get(name)


def _numbered(spec: ResNetSpec) -> Iterator[tuple[str, str]]:
    """Yields our names and those that Keras 2 gave layers without names, in creation order."""
    counts = {"conv2d": 0, "batch_normalization": 0}

    def number(ours: str) -> tuple[str, str]:
        kind = "conv2d" if "conv" in ours else "batch_normalization"
        count = counts[kind]
        counts[kind] += 1
        return ours, f"{kind}_{count}" if count else kind

    for end in ("conv", "norm"):
        yield number(f"stem_{end}")
    for unit in units(spec):
        for end in ("conv1", "norm1", "conv2", "norm2"):
            yield number(f"{unit.name}_{end}")
        if unit.changes_shape:
            yield number(f"{unit.name}_shortcut_conv")
    yield "logits", "dense"


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
}
# Keras's own: one width and no groups.
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
        Layout("torchvision", "torchvision", _torchvision, {}, _TORCHVISION),
        Layout(
            "timm",
            "timm",
            _torchvision,
            {},
            {
                **_TORCHVISION,
                "shortcut": ("B", "D"),
                "stem": ("imagenet", "deep"),
                "stem_pool": ("max", "conv"),
                "se_reduction": (0, 4, 16),
            },
        ),
        Layout(
            "timm_v2",
            "timm",
            _timm_v2,
            _PRE,
            {
                **_TORCHVISION,
                "order": ("pre",),
                "stem_activation": (False,),
                "shortcut_norm": (True, False),
            },
            head_as_conv=True,
        ),
        Layout(
            "timm_repvgg",
            "timm",
            _timm_repvgg,
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
            _hugging_face,
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
            _akamaster,
            {"shortcut": "A", "stem": "cifar"},
            {**_TORCHVISION, "branch": ("basic",), "shortcut": ("A",), "stem": ("cifar",)},
        ),
        Layout(
            "keras",
            "keras.applications",
            _keras,
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
            _keras_hub,
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
            _mlperf_tiny,
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
