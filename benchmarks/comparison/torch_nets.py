"""ResNets in PyTorch, in torchvision's layout; torchvision itself is not needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; shortcuts of option A: subsampled, padded with zeros."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.stride, self.extra = stride, width - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the unit's output, `(batch, width, height / stride, width / stride)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.extra:
            x = functional.pad(
                x[:, :, :: self.stride, :: self.stride],
                (0, 0, 0, 0, self.extra // 2, self.extra // 2),
            )
        return self.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; the stride is in the first, as in `resnet50` of this package."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if inputs != 4 * width:
            self.downsample = nn.Sequential(
                _conv(inputs, 4 * width, 1, stride), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the unit's output, `(batch, 4 * width, height / stride, width / stride)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu((x if self.downsample is None else self.downsample(x)) + y)


class TorchResNet(nn.Module):
    """A ResNet over `(batch, channels, height, width)`; returns logits."""

    def __init__(self, depths: Sequence[int], classes: int, *, cifar: bool) -> None:
        super().__init__()
        channels = 16 if cifar else 64
        self.conv1 = _conv(3, channels, 3 if cifar else 7, 1 if cifar else 2)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        block, growth = (BasicBlock, 1) if cifar else (Bottleneck, 4)
        stages, width = [], channels
        for stage, depth in enumerate(depths):
            units = []
            for unit in range(depth):
                units.append(block(channels, width, 2 if stage and unit == 0 else 1))
                channels = growth * width
            stages.append(nn.Sequential(*units))
            width *= 2
        self.layers = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits `(batch, classes)`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layers(x)), 1))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
