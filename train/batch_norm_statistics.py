"""Batch-norm statistics of finished weights, re-estimated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet.nets.named_weights import write_weights
from keras_resnet.weights.rebuild import copy_weights, rebuild

from .config import RunConfig
from .data import ImageData, Share, TrainingPlan, make_finish, pixel_batches

_LARGEST_BATCH = 256  # on one device

# Without augmentation that makes images unlike those that the net will see.
_ALIKE: dict[str, Any] = {
    "mixup": 0.0,
    "cutmix": 0.0,
    "erasing": 0.0,
    "repeats": 1,
    "start_size": None,
    "train_size": None,
}


def recompute_batch_norm(model: Any, batches: Iterable[Any]) -> int:
    """Measures the statistics of all batch norms of a net on images, in place.

    A layer's mean and variance are those of all images together. Each layer receives what it
    receives in training, where the layers before it normalize by the statistics of the batch.
    Stochastic depth and dropout drop nothing. The weights do not change.

    Source: Izmailov et al. 2018 (arXiv:1803.05407), section 3.2 (a pass over the data for averaged
    weights); Wu and Johnson 2021 (arXiv:2105.07576), section 3 (PreciseBN).

    Args:
        model: A net made by `build`.
        batches: Batches of normalized images, `(batch, height, width, channels)`. Batches of the
            size of training give the statistics that training aims at.

    Returns:
        The number of images.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If there are no images, or the net has no batch norm.

    Example:
        >>> recompute_batch_norm(model, [images[:128], images[128:256]])
        256
    """
    import tensorflow as tf

    spec = model.spec.replace(
        stochastic_depth=0.0, shortcut_dropout=0.0, head_dropout=0.0, norm_sync=False
    )
    twin = rebuild(model, spec=spec, stacked=False, dtype="float32", layer_names="own")
    copy_weights(model, twin)
    norms = [each for each in twin.layers if isinstance(each, keras.layers.BatchNormalization)]
    if not norms:
        raise ValueError(f"{model.name!r} has no batch norm")
    for norm in norms:
        norm.momentum = 0.0  # the moving statistics become those of the batch

    @tf.function(input_signature=[tf.TensorSpec((None, *twin.inputs[0].shape[1:]))])
    def measure(images: Any) -> Any:
        twin(images, training=True)
        return [(norm.moving_mean.value, norm.moving_variance.value) for norm in norms]

    count, totals = 0, [np.zeros((2, norm.moving_mean.shape[0])) for norm in norms]
    for images in batches:
        images = tf.convert_to_tensor(images, tf.float32)
        count += len(images)
        for total, (mean, variance) in zip(totals, measure(images), strict=True):
            mean, variance = (np.asarray(part, "float64") for part in (mean, variance))
            total += len(images) * np.stack([mean, variance + mean**2])
    if not count:
        raise ValueError("Batch norm needs images to measure its statistics on. Received: none")
    for norm, (mean, square) in zip(norms, totals, strict=True):
        norm.moving_mean.assign(mean / count)
        norm.moving_variance.assign(np.maximum(square / count - (mean / count) ** 2, 0.0))
    write_weights(model, {norm.name: norm.get_weights() for norm in norms})
    return count


def statistics_batches(
    config: RunConfig, data: ImageData, preprocess: PreprocessSpec, images: int
) -> Iterator[Any]:
    """Yields batches of normalized training images, each image at most once.

    They have the size of test images and are augmented as in training, but not mixed, erased or
    repeated. As in training, the device receives uint8 and normalizes them.

    Args:
        config: The run.
        data: Its images.
        preprocess: Their preprocessing.
        images: Number of images; all of them where there are fewer.
    """
    import tensorflow as tf

    augment = dataclasses.replace(config.augment, **_ALIKE)
    count = min(images, len(data.train))
    batch = min(config.batch_size // config.optimizer.accumulate, _LARGEST_BATCH, count)
    plan = TrainingPlan(preprocess, augment, data.channels, config.seed, 0, -(-count // batch))
    finish = tf.function(make_finish(preprocess, augment))
    for pixels, _ in pixel_batches(data.train, plan, Share(batch)):
        yield finish(pixels)[:count]
        count -= batch
        if count <= 0:
            return
