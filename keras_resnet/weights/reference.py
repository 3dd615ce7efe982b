"""A reference implementation of PyTorch's residual nets, in NumPy and float64.

The forward pass reads the tensors by their original names. It shares no spec, name map or Keras
layer with the rest of the package, so that an error in those shows in a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

Tensors = Mapping[str, np.ndarray]
_EPS = 1e-5  # of PyTorch's BatchNorm2d and GroupNorm
_GROUPS = 32  # of timm's GroupNorm
Antialias = Literal["none", "blur", "avg"]


def forward(
    tensors: Tensors,
    images: np.ndarray,
    *,
    stride_in_1x1: bool = False,
    first_stride: int = 1,
    antialias: Antialias = "none",
    average_shortcut: bool = False,
    eps: float = _EPS,
) -> np.ndarray:
    """Returns logits, `(batch, classes)`, or pooled features if there is no classifier.

    Args:
        tensors: Tensors of torchvision, timm (`resnet`, `resnetv2`, `repvgg`), transformers or
            akamaster, by name.
        images: Normalised images, `(batch, height, width, channels)`.
        stride_in_1x1: Whether the stride of bottlenecks is in their first 1x1 convolution
            (transformers' `downsample_in_bottleneck`).
        first_stride: Stride of the first stage (transformers' `downsample_in_first_stage`).
        antialias: timm's `aa_layer` of `resnet`: `"blur"` is `BlurPool2d`, `"avg"` `AvgPool2d`.
        average_shortcut: Whether projections average before they stride (timm's `avg_down` of
            `resnetv2`; in `resnet` the names show it).
        eps: Added to the variance in batch norms.

    Raises:
        ValueError: If the tensors belong to another library.
    """
    x = np.moveaxis(np.asarray(images, "float64"), -1, 1)
    if eps != _EPS:
        tensors = {
            name: array + np.float64(eps - _EPS) if name.endswith("running_var") else array
            for name, array in tensors.items()
        }
    if "stem.conv_kxk.conv.weight" in tensors:
        x, head = _repvgg(tensors, x), "head.fc"
    elif "stages.0.blocks.0.conv1.weight" in tensors:
        x, head = _preactivation(tensors, x, average_shortcut), "head.fc"
    elif "layer1.0.conv1.weight" in tensors:
        x = _residual(tensors, x, stride_in_1x1, first_stride, antialias)
        head = "linear" if "linear.weight" in tensors else "fc"
    elif "resnet.embedder.embedder.convolution.weight" in tensors:
        tensors = {_as_torchvision(name): array for name, array in tensors.items()}
        x = _residual(tensors, x, stride_in_1x1, first_stride)
        head = "classifier.1"
    else:
        raise ValueError("The NumPy reference computes only PyTorch's residual nets")
    x = x.mean((2, 3))
    if f"{head}.weight" not in tensors:
        return x
    kernel = np.asarray(tensors[f"{head}.weight"], "float64")
    return x @ kernel.reshape(kernel.shape[:2]).T + tensors[f"{head}.bias"]


def _conv(
    x: np.ndarray, tensors: Tensors, name: str, *, stride: int = 1, pad: int | None = None
) -> np.ndarray:
    kernel = np.asarray(tensors[f"{name}.weight"], "float64")
    out, per_group, size = kernel.shape[0], kernel.shape[1], kernel.shape[2]
    pad = size // 2 if pad is None else pad
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    groups = x.shape[1] // per_group
    parts = []
    for group in range(groups):
        inputs = windows[:, group * per_group : (group + 1) * per_group]
        filters = kernel[group * (out // groups) : (group + 1) * (out // groups)]
        parts.append(np.tensordot(inputs, filters, ((1, 4, 5), (1, 2, 3))))
    y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    bias = tensors.get(f"{name}.bias")
    return y if bias is None else y + np.asarray(bias, "float64")[:, None, None]


def _norm(x: np.ndarray, tensors: Tensors, name: str) -> np.ndarray:
    parts = {
        part: np.asarray(tensors[f"{name}.{part}"], "float64")[:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
        if f"{name}.{part}" in tensors
    }
    if "running_mean" in parts:
        y = (x - parts["running_mean"]) / np.sqrt(parts["running_var"] + _EPS)
    else:
        y = _group_normed(x)
    return y * parts["weight"] + parts["bias"]


def _group_normed(x: np.ndarray) -> np.ndarray:
    groups = x.reshape(x.shape[0], _GROUPS, -1)
    mean, variance = groups.mean(-1, keepdims=True), groups.var(-1, keepdims=True)
    return ((groups - mean) / np.sqrt(variance + _EPS)).reshape(x.shape)


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _max_pool(x: np.ndarray, stride: int = 2) -> np.ndarray:
    """MaxPool2d(kernel_size=3, stride, padding=1)."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return windows[:, :, ::stride, ::stride].max((4, 5))


def _antialias(x: np.ndarray, kind: Antialias, *, stem: bool = False) -> np.ndarray:
    """Halves the size: AvgPool2d(2), or timm's BlurPool2d of 3x3 taps with reflected borders."""
    if kind == "avg":
        if stem:  # PyTorch leaves out an odd last row and column
            x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
        return _average_pool(x)
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    x = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    x = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
    return x[:, :, ::2, ::2]


def _average_pool(x: np.ndarray) -> np.ndarray:
    """AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)."""
    height, width = x.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
    return np.nanmean(windows[:, :, ::2, ::2], axis=(4, 5))


def _blocks(tensors: Tensors, form: str) -> list[tuple[str, int]]:
    """Returns the names and strides of all blocks; every stage but the first has stride 2."""
    blocks, stage = [], 0
    first = 1 if form.startswith("layer") else 0
    while f"{form.format(stage + first, 0)}.conv1.weight" in tensors:
        block = 0
        while f"{form.format(stage + first, block)}.conv1.weight" in tensors:
            stride = 2 if stage and not block else 1
            blocks.append((form.format(stage + first, block), stride))
            block += 1
        stage += 1
    return blocks


def _residual(
    tensors: Tensors,
    x: np.ndarray,
    stride_in_1x1: bool = False,
    first_stride: int = 1,
    antialias: Antialias = "none",
) -> np.ndarray:
    """Computes torchvision's and timm's `resnet.py`, and akamaster's CIFAR nets."""
    if "conv1.weight" in tensors:
        small = tensors["conv1.weight"].shape[-1] == 3
        x = _conv(x, tensors, "conv1", stride=1 if small else 2)
    else:
        small = False
        for number, stride in (("0", 2), ("3", 1)):
            x = _conv(x, tensors, f"conv1.{number}", stride=stride)
            x = _relu(_norm(x, tensors, f"conv1.{int(number) + 1}"))
        x = _conv(x, tensors, "conv1.6")
    x = _relu(_norm(x, tensors, "bn1"))
    if "maxpool.0.weight" in tensors:
        x = _relu(_norm(_conv(x, tensors, "maxpool.0", stride=2), tensors, "maxpool.1"))
    elif not small and antialias == "none":
        x = _max_pool(x)
    elif not small:
        x = _antialias(_max_pool(x, 1) if antialias == "blur" else x, antialias, stem=True)
    for name, stride in _blocks(tensors, "layer{}.{}"):
        if name == "layer1.0":
            stride = first_stride
        if f"{name}.conv3.weight" not in tensors:
            strides = [stride, 1]
        else:
            strides = [stride, 1, 1] if stride_in_1x1 else [1, stride, 1]
        branch = _block(tensors, name, x, strides, antialias)
        x = _relu(_shortcut(tensors, name, x, stride) + branch)
    return x


def _block(
    tensors: Tensors, name: str, x: np.ndarray, strides: list[int], antialias: Antialias
) -> np.ndarray:
    """Computes the residual branch of a block."""
    for number, step in enumerate(strides, start=1):
        filtered = step > 1 and antialias != "none"
        x = _conv(x, tensors, f"{name}.conv{number}", stride=1 if filtered else step)
        x = _norm(x, tensors, f"{name}.bn{number}")
        x = _relu(x) if number < len(strides) else x
        x = _antialias(x, antialias) if filtered else x
    if f"{name}.se.conv.weight" in tensors:  # ECA: a convolution over the channels' means
        taps = np.asarray(tensors[f"{name}.se.conv.weight"], "float64")[0, 0]
        means = np.pad(x.mean((2, 3)), ((0, 0), (taps.size // 2,) * 2))
        windows = np.lib.stride_tricks.sliding_window_view(means, taps.size, axis=1)
        x = x / (1 + np.exp(-windows @ taps))[:, :, None, None]
    if f"{name}.se.fc1.weight" in tensors:
        gate = _conv(x.mean((2, 3), keepdims=True), tensors, f"{name}.se.fc1")
        gate = _conv(_relu(gate), tensors, f"{name}.se.fc2")
        x = x / (1 + np.exp(-gate))
    return x


def _shortcut(tensors: Tensors, name: str, x: np.ndarray, stride: int) -> np.ndarray:
    """Computes the shortcut of a block: option D, B or A, or the identity."""
    if f"{name}.downsample.2.weight" in tensors:
        x = _average_pool(x) if stride > 1 else x
        return _norm(_conv(x, tensors, f"{name}.downsample.1"), tensors, f"{name}.downsample.2")
    if f"{name}.downsample.0.weight" in tensors:
        x = _conv(x, tensors, f"{name}.downsample.0", stride=stride)
        return _norm(x, tensors, f"{name}.downsample.1")
    planes = tensors[f"{name}.conv1.weight"].shape[0]
    if stride > 1:  # option A of akamaster's nets
        return np.pad(x[:, :, ::2, ::2], ((0, 0), (planes // 4,) * 2, (0, 0), (0, 0)))
    return x


def _preactivation(tensors: Tensors, x: np.ndarray, average_shortcut: bool) -> np.ndarray:
    """Computes timm's `resnetv2.py` with batch norm or group norm."""
    if "stem.conv.weight" in tensors:
        x = _conv(x, tensors, "stem.conv", stride=2)
    else:
        x = _relu(_norm(_conv(x, tensors, "stem.conv1", stride=2), tensors, "stem.norm1"))
        x = _relu(_norm(_conv(x, tensors, "stem.conv2"), tensors, "stem.norm2"))
        x = _conv(x, tensors, "stem.conv3")
    x = _max_pool(x)
    for name, stride in _blocks(tensors, "stages.{}.blocks.{}"):
        start = _relu(_norm(x, tensors, f"{name}.norm1"))
        shortcut = x
        if f"{name}.downsample.conv.weight" in tensors:
            average = average_shortcut and stride > 1
            shortcut = _average_pool(start) if average else start
            shortcut = _conv(
                shortcut, tensors, f"{name}.downsample.conv", stride=1 if average else stride
            )
        bottleneck = f"{name}.conv3.weight" in tensors
        y = _conv(start, tensors, f"{name}.conv1", stride=1 if bottleneck else stride)
        y = _relu(_norm(y, tensors, f"{name}.norm2"))
        y = _conv(y, tensors, f"{name}.conv2", stride=stride if bottleneck else 1)
        if bottleneck:
            y = _conv(_relu(_norm(y, tensors, f"{name}.norm3")), tensors, f"{name}.conv3")
        x = shortcut + y
    return _relu(_norm(x, tensors, "norm"))


def _repvgg(tensors: Tensors, x: np.ndarray) -> np.ndarray:
    """Computes timm's RepVGG in its training form."""
    names = ["stem"]
    stage = 0
    while f"stages.{stage}.0.conv_kxk.conv.weight" in tensors:
        block = 0
        while f"stages.{stage}.{block}.conv_kxk.conv.weight" in tensors:
            names.append(f"stages.{stage}.{block}")
            block += 1
        stage += 1
    for name in names:
        stride = 2 if name == "stem" or name.endswith(".0") else 1
        branches = []
        for branch in ("conv_kxk", "conv_1x1"):
            y = _conv(x, tensors, f"{name}.{branch}.conv", stride=stride)
            branches.append(_norm(y, tensors, f"{name}.{branch}.bn"))
        if f"{name}.identity.weight" in tensors:
            branches.append(_norm(x, tensors, f"{name}.identity"))
        x = _relu(np.sum(branches, axis=0))
    return x


def _as_torchvision(name: str) -> str:
    """Returns torchvision's name for a tensor of transformers' ResNet."""
    parts = name.split(".")
    if name.startswith("resnet.embedder.embedder."):
        return f"{'conv1' if parts[3] == 'convolution' else 'bn1'}.{parts[-1]}"
    if not name.startswith("resnet.encoder.stages."):
        return name
    prefix = f"layer{int(parts[3]) + 1}.{parts[5]}"
    conv = parts[-2] == "convolution"
    if parts[6] == "shortcut":
        return f"{prefix}.downsample.{0 if conv else 1}.{parts[-1]}"
    return f"{prefix}.{'conv' if conv else 'bn'}{int(parts[7]) + 1}.{parts[-1]}"
