"""Whether a run can fit into memory at all, before its net is built."""

from __future__ import annotations

import math

from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.nets.budget import kernel_parameters

from .config import AugmentConfig
from .data.memory import free_memory

_BYTES = 4  # of a float32


def check_memory(
    spec: ResNetSpec,
    preprocess: PreprocessSpec,
    augment: AugmentConfig,
    *,
    batch: int,
    classes: int,
    channels: int,
) -> None:
    """Checks that a batch of images, and the weights with their gradients, fit into free memory.

    A run takes several times as much: this refuses only what cannot work.

    Args:
        spec: The net.
        preprocess: Has the size of the images.
        augment: Has the pixels that are put around images.
        batch: Images per step on this machine.
        classes: Outputs of the net.
        channels: Channels of the images.

    Raises:
        ValueError: If one of the two does not fit.
    """
    free = free_memory()
    pad = augment.pad if augment.crop == "pad" else 0
    shape = (*(side + 2 * pad for side in preprocess.size), channels)
    images = _BYTES * batch * math.prod(shape)
    if images > free:
        raise ValueError(
            f"`batch_size`: {batch:,} images of {' x '.join(map(str, shape))} take "
            f"{_gigabytes(images)}, and {_gigabytes(free)} of memory are free: lower "
            "--batch-size, --image-size or `augment.pad`"
        )
    weights = 2 * _BYTES * kernel_parameters(spec, classes, channels)
    if weights > free:
        raise ValueError(
            f"`model`: the weights of {spec.name} and their gradients take at least "
            f"{_gigabytes(weights)}, and {_gigabytes(free)} of memory are free: choose a smaller "
            f"net. Received: depths={spec.depths}, widths={spec.widths}"
        )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
