"""Images that would unfold to far more pixels than their bytes can hold."""

from __future__ import annotations

import io
import pathlib
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet_train.data.decoding import STANDARD, Decoding
from keras_resnet_train.data.pixel_budget import FREE_PIXELS, excess, gif_frames, size_of
from keras_resnet_train.data.reading import problem_of
from keras_resnet_train.prediction import FoundImages
from keras_resnet_train.prediction.reading import read_batches

pytestmark = pytest.mark.tf

SMALL = np.random.default_rng(0).integers(0, 255, (6, 4, 3), dtype=np.uint8)

MESSAGE = r"its [\d,]+ bytes would become [\d,]+ x [\d,]+ pixels: more than [67]\d million"


def encoded(kind: str, image: Image.Image, **how: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.getvalue()


def png(width: int, height: int) -> bytes:
    """A grey PNG of one bit per pixel, all black."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def stated(kind: str, width: int, height: int) -> bytes:
    """A sound file whose header states another size."""
    content = bytearray(encoded(kind, Image.fromarray(SMALL)))
    if kind == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", width, -height)
    elif kind == "JPEG":
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "lossless WEBP"])
def test_sizes(kind: str) -> None:
    content = encoded(
        kind.split()[-1], Image.fromarray(SMALL), lossless=kind.startswith("lossless")
    )
    assert size_of(content) == (6, 4)
    assert excess(content) == ""
    for length in range(0, len(content), 7):
        assert excess(content[:length]) == ""
    animated = [Image.fromarray(SMALL), Image.fromarray(SMALL[::-1])]
    if "WEBP" in kind:
        moving = encoded("WEBP", animated[0], save_all=True, append_images=animated[1:])
        assert size_of(moving) == (6, 4)


@pytest.mark.parametrize(
    "content",
    [
        png(30_000, 30_000),
        stated("GIF", 60_000, 60_000),
        stated("BMP", 60_000, 60_000),
        stated("JPEG", 60_000, 60_000),
        encoded("TIFF", Image.new("1", (9_000, 9_000)), compression="tiff_deflate"),
    ],
    ids=["png", "gif", "bmp", "jpeg", "tiff"],
)
def test_bombs(content: bytes, tmp_path: pathlib.Path) -> None:
    """Before training, before evaluation, and where `predict` reads single files."""
    assert len(content) < 200_000
    for channels in (1, 3, 4):
        problem = problem_of(content, channels, STANDARD)
        assert re.fullmatch(MESSAGE, problem)
    path = tmp_path / "bomb"
    path.write_bytes(content)
    pictures = FoundImages((str(path),), (), ()).pictures()
    (((_, read),),) = read_batches(pictures, 3, PreprocessSpec((8, 8)), 1)
    assert re.search(MESSAGE, read.problem)


def test_frames_that_tensorflow_would_all_decode() -> None:
    """Earlier versions' decoder: 3,000 frames of 2,000 x 2,000 pixels in 100 kB."""
    frame = b",\0\0\0\0\1\0\1\0\0\2\2L\1\0"
    content = b"GIF89a" + struct.pack("<HH", 2000, 2000) + b"\x80\0\0" + bytes(6) + 3000 * frame
    assert gif_frames(content + b";") == 3000
    moving = encoded(
        "GIF", Image.fromarray(SMALL), save_all=True, append_images=[Image.new("L", (4, 6))]
    )
    assert gif_frames(moving) == 2
    assert problem_of(content + b";", 3, STANDARD) == ""
    fast = Decoding(accurate=False)
    assert "2,000 x 6,000,000 pixels" in problem_of(content + b";", 3, fast)


def test_photographs_of_any_size_pass() -> None:
    """200 million pixels of a telephone take 20 MB or more."""
    large = stated("JPEG", 16_320, 12_240)
    assert excess(large)
    assert not excess(large + bytes(20_000_000))
    assert not excess(stated("JPEG", 8192, 8192))
    assert FREE_PIXELS == 8192 * 8192
    assert problem_of(png(1, 1_000_000), 3, STANDARD) == ""
