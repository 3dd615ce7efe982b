"""What the host leaves to the device: batches of pixels, and the arithmetic that finishes them.

The host hands over whole pixel values as uint8, a quarter of the bytes of float32, and with them
what random numbers have decided: which pixels are padding, which are erased, the shift of each
image's colours, and what each pixel keeps when images are mixed. The device normalises, and applies
these by sums, products and selections of single values. The result is the same to the bit as if the
host had done it.

Two augmentations work on normalised values and stay on the host, which then hands over float32:
erasing with noise, and whole images that are resized to a size that grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet import PreprocessSpec

from ..augment import is_progressive, mix_by
from ..config import AugmentConfig
from .images import normalize

Pixels = Mapping[str, Any]
"""A batch of one replica: `images`, and of these what the augmentation needs:

- `rows`, `columns`: bool `(batch, height)` and `(batch, width)`, false where an image was padded.
- `erased_rows`, `erased_columns`: the same, true where an image is erased.
- `shifts`: float32 `(batch, 3)`, added to the normalised channels.
- `kept`: float32 `(height, width)`, what a pixel keeps of its own image when two are mixed.
"""


def crops_originals(augment: AugmentConfig) -> bool:
    """Whether the augmentation crops images of any size, and not those of the network's size."""
    return augment.crop in ("resized", "scale")


def grows_batches(augment: AugmentConfig) -> bool:
    """Whether whole batches are resized to a size that grows."""
    return is_progressive(augment) and not crops_originals(augment)


def normalized_by_host(augment: AugmentConfig) -> bool:
    """Whether images are normalised before they are handed over, as float32."""
    noise = augment.erasing > 0 and augment.erasing_mode == "pixel"
    return noise or grows_batches(augment)


def make_finish(preprocess: PreprocessSpec, augment: AugmentConfig) -> Callable[[Pixels], Any]:
    """Returns a function from batches of pixels to the network's input.

    Args:
        preprocess: The normalisation.
        augment: The augmentation that the batches were made with.

    Returns:
        A function of one replica's batch of pixels to float32 images
        `(batch, height, width, channels)`, normalised.

    Example:
        >>> finish = make_finish(preprocess, config.augment)
        >>> images = finish({"images": np.zeros((8, 32, 32, 3), "uint8")})
    """
    import tensorflow as tf

    def finish(pixels: Pixels) -> Any:
        images = pixels["images"]
        if not normalized_by_host(augment):
            images = normalize(images, preprocess)
        if "rows" in pixels:
            images = tf.where(_grid(pixels["rows"], pixels["columns"]), images, 0.0)
        if "erased_rows" in pixels:
            erased = _grid(pixels["erased_rows"], pixels["erased_columns"])
            images = tf.where(erased, 0.0, images)
        if "shifts" in pixels:
            images += pixels["shifts"][:, None, None]
        if "kept" in pixels:
            images = mix_by(images, pixels["kept"][..., None])
        return images

    return finish


def _grid(rows: Any, columns: Any) -> Any:
    """Returns where both the row and the column are true, `(batch, height, width, 1)`."""
    return rows[:, :, None, None] & columns[:, None, :, None]
