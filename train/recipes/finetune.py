r"""Fine-tuning of pretrained weights on one's own images: the default with `--weights`.

Length, batch, rate and mixup follow the number of training images. The classifier is new, so its
rate is ten times that of the layers below it. SGD with Nesterov's momentum, in PyTorch's form;
cosine to zero after a warm-up of a tenth of the run. Weight decay 1e-4 on kernels. Label
smoothing 0.1. Images are cropped at random, 35 % of the area or more, and flipped; small ones (up
to 64 pixels) are padded by an eighth, cropped and flipped. Where left and right differ, as in
text, add `--set augment.flip=false`. With `--freeze all` nothing is augmented, so that the features
of the frozen net are computed once.

Source: this project. Length by size of the data and mixup 0.1 from 20,000 images on follow
Kolesnikov et al. 2020 (arXiv:1912.11370), section 3.3 (BiT-HyperRule; `bit_hyperrule.py` of
google-research/big_transfer), the numbers of epochs do not. A new classifier that learns ten times
as fast as the layers below it is Caffe's, `models/finetune_flickr_style/train_val.prototxt`
(`lr_mult: 10`). No paper states an accuracy for this recipe; `python -m benchmarks finetune`
measures it.

    keras-resnet train --weights torchvision/v2 --model resnet50 --dataset flowers/ \
        --recipe finetune --output saved_models/flowers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import RunConfig
from .recipe import Recipe

# Fewer images than this: batch, epochs.
_SIZES = (
    (1_000, 32, 40),
    (5_000, 32, 30),
    (20_000, 64, 20),
    (100_000, 128, 15),
    (500_000, 256, 10),
)
_LARGEST = (256, 6)
_RATE_PER_IMAGE = 0.01 / 32
_MIXUP_FROM = 20_000
_SMALL = 64


def settings_for(images: int, config: RunConfig) -> Mapping[str, Any]:
    """Returns the settings that follow the data.

    Args:
        images: Number of training images.
        config: The run, with its image size and the frozen part of its net.
    """
    batch, epochs = next(
        ((batch, epochs) for limit, batch, epochs in _SIZES if images < limit), _LARGEST
    )
    settings: dict[str, Any] = {
        "batch_size": batch,
        "epochs": epochs,
        "schedule.learning_rate": batch * _RATE_PER_IMAGE,
        "schedule.warmup_epochs": epochs / 10,
        "augment.mixup": 0.1 if images >= _MIXUP_FROM else 0.0,
    }
    if config.model.freeze == "all":
        return settings | {
            "augment.mixup": 0.0,
            "epochs": 100,
            "schedule.learning_rate": 10 * batch * _RATE_PER_IMAGE,
            "schedule.warmup_epochs": 5,
            "optimizer.head_factor": 1.0,
            "augment.crop": "none",
            "augment.flip": False,
        }
    size = config.data.image_size
    if size is not None and size <= _SMALL:
        settings |= {"augment.crop": "pad", "augment.pad": max(1, size // 8)}
    return settings


def describe(config: RunConfig) -> str:
    """Returns one line that states what was chosen."""
    augment = config.augment
    crop = {"none": "no crop", "pad": f"padding {augment.pad} and crop"}.get(
        augment.crop, f"crops of {100 * augment.min_area:.0f} % and more"
    )
    mixup = f", mixup {augment.mixup:g}" if augment.mixup else ""
    return (
        f"Recipe finetune: {config.epochs or config.steps:g} "
        f"{'epochs' if config.epochs else 'steps'} of batches of {config.batch_size}, rate "
        f"{config.schedule.learning_rate:.4g} ({config.optimizer.head_factor:g} times as much for "
        f"the classifier) after {config.schedule.warmup_epochs:.3g} epochs of warm-up, "
        f"{config.schedule.kind}; {crop}, {'flips' if augment.flip else 'no flips'}{mixup}; label "
        f"smoothing {config.optimizer.label_smoothing:g}, weight decay "
        f"{config.optimizer.weight_decay:g}"
    )


RECIPE = Recipe(
    name="finetune",
    source="this project; sizes after Kolesnikov et al. 2020 (arXiv:1912.11370), section 3.3",
    expected="no published figure; `python -m benchmarks finetune` compares it with training from "
    "random weights",
    model="resnet50",
    dataset="flowers/",
    settings={
        "batch_size": 32,
        "epochs": 40,
        "augment.crop": "resized",
        "augment.min_area": 0.35,
        "augment.flip": True,
        "optimizer.nesterov": True,
        "optimizer.momentum_form": "pytorch",
        "optimizer.weight_decay": 1e-4,
        "optimizer.decay_all": False,
        "optimizer.label_smoothing": 0.1,
        "optimizer.head_factor": 10.0,
        "schedule.kind": "cosine",
        "schedule.learning_rate": 0.01,
        "schedule.warmup_epochs": 4,
    },
    by_images=settings_for,
    here="akamaster's CIFAR ResNet-20 on 500 images of cifar10_sample, three seeds: 97.7 +- 0.1 % "
    "in 2 superclasses, 93.7 +- 0.1 % in 4; from random weights 87.9 +- 0.8 % and 65.0 +- 1.8 %",
    weights="torchvision/v2",
)
