r"""Quantise-aware fine-tuning of a trained net: the default with `--quantize int8`.

The net is trained already, so it only adapts to the grid: SGD with momentum 0.9 at a low rate,
1e-4 with 8 bits and 1e-3 with 4, cosine to zero, few epochs, no warm-up, the augmentation of
training but no label smoothing and no mixup. Weight decay acts on kernels only: not on the learned
scales of the kernels. The ranges of activations are calibrated on 512 training images, averaged for
half of the run and frozen then, so that the weights settle in the grid that they are deployed in.

Source: this project. Short training at a low rate from a trained float net follows Krishnamoorthi
2018 (arXiv:1806.08342), "Training best practices"; the rate of 8 bits, ranges
calibrated first and frozen before the end torchvision's
`references/classification/train_quantization.py` (SGD at 1e-4, 32 batches of calibration, observers
frozen after 4 of 90 epochs); learned scales Esser et al. 2020 (arXiv:1902.08153), section 2. Their
rate of 0.01 diverged here with 4 bits: a folded net has no
norm that absorbs large steps. `python -m benchmarks quantize` measures the recipe.

    keras-resnet train --weights saved_models/float --model resnet50 --dataset flowers/ \
        --recipe quantize --output saved_models/int8
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import RunConfig
from .recipe import Recipe

# Steps that the weights need to settle; a pass over large data has enough.
_STEPS = 400
_LARGEST_EPOCHS = 20
_RATES = {8: 1e-4, 4: 1e-3}
_SMALL = 64


def settings_for(images: int, config: RunConfig) -> Mapping[str, Any]:
    """Returns the settings that follow the data.

    Args:
        images: Number of training images.
        config: The run, with its image size and the bits of its kernels.
    """
    batch = 64 if images < 100_000 else 128
    epochs = max(3, min(_LARGEST_EPOCHS, round(_STEPS * batch / images)))
    settings: dict[str, Any] = {
        "batch_size": batch,
        "epochs": epochs,
        "schedule.learning_rate": _RATES[config.quantize.bits],
        "schedule.warmup_epochs": 0.0,
    }
    size = config.data.image_size
    if size is not None and size <= _SMALL:
        settings |= {"augment.crop": "pad", "augment.pad": max(1, size // 8)}
    return settings


RECIPE = Recipe(
    name="quantize",
    source="this project, after Krishnamoorthi 2018 (arXiv:1806.08342) and Esser et "
    "al. 2020 (arXiv:1902.08153), section 2",
    expected="no published figure; `python -m benchmarks quantize` compares it with quantisation "
    "after training",
    model="resnet50",
    dataset="flowers/",
    settings={
        "batch_size": 64,
        "epochs": 5,
        "augment.crop": "resized",
        "augment.min_area": 0.35,
        "augment.flip": True,
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": True,
        "optimizer.momentum_form": "pytorch",
        "optimizer.weight_decay": 1e-4,
        "optimizer.decay_all": False,
        "schedule.kind": "cosine",
        "schedule.learning_rate": 1e-4,
    },
    by_images=settings_for,
    here="akamaster's CIFAR ResNet-20 with 4 bits on cifar10_sample (5,085 training images), three "
    "seeds: 91.8 +- 0.2 %; float 91.6 %, quantised after training 90.5 %",
    weights="saved_models/float",
)
