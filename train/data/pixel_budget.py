"""How many pixels an image may have for its bytes: by its header, before it is decoded."""

from __future__ import annotations

import struct

from .headers import format_of, jpeg_size

FREE_PIXELS = 1 << 26
"""Pixels of an image of any size on disk: 8,192 x 8,192, 192 MiB as RGB."""

PIXELS_PER_BYTE = 16
"""Further pixels for each byte of the file. JPEG stores 2 to 10 pixels of a photograph in one."""


def excess(content: bytes, *, frames: bool = False) -> str:
    """Returns why an image is not decoded, for its size; "" if it is.

    An image of one colour takes next to no bytes: 360 kB of TIFF can be 16,000 x 16,000 pixels.

    Args:
        content: The file.
        frames: Whether all frames of a GIF are decoded, as TensorFlow does.
    """
    sides = size_of(content)
    if sides is None:
        return ""
    count = gif_frames(content) if frames and format_of(content) == "gif" else 1
    return too_many(sides[0] * max(1, count), sides[1], len(content))


def gif_frames(content: bytes) -> int:
    """Returns the number of frames of a GIF, as far as it is whole.

    Source: GIF89a, 19 to 26.
    """
    found = 0
    try:
        at = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
        while content[at] in (0x21, 0x2C):
            if content[at] == 0x2C:
                found += 1
                flags = content[at + 9]
                at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
            else:
                at += 2
            while content[at]:
                at += 1 + content[at]
            at += 1
    except IndexError:
        pass
    return found


def too_many(height: int, width: int, size: int) -> str:
    """Returns why an image of a size is not decoded; "" if it is.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        size: Bytes of the file.
    """
    allowed = FREE_PIXELS + PIXELS_PER_BYTE * size
    if height * width <= allowed:
        return ""
    return (
        f"its {size:,} bytes would become {width:,} x {height:,} pixels: more than "
        f"{allowed / 1e6:,.0f} million"
    )


def size_of(content: bytes) -> tuple[int, int] | None:
    """Returns height and width as the header states them; None where it is damaged or not read.

    TIFF's stand in a directory that Pillow reads, and those of `.npy` in `other_formats`.

    Sources: PNG Specification, 11.2.2; ITU-T T.81, B.2.2; GIF89a, 18; WebP Container Specification,
    "Extended File Format"; WebP Lossless Bitstream Specification, 3; RFC 6386, 9.1.
    """
    kind = format_of(content)
    try:
        if kind == "png":
            height, width = struct.unpack_from(">II", content, 16)[::-1]
        elif kind == "jpeg":
            height, width = jpeg_size(content)
        elif kind == "gif":
            height, width = struct.unpack_from("<HH", content, 6)[::-1]
        elif kind == "bmp":
            width, height = map(abs, struct.unpack_from("<ii", content, 18))
        elif kind == "webp":
            height, width = _webp(content)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return height, width


def _webp(content: bytes) -> tuple[int, int]:
    kind = content[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        return int.from_bytes(content[27:30], "little") + 1, width
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return height & 0x3FFF, width & 0x3FFF
