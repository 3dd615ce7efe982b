"""Checks that an augmentation fits the images and the batch, before training."""

from __future__ import annotations

from ..config import AugmentConfig
from .mixing import is_mixed


def check_augmentation(
    config: AugmentConfig, *, size: tuple[int, int], channels: int, batch: int, per_replica: int
) -> None:
    """Checks that an augmentation can be done.

    Args:
        config: The augmentation.
        size: Height and width of the training images.
        channels: Channels per image.
        batch: Images in a global batch.
        per_replica: Images per replica.

    Raises:
        ValueError: If it cannot; names the field.
    """
    if is_mixed(config) and per_replica % 2:
        raise ValueError(
            "`augment.mixup` and `augment.cutmix` mix pairs of images: the batch of each replica "
            f"must be even. Received: {per_replica} images per replica, batch_size={batch}"
        )
    if config.pca_noise and channels != 3:
        raise ValueError(
            "`augment.pca_noise` needs images of 3 channels. "
            f"Received: augment.pca_noise={config.pca_noise}, {channels} channel(s)"
        )
    if (config.policy != "none" or config.color_jitter) and channels not in (1, 3):
        raise ValueError(
            "`augment.policy` and `augment.color_jitter` need images of 1 or 3 channels. "
            f"Received: augment.policy={config.policy!r}, {channels} channels"
        )
    if -(-batch // config.repeats) < 2 <= config.repeats:
        raise ValueError(
            "`augment.repeats` must leave 2 different images in a batch. "
            f"Received: augment.repeats={config.repeats}, batch_size={batch}"
        )
    if config.train_size is not None and config.train_size > min(size):
        raise ValueError(
            f"`augment.train_size` must be at most the size of the net's input ({min(size)}). "
            f"Received: augment.train_size={config.train_size}"
        )
    largest = config.train_size or min(size)
    if config.start_size is not None and config.start_size > largest:
        raise ValueError(
            f"`augment.start_size` must be at most the size of the training images ({largest}). "
            f"Received: augment.start_size={config.start_size}"
        )
