"""Decoding and augmentation of one training image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec

from ..augment import (
    changes_images,
    crop_box,
    erase_from,
    make_change,
    mirror,
    place,
    random_crop,
)
from .batches import TrainingPlan
from .hand_over import crops_originals, normalized_by_host
from .images import fit, normalize, whole_values
from .scaled import decode_and_crop, decode_and_fit
from .sources import Source


def mean_color(preprocess: PreprocessSpec, channels: int) -> np.ndarray:
    """Returns the mean colour as uint8 `(channels,)`, in the order of the images' channels."""
    mean = np.broadcast_to(np.asarray(preprocess.mean), (channels,))
    if preprocess.channel_order == "bgr":
        mean = mean[::-1]
    return np.clip(np.round(mean), 0, 255).astype("uint8")


def place_images(images: Any, draws: Any, plan: TrainingPlan) -> Any:
    """Pads uint8 images of the network's size with the mean colour, crops and mirrors them."""
    return place(images, draws, plan.augment, mean_color(plan.preprocess, plan.channels))


def make_image_change(plan: TrainingPlan) -> Callable[[Any, Any], Any]:
    """Returns a function that changes one image that is cropped or placed already.

    Args:
        plan: The parameters of the batches.

    Returns:
        A function of an image `(height, width, channels)` of values 0..255, and its row of
        `image_plan`, to pixels that can be handed over: uint8, or float32 where crops are not
        rounded or the host normalises.
    """
    import tensorflow as tf

    augment = plan.augment
    changes_pixels = augment.policy != "none" or augment.color_jitter > 0
    rounded = changes_pixels or augment.pixels == "uint8"
    change = make_change(augment, tf.constant(mean_color(plan.preprocess, plan.channels)))

    def image_change(image: Any, row: Any) -> Any:
        if rounded and image.dtype != tf.uint8:
            image = whole_values(image, clip=False)  # resized bilinearly: within 0..255
        if changes_pixels:
            image = change(image, row)
        if not normalized_by_host(augment):
            return image
        image = normalize(image, plan.preprocess)
        return erase_from(image, row, augment) if augment.erasing else image

    return image_change


def open_image(image: Any, row: Any, plan: TrainingPlan, source: Source) -> Any:
    """Decodes a stored image and brings it to the size of the training images.

    Args:
        image: An encoded image, or a uint8 image.
        row: Its row of `image_plan`.
        plan: The parameters of the batches.
        source: The images, which say how they are decoded.

    Returns:
        An image of values 0..255: a random crop and mirrored, where the augmentation crops
        originals; else all of it, placed where images are changed one by one.
    """
    import tensorflow as tf

    if crops_originals(plan.augment):
        return _cropped(image, row, plan, source)
    if image.dtype == tf.string:
        image = decode_and_fit(image, plan.channels, plan.preprocess, source.decoding)
    else:
        image = fit(image, plan.preprocess)
    if changes_images(plan.augment):
        return place_images(image[None], row["place"][None], plan)[0]
    return image


def _cropped(image: Any, row: Any, plan: TrainingPlan, source: Source) -> Any:
    """Returns a random crop, float32 0..255; of a JPEG, only that part is decoded."""
    import tensorflow as tf

    size: Any = row.get("size", plan.preprocess.size)
    place, retry = row["place"], row.get("retry")
    if image.dtype != tf.string:
        return random_crop(image, place, plan.augment, size, retry)

    def choose(shape: Any) -> Any:
        return crop_box(shape, place, plan.augment, size, retry)

    crop = decode_and_crop(image, plan.channels, choose, size, source.decoding)
    return mirror(crop, place, plan.augment, size)
