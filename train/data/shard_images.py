"""Images on their way into record shards: resized if asked for, decoded once, hashed."""

from __future__ import annotations

import dataclasses
import errno
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .decoding import Decoding
from .headers import format_of, notable, orientation_of
from .known import Read
from .other_formats import read_pixels
from .reading import check
from .shard_origin import Example


@dataclasses.dataclass(frozen=True)
class Storage:
    """How images are stored.

    Attributes:
        short_side: Images whose shorter side is longer are resized to it; 0 for none.
        quality: Quality of the JPEGs that are resized, 1 to 100.
        channels: Number of channels that images are decoded to when they are checked.
    """

    short_side: int = 0
    quality: int = 95
    channels: int = 3

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.short_side < 0 or not 1 <= self.quality <= 100 or self.channels < 1:
            raise ValueError(
                "`--short-side` must be 0 or more pixels, `--quality` 1 to 100, `--channels` 1 or "
                f"more. Received: {self.short_side}, {self.quality}, {self.channels}"
            )
        if self.short_side and self.channels not in (1, 3):
            raise ValueError(
                "`--short-side` stores JPEGs, which have 1 or 3 channels. "
                f"Received: --channels {self.channels}"
            )

    def describe(self, resized: int, total: int) -> str:
        """Returns how the images are stored, in words."""
        if not self.short_side:
            return "encoded images as they are in the source"
        return (
            f"{resized:,} of {total:,} images resized to a shorter side of {self.short_side} "
            f"pixels (Lanczos), as JPEG of quality {self.quality} with halved chroma, turned "
            "upright and without metadata; the others, which are not larger, as they are"
        )


class Stored(NamedTuple):
    """An image as it is stored.

    Attributes:
        example: The image of the source.
        content: The encoded image, or why it cannot be read.
        read: What decoding it has told.
        resized: Whether it was resized.
    """

    example: Example
    content: bytes | OSError
    read: Read
    resized: bool


def stored(examples: Sequence[Example], storage: Storage, decoding: Decoding) -> list[Stored]:
    """Returns images as they are stored; each is decoded once, to find those that cannot be.

    Args:
        examples: The images.
        storage: How they are stored.
        decoding: How they are decoded.
    """
    contents: list[bytes | OSError] = []
    for example in examples:
        content = example.content
        if storage.short_side and not isinstance(content, OSError):
            content = _small(content, storage, decoding)
        contents.append(content)
    reads = check(contents, storage.channels, decoding)
    return [
        Stored(example, content, read, content is not example.content)
        for example, content, read in zip(examples, contents, reads, strict=True)
    ]


def record_of(image: Stored) -> bytes:
    """Returns the record of an image: a `tf.train.Example` of `image`, `label` and `name`."""
    import tensorflow as tf

    def of_bytes(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    example = image.example
    features = {
        "image": of_bytes(bytes(image.content)),  # type: ignore[arg-type]
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=example.labels)),
        "name": of_bytes(example.name.encode("utf-8", "surrogateescape")),
    }
    record = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(record.SerializeToString(deterministic=True))


def _small(content: bytes, storage: Storage, decoding: Decoding) -> bytes | OSError:
    """Returns an image whose shorter side is at most `storage.short_side`."""
    from PIL import Image

    try:
        image = _opened(content, storage.short_side)
        if image is None:
            return content
        if decoding.oriented and format_of(content) != "tiff":
            turned = _TURNS.get(orientation_of(content))
            image = image if turned is None else image.transpose(turned)
        scale = storage.short_side / min(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        result = io.BytesIO()
        image.save(result, "JPEG", quality=storage.quality, subsampling="4:2:0")
        return result.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return OSError(errno.EINVAL, str(error) or type(error).__name__)


# What undoes each EXIF orientation, by the number of `PIL.Image.Transpose`.
_TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _opened(content: bytes, short_side: int) -> Any:
    """Returns an image in colours or grey; None where its shorter side is no longer than that.

    JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, where that leaves twice the size.
    """
    from PIL import Image

    kind = format_of(content)
    if kind == "npy":
        return _of_array(content, short_side)
    image = Image.open(io.BytesIO(content))
    if min(image.size) <= short_side:
        return None
    if kind != "jpeg":
        pixels = read_pixels(content, 3)
        grey = "grey" in notable(content)
        return Image.fromarray(pixels[..., 0] if grey else pixels)
    image.draft(image.mode, (2 * short_side, 2 * short_side))
    image.load()
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _of_array(content: bytes, short_side: int) -> Any:
    from PIL import Image

    pixels = read_pixels(content, 3)
    return Image.fromarray(pixels) if min(np.shape(pixels)[:2]) > short_side else None
