"""What the first bytes of an image file say: its format, its orientation, its channels."""

from __future__ import annotations

import struct

ENDINGS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".npy",
)
"""Endings of the files that are read as images."""

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 274


def format_of(content: bytes) -> str:
    """Returns `jpeg`, `png`, `gif`, `bmp`, `webp`, `tiff` or `npy` by the first bytes, or ""."""
    starts = {
        b"\xff\xd8\xff": "jpeg",
        _PNG: "png",
        b"GIF8": "gif",
        b"BM": "bmp",
        b"II*\0": "tiff",
        b"MM\0*": "tiff",
        b"\x93NUMPY": "npy",
    }
    for start, name in starts.items():
        if content.startswith(start):
            return name
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ""


def orientation_of(content: bytes) -> int:
    """Returns the EXIF orientation in 1..8; 1, upright, where there is none or it is damaged.

    Example:
        >>> orientation_of(b"")
        1
    """
    kind = format_of(content)
    try:
        if kind == "jpeg":
            exif = _jpeg_exif(content)
        elif kind == "png":
            exif = _chunk(content, b"eXIf", len(_PNG), ">", after=4)
        elif kind == "webp":
            exif = _chunk(content, b"EXIF", 12, "<", after=0)
        else:
            exif = content if kind == "tiff" else b""
        return _tag(exif.removeprefix(b"Exif\0\0"))
    except (struct.error, IndexError):
        return 1


def notable(content: bytes) -> tuple[str, ...]:
    """Returns what of an image three channels of 8 bits do not keep: `grey`, `alpha`, and so on.

    Returns:
        Some of `grey` (one channel), `transparency`, `16 bits`, `CMYK`, `frames` (more than one),
        and `turned` (its orientation is not upright).
    """
    from .other_formats import notable_by_pillow

    kind = format_of(content)
    found: list[str] = []
    try:
        if kind == "jpeg":
            found += {1: ["grey"], 4: ["CMYK"]}.get(_jpeg_channels(content), [])
        elif kind == "png":
            bits, colour = content[24], content[25]
            transparent = colour in (4, 6) or _chunk(content, b"tRNS", len(_PNG), ">", after=4)
            found += ["grey"] * (colour in (0, 4)) + ["transparency"] * bool(transparent)
            found += ["16 bits"] * (bits == 16)
            found += ["frames"] * bool(_chunk(content, b"acTL", len(_PNG), ">", after=4))
        elif kind not in ("", "npy"):
            found += notable_by_pillow(content)
    except (struct.error, IndexError):
        return ()
    if orientation_of(content) > 1:
        found.append("turned")
    return tuple(found)


def _segments(content: bytes) -> list[tuple[int, int, int]]:
    """Returns marker, start and end of each segment of a JPEG before its first scan.

    Source: ITU-T T.81, annex B.
    """
    found, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        found.append((marker, at + 4, at + 2 + length))
        at += 2 + length
    return found


def _jpeg_exif(content: bytes) -> bytes:
    for marker, start, end in _segments(content):
        if marker == 0xE1 and content[start : start + 6] == b"Exif\0\0":
            return content[start:end]
    return b""


def jpeg_size(content: bytes) -> tuple[int, int]:
    """Returns height and width of a JPEG's frame.

    Raises:
        IndexError, struct.error: If it has none.
    """
    frames = (
        start
        for marker, start, _ in _segments(content)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
    )
    height, width = struct.unpack_from(">HH", content, next(frames, len(content)) + 1)
    return height, width


def _jpeg_channels(content: bytes) -> int:
    for marker, start, _ in _segments(content):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return content[start + 5]
    return 0


def _chunk(content: bytes, name: bytes, at: int, order: str, *, after: int) -> bytes:
    """Returns a chunk of a PNG (length before its name) or of a RIFF file (length after it)."""
    while at + 8 <= len(content):
        first, second = content[at : at + 4], content[at + 4 : at + 8]
        (length,) = struct.unpack(f"{order}I", first if after else second)
        if (second if after else first) == name:
            return content[at + 8 : at + 8 + length]
        at += 8 + length + (after or length % 2)  # a checksum of 4 bytes, or padding
    return b""


def _tag(exif: bytes) -> int:
    """Returns the orientation of an EXIF block, which is a TIFF file's first directory."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    (at,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
        if tag == _ORIENTATION:
            (value,) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", exif, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1
