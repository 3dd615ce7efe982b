"""Images that TensorFlow does not decode, or decodes wrongly: by Pillow, and `.npy` by NumPy."""

from __future__ import annotations

import io
import math

import numpy as np

from .headers import format_of
from .pixel_budget import excess, too_many


def read_pixels(content: bytes, channels: int) -> np.ndarray:
    """Decodes an image of any format.

    Args:
        content: The content of the file.
        channels: Number of channels. Three are colours, whatever the file has of them; for any
            other number the file must have it.

    Returns:
        uint8, `(height, width, channels)`, not turned by an EXIF orientation, except TIFF.

    Raises:
        ValueError: If it is no image, is damaged, or has another number of channels.
    """
    if not content:
        raise ValueError("the file is empty")
    kind = format_of(content)
    against = excess(content)
    if against:
        raise ValueError(against)
    if kind == "npy":
        pixels = _array(content)
    elif kind:
        pixels = _picture(content, channels)
    else:
        raise ValueError(f"no format of images begins with the bytes {content[:8]!r}")
    if channels == 3 and pixels.shape[-1] == 1:
        pixels = pixels.repeat(3, axis=-1)
    if pixels.shape[-1] != channels:
        raise ValueError(f"the image has {pixels.shape[-1]} channels, and {channels} are needed")
    return np.ascontiguousarray(pixels)


def notable_by_pillow(content: bytes) -> list[str]:
    """Returns what `headers.notable` does, of a format whose header Pillow reads."""
    try:
        from PIL import Image

        with Image.open(io.BytesIO(content), formats=[format_of(content)]) as image:
            mode, frames = image.mode, getattr(image, "n_frames", 1)
            transparent = mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    except Exception:  # damaged, or no Pillow: decoding says so
        return []
    found = ["grey"] * (mode in ("1", "L", "LA") or mode.startswith("I;16"))
    found += ["transparency"] * transparent + ["16 bits"] * mode.startswith("I;16")
    return found + ["CMYK"] * (mode == "CMYK") + ["frames"] * (frames > 1)


def _array(content: bytes) -> np.ndarray:
    _check_header(content)
    pixels = np.load(io.BytesIO(content), allow_pickle=False)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise ValueError(
            "an array of pixels must be uint8 or uint16 and (height, width, channels). "
            f"Received: {pixels.dtype}, {pixels.shape}"
        )
    return (pixels >> 8).astype("uint8") if pixels.dtype == np.uint16 else pixels


def _check_header(content: bytes) -> None:
    """Refuses an array that is larger than its file, for which NumPy would reserve memory."""
    stream = io.BytesIO(content)
    # Versions after these are for names of fields, which pixels do not have.
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, _, dtype = read[np.lib.format.read_magic(stream)](stream)
        needed = math.prod(shape) * dtype.itemsize
    except Exception as error:  # NumPy raises errors of many types, of Python's parser too
        raise ValueError("the header of the array is damaged") from error
    if min(shape, default=0) < 0 or needed > len(content):
        raise ValueError(f"the array is cut off: its header states {shape} of {dtype}")


def _picture(content: bytes, channels: int) -> np.ndarray:
    """Decodes by Pillow, without changing modes where channels are asked for by number."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ValueError(
            f"images of the format {format_of(content)} need Pillow: pip install pillow"
        ) from None
    try:
        # Of the 40 other formats that Pillow would try, one starts Ghostscript.
        with Image.open(io.BytesIO(content), formats=[format_of(content)]) as opened:
            against = too_many(opened.height, opened.width, len(content))
            if against:
                raise ValueError(against)
            # Some versions of Pillow turn a TIFF while they load it: then this changes nothing.
            image = ImageOps.exif_transpose(opened) if opened.format == "TIFF" else opened
            if image.mode.startswith("I;16"):
                return (np.asarray(image) >> 8).astype("uint8")[..., None]
            if image.mode in ("I", "F"):
                raise ValueError(f"pixels of the mode {image.mode} do not lie in 0..255")
            if channels == 3:
                return np.asarray(image.convert("RGB"))
            pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    except KeyError:
        raise ValueError(f"this Pillow cannot read the format {format_of(content)}") from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if pixels.dtype == bool:
        pixels = pixels.astype("uint8") * 255
    return pixels[..., None] if pixels.ndim == 2 else pixels
