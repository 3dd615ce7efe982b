"""Trains a CIFAR ResNet by a recipe in PyTorch and timm: the check beside `benchmarks/recipes.py`.

It shares no code with the application: SGD and the net are PyTorch's, RandAugment, mixup, cutmix
and their soft labels are timm's. Learning rates come as a list, one per step.

    python benchmarks/recipes_torch.py data.npz settings.json

`data.npz` holds uint8 images and labels of both splits. The last line printed is JSON with the test
accuracy. The Python needs torch and timm.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "comparison"))
from torch_nets import TorchResNet


def main() -> None:
    """Trains, tests, and prints the accuracy."""
    data = dict(np.load(sys.argv[1]))
    settings = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    torch.manual_seed(settings["seed"])
    np.random.seed(settings["seed"])
    mean = torch.tensor(settings["mean"]).reshape(1, -1, 1, 1)
    std = torch.tensor(settings["std"]).reshape(1, -1, 1, 1)
    classes = int(data["train_labels"].max()) + 1
    model = TorchResNet(settings["depths"], classes, cifar=True)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    nn.init.zeros_(model.fc.bias)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings["rates"][0],
        momentum=settings["momentum"],
        nesterov=settings["nesterov"],
        weight_decay=settings["weight_decay"],
    )
    model.train()
    for step, (images, labels) in enumerate(batches(data, settings, mean, std, classes)):
        for group in optimizer.param_groups:
            group["lr"] = settings["rates"][step]
        loss = loss_of(model(images), labels, settings["label_smoothing"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step} of {len(settings['rates'])}: loss {loss.item():.3f}", flush=True)
    print(json.dumps({"accuracy": accuracy(model, data, mean, std)}))


def loss_of(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Returns the cross-entropy; mixed labels are smoothed already."""
    if labels.ndim == 2:
        return SoftTargetCrossEntropy()(logits, labels)
    return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def batches(
    data: dict[str, np.ndarray],
    settings: dict[str, Any],
    mean: torch.Tensor,
    std: torch.Tensor,
    classes: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields normalised images `(batch, channels, height, width)` and labels, one per step."""
    images, labels = data["train_images"], data["train_labels"]
    mix = None
    if settings["mixup"] or settings["cutmix"]:
        mix = Mixup(
            settings["mixup"],
            settings["cutmix"],
            label_smoothing=settings["label_smoothing"],
            num_classes=classes,
        )
    policy = None
    if settings["rand_augment"]:
        fill = tuple(round(value) for value in settings["mean"])
        policy = rand_augment_transform(settings["rand_augment"], {"img_mean": fill})
    order = np.zeros(0, "int64")
    for _ in settings["rates"]:
        while len(order) < settings["batch_size"]:
            order = np.concatenate([order, np.random.permutation(len(labels))])
        picked, order = order[: settings["batch_size"]], order[settings["batch_size"] :]
        batch = images[picked]
        if policy is not None:
            batch = np.stack([np.asarray(policy(Image.fromarray(image))) for image in batch])
        x = (torch.from_numpy(batch).permute(0, 3, 1, 2).float() - mean) / std
        x = padded_crops(x, settings["pad"])
        y = torch.from_numpy(labels[picked])
        if mix is not None:
            x, y = mix(x, y)
        yield x.contiguous(memory_format=torch.channels_last), y


def padded_crops(images: torch.Tensor, pad: int) -> torch.Tensor:
    """Pads with the mean colour, crops at random and mirrors half of the images."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (pad, pad, pad, pad))
    crops = []
    for image, top, left, flip in zip(
        padded,
        np.random.randint(2 * pad + 1, size=count),
        np.random.randint(2 * pad + 1, size=count),
        np.random.rand(count) < 0.5,
        strict=True,
    ):
        crop = image[:, top : top + height, left : left + width]
        crops.append(crop.flip(2) if flip else crop)
    return torch.stack(crops)


@torch.no_grad()
def accuracy(
    model: nn.Module, data: dict[str, np.ndarray], mean: torch.Tensor, std: torch.Tensor
) -> float:
    """Returns the top-1 accuracy on the test images."""
    model.eval()
    right = 0
    for first in range(0, len(data["test_labels"]), 256):
        part = data["test_images"][first : first + 256]
        x = (torch.from_numpy(part).permute(0, 3, 1, 2).float() - mean) / std
        predicted = model(x).argmax(1).numpy()
        right += int((predicted == data["test_labels"][first : first + 256]).sum())
    return right / len(data["test_labels"])


if __name__ == "__main__":
    main()
