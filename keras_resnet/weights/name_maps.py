"""Name maps: the prefixes that other libraries give the tensors of our layers.

Each function takes the name of one of our layers, such as `"stage2_unit1_conv1"`, and the spec of
the net. It returns the library's prefix, such as `"layer2.0.conv1"`, or None if the library has no
such layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keras_resnet.nets.geometry import units
from keras_resnet.nets.spec import ResNetSpec

_UNIT = re.compile(r"stage(\d+)_unit(\d+)_(shortcut_)?(conv|norm|se_fc|se_conv)(\d*)")
_STEM = re.compile(r"stem_(conv|norm)(\d*)")


def _parts(name: str) -> tuple[int, int, bool, str, str] | None:
    """Splits a layer's name into stage and unit from 0, is-shortcut, kind and number."""
    match = _UNIT.fullmatch(name)
    if match is None:
        return None
    stage, unit, shortcut, kind, number = match.groups()
    return int(stage) - 1, int(unit) - 1, bool(shortcut), kind, number


def torchvision(name: str, spec: ResNetSpec) -> str | None:
    """Names of torchvision, and of timm's `resnet.py`."""
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
    if shortcut:  # in option D, the pool (or an identity) is the first of three modules
        return f"{prefix}.downsample.{(kind == 'norm') + (spec.shortcut == 'D')}"
    if kind.startswith("se_"):
        return f"{prefix}.{kind.replace('_', '.')}{number}"
    return f"{prefix}.{'bn' if kind == 'norm' else 'conv'}{number}"


def timm_v2(name: str, spec: ResNetSpec) -> str | None:
    """Names of timm's `resnetv2.py`."""
    stem = _STEM.fullmatch(name)
    if stem:
        return f"stem.{stem[1]}{stem[2]}"
    fixed = {"final_norm": "norm", "logits": "head.fc"}
    parts = _parts(name)
    if parts is None or parts[3].startswith("se_"):
        return fixed.get(name)
    stage, unit, shortcut, kind, number = parts
    return f"stages.{stage}.blocks.{unit}." + ("downsample.conv" if shortcut else kind + number)


def timm_repvgg(name: str, spec: ResNetSpec) -> str | None:
    """Names of RepVGG in timm's `byobnet.py`."""
    if name == "logits":
        return "head.fc"
    stem = _STEM.fullmatch(name)
    parts = (0, 0, False, stem[1], stem[2]) if stem else _parts(name)
    if parts is None or parts[3].startswith("se_"):
        return None
    stage, unit, shortcut, kind, number = parts
    prefix = "stem" if stem else f"stages.{stage}.{unit}"
    if shortcut:
        return f"{prefix}.identity"
    branch = {"1": "conv_kxk", "2": "conv_1x1"}.get(number)
    return branch and f"{prefix}.{branch}.{'bn' if kind == 'norm' else 'conv'}"


def hugging_face(name: str, spec: ResNetSpec) -> str | None:
    """Names of transformers' `ResNetForImageClassification`."""
    words = {"conv": "convolution", "norm": "normalization"}
    stem = _STEM.fullmatch(name)
    if stem:
        return None if stem[2] else f"resnet.embedder.embedder.{words[stem[1]]}"
    if name == "logits":
        return "classifier.1"
    parts = _parts(name)
    if parts is None or parts[3].startswith("se_"):
        return None
    stage, unit, shortcut, kind, number = parts
    prefix = f"resnet.encoder.stages.{stage}.layers.{unit}"
    return f"{prefix}.{'shortcut' if shortcut else f'layer.{int(number) - 1}'}.{words[kind]}"


def akamaster(name: str, spec: ResNetSpec) -> str | None:
    """Names of akamaster's CIFAR nets."""
    return "linear" if name == "logits" else torchvision(name, spec)


def keras(name: str, spec: ResNetSpec) -> str | None:
    """Names of keras.applications."""
    return _keras_like(name, spec, "conv{stage}_block{unit}", (2, 1), "_preact_bn")


def keras_hub(name: str, spec: ResNetSpec) -> str | None:
    """Names of KerasHub."""
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
    if parts is None or parts[3].startswith("se_"):
        return None
    stage, unit, shortcut, kind, number = parts
    prefix = form.format(stage=stage + first[0], unit=unit + first[1])
    if shortcut:
        return f"{prefix}_0_{'bn' if kind == 'norm' else 'conv'}"
    if kind == "conv":
        return f"{prefix}_{number}_conv"
    if spec.order == "post":
        return f"{prefix}_{number}_bn"
    # Their norms have the number of the convolution before them, ours of the one after them.
    return f"{prefix}_{int(number) - 1}_bn" if number != "1" else prefix + preactivation


def mlperf_tiny(name: str, spec: ResNetSpec) -> str | None:
    """Names of MLPerf Tiny's net: Keras 2's default names."""
    return dict(_numbered(spec)).get(name)


def _numbered(spec: ResNetSpec) -> Iterator[tuple[str, str]]:
    """Yields our names and Keras 2's default names of the layers, in creation order."""
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
