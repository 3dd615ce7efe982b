"""Every format that is read, pixel by pixel against Pillow, and turned as EXIF says."""

from __future__ import annotations

import io
import pathlib
import struct
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_resnet import PreprocessSpec
from keras_resnet_train.config import DataConfig
from keras_resnet_train.data.decoding import Decoding, decode
from keras_resnet_train.data.headers import notable, orientation_of
from keras_resnet_train.data.images import fit
from keras_resnet_train.data.jpeg_parts import decode_part
from keras_resnet_train.data.orientation import orientation
from keras_resnet_train.data.other_formats import read_pixels
from keras_resnet_train.data.readable import reason

pytestmark = pytest.mark.tf


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth() -> Image.Image:
    """Coloured noise of low frequency, 40 x 52, as photographs are."""
    return Image.fromarray(noise(6, 8)).resize((52, 40), Image.Resampling.BICUBIC)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def bmp(bits: int, compression: int, palette: bytes, pixels: bytes, height: int = 2) -> bytes:
    """A BMP file of 4 pixels a row, as its specification has it."""
    offset = 14 + 40 + len(palette)
    header = struct.pack(
        "<IiiHHIIiiII", 40, 4, height, 1, bits, compression, len(pixels), 0, 0, 0, 0
    )
    start = struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset)
    return start + header + palette + pixels


def pictures() -> dict[str, bytes]:
    photo, small = smooth(), Image.fromarray(noise(9, 7))
    palette = small.quantize(16)
    rgba = Image.fromarray(noise(9, 7, 4))
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (9, 7), dtype=np.uint16))
    ramp = b"".join(bytes((i, 255 - i, i // 2, 0)) for i in range(256))
    return {
        "JPEG": saved(photo, "JPEG", quality=90),
        "JPEG 4:4:4": saved(photo, "JPEG", quality=90, subsampling=0),
        "JPEG progressive": saved(photo, "JPEG", quality=70, progressive=True),
        "JPEG grey": saved(photo.convert("L"), "JPEG"),
        "JPEG CMYK": saved(photo.convert("CMYK"), "JPEG", quality=90),
        "PNG": saved(small, "PNG"),
        "PNG grey": saved(small.convert("L"), "PNG"),
        "PNG grey and alpha": saved(rgba.convert("LA"), "PNG"),
        "PNG one bit": saved(small.convert("1"), "PNG"),
        "PNG RGBA": saved(rgba, "PNG"),
        "PNG palette": saved(palette, "PNG"),
        "PNG palette, transparent": saved(palette, "PNG", transparency=3),
        "PNG 16 bits": saved(wide, "PNG"),
        "GIF": saved(palette, "GIF"),
        "GIF transparent": saved(palette, "GIF", transparency=2),
        "GIF grey": saved(small.convert("L"), "GIF"),
        "GIF animation": saved(palette, "GIF", save_all=True, append_images=[small.quantize(3)]),
        "WebP": saved(photo, "WEBP", quality=80),
        "WebP lossless": saved(small, "WEBP", lossless=True),
        "WebP RGBA": saved(rgba, "WEBP", lossless=True, exact=True),
        "WebP animation": saved(
            photo, "WEBP", save_all=True, append_images=[ImageOps.invert(photo)]
        ),
        "BMP": saved(small, "BMP"),
        "BMP palette": saved(palette, "BMP"),
        "BMP grey": saved(small.convert("L"), "BMP"),
        "BMP one bit": saved(small.convert("1"), "BMP"),
        "BMP RGBA": saved(rgba, "BMP"),
        "BMP 4 bits": bmp(4, 0, ramp[:64], b"\x12\x34\0\0\x56\x78\0\0"),
        "BMP RLE": bmp(8, 1, ramp, b"\x03\x07\x01\x09\0\0\x04\x20\0\x01"),
        "BMP 16 bits": bmp(16, 0, b"", struct.pack("<8H", *range(0, 32000, 4000))),
        "BMP top down": bmp(24, 0, b"", noise(2, 4).tobytes(), height=-2),
        "TIFF": saved(small, "TIFF"),
        "TIFF grey": saved(small.convert("L"), "TIFF"),
        "TIFF 16 bits": saved(wide, "TIFF"),
        "TIFF deflate": saved(small, "TIFF", compression="tiff_adobe_deflate"),
    }


def by_pillow(content: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        if picture.mode.startswith("I"):
            picture = Image.fromarray((np.asarray(picture).astype("int64") >> 8).astype("uint8"))
        colours = picture.convert("RGB")
        return np.asarray(colours if channels == 3 else colours.convert("L")).reshape(
            picture.height, picture.width, channels
        )


@pytest.mark.parametrize("channels", [3, 1])
def test_pixels_are_those_of_pillow(channels: int) -> None:
    """In one graph for all formats, as in training. A palette BMP was decoded as its indices."""
    signature = tf.TensorSpec((), tf.string)
    run = tf.function(lambda content: decode(content, channels), input_signature=[signature])
    for name, content in pictures().items():
        found, expected = run(content).numpy(), by_pillow(content, channels)
        assert found.dtype == np.uint8
        assert found.shape == expected.shape, name
        differences = np.abs(found.astype(int) - expected).max()
        assert differences <= ("JPEG" in name), (name, differences)


def test_what_is_converted_is_found_in_every_format() -> None:
    """It was found in JPEG and PNG only."""
    files = pictures()
    expected = {
        "JPEG CMYK": "CMYK",
        "PNG palette, transparent": "transparency",
        "GIF transparent": "transparency",
        "GIF animation": "frames",
        "WebP RGBA": "transparency",
        "WebP animation": "frames",
        "BMP grey": "grey",
        "TIFF grey": "grey",
        "TIFF 16 bits": "grey, 16 bits",
        "TIFF": "",
        "WebP": "",
    }
    assert {name: ", ".join(notable(files[name])) for name in expected} == expected
    small = Image.fromarray(noise(9, 7))
    assert notable(saved(small.convert("CMYK"), "TIFF")) == ("CMYK",)
    for kind in ("TIFF", "PNG"):
        pages = saved(small, kind, save_all=True, append_images=[small.rotate(180)])
        assert notable(pages) == ("frames",)


def test_literal_pixels_of_bmp() -> None:
    """By the specification, whatever Pillow says: rows are stored from the bottom up."""
    found = decode(tf.constant(pictures()["BMP RLE"]), 3).numpy()
    assert found[0].tolist() == [[16, 223, 32]] * 4  # index 32, as blue, green, red
    assert found[1].tolist() == [[3, 248, 7]] * 3 + [[4, 246, 9]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(kind: str, turn: int) -> None:
    """Images are turned as Pillow's `exif_transpose` does, and rectangles lie in what is seen."""
    exif = Image.Exif()
    exif[274] = turn
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(smooth(), kind, exif=exif, **options)
    with Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        stored = np.asarray(picture.convert("RGB"))
    assert orientation_of(content) == turn
    assert ("turned" in notable(content)) == (turn > 1)
    whole = decode(tf.constant(content), 3).numpy()
    np.testing.assert_allclose(whole.astype(int), expected, atol=kind == "JPEG")
    if kind != "TIFF":  # which Pillow turns while it loads it
        flat = decode(tf.constant(content), 3, Decoding(oriented=False)).numpy()
        np.testing.assert_allclose(flat.astype(int), stored, atol=kind == "JPEG")
    for box in ((0, 0, *whole.shape[:2]), (5, 3, 20, 31), (33, 35, 5, 4)):
        part = decode_part(tf.constant(content), 3, lambda shape, box=box: tf.constant(box)).numpy()
        top, left, height, width = box
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_orientation_after_other_segments() -> None:
    """Exif need not come first; what is damaged counts as upright."""
    exif = Image.Exif()
    exif[274] = 6
    content = saved(smooth(), "JPEG", exif=exif, comment=b"x" * 40_000, icc_profile=b"p" * 70_000)
    assert orientation_of(content) == 6
    assert decode(tf.constant(content), 3).shape == (52, 40, 3)
    run = tf.function(orientation, input_signature=[tf.TensorSpec((), tf.string)])
    body = content[2:]
    exif_at = body.index(b"Exif\0\0") - 4
    (size,) = struct.unpack(">H", body[exif_at + 2 : exif_at + 4])
    segment = body[exif_at : exif_at + 2 + size]
    others = body[:exif_at] + body[exif_at + 2 + size :]
    xmp = b"\xff\xe1\0\x11http://ns.adobe"
    notes = b"\xff\xfe\0\x04ab" * 5
    large = b"\xff\xe2\xff\xff" + b"p" * 65_533
    files = {
        "first": segment + others,
        "after XMP": xmp + segment + others,
        "after a table": b"\xff\xdb\0\x04ab" + segment + others,
        "after JFIF and a table": b"\xff\xe0\0\x10" + b"j" * 14 + b"\xff\xdb\0\x04ab" + segment,
        "after many": notes + b"\xff\xff\xff\x01" + segment + others,
        "after what is searched": large * 4 + segment + others,
        "none": notes + others,
        "none in a large file": large * 4 + others,
        "cut": notes + segment[:9],
        "cut in its name": notes[:-2] + segment[:7],
        "short": notes[:3],
        "empty segments": b"\xff\xe0\0\0" * 3 + segment,
        "no marker": notes + b"\0" * 40 + segment,
        "after the scan begins": notes + b"\xff\xda\0\x04ab" + segment,
    }
    found = {name: int(run(tf.constant(b"\xff\xd8" + rest))) for name, rest in files.items()}
    assert found == {name: orientation_of(b"\xff\xd8" + rest) for name, rest in files.items()}
    turned = {"first", "after XMP", "after many", "after what is searched"}
    turned |= {"after a table", "after JFIF and a table"}
    assert {name for name, each in found.items() if each == 6} == turned
    for damaged in (content[:30], b"", b"\xff\xd8\xff\xe1\0\x0eExif\0\0II*\0\xff\xff\xff\xff"):
        assert orientation_of(damaged) == 1


def test_channels_other_than_1_and_3(tmp_path: pathlib.Path) -> None:
    pixels = noise(5, 4, 6)
    file = io.BytesIO()
    np.save(file, pixels)
    found = decode(tf.constant(file.getvalue()), 6).numpy()
    np.testing.assert_array_equal(found, pixels)
    rgba = noise(5, 4, 4)
    for kind in ("PNG", "TIFF"):
        content = saved(Image.fromarray(rgba), kind)
        np.testing.assert_array_equal(decode(tf.constant(content), 4).numpy(), rgba)
    for content, channels, message in (
        (file.getvalue(), 5, "the image has 6 channels, and 5 are needed"),
        (saved(smooth(), "JPEG"), 4, "the image has 3 channels, and 4 are needed"),
        (b"", 3, "the file is empty"),
        (b"no image", 3, "no format of images begins with the bytes b'no image'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_pixels(content, channels)
    file = io.BytesIO()
    np.save(file, pixels.astype("float32"))
    with pytest.raises(ValueError, match=r"must be uint8 or uint16 .*float32, \(5, 4, 6\)"):
        read_pixels(file.getvalue(), 6)


def test_runs_of_earlier_versions_decode_as_they_did() -> None:
    content = pictures()["JPEG"]
    old = Decoding.of(DataConfig(orientation="stored", decoding="fast"))
    expected = tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
    np.testing.assert_array_equal(decode(tf.constant(content), 3, old).numpy(), expected)
    assert (decode(tf.constant(content), 3).numpy() != expected).any()


def test_reasons_are_whole() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.io.decode_png(b"\x89PNG\r\n\x1a\n" + b"x" * 30)
    assert reason(caught.value).startswith("Invalid PNG")
    assert "{{" not in reason(caught.value)


def test_a_long_image_is_cropped_before_it_is_resized() -> None:
    """2 x 20,000 pixels took 6.8 GiB at 224. Its middle is what the whole would give."""
    image = noise(2, 1200)
    for method in ("bilinear", "bicubic", "nearest", "lanczos3"):
        preprocess = PreprocessSpec((8, 8), interpolation=method)  # type: ignore[arg-type]
        whole = tf.image.resize(image, (8, 4800), method=method, antialias=True)
        middle = tf.cast(whole[:, 2396:2404], tf.float32)
        expected = tf.cast(tf.clip_by_value(tf.round(middle), 0, 255), tf.uint8).numpy()
        found = fit(tf.constant(image), preprocess).numpy()
        np.testing.assert_allclose(found.astype(int), expected, atol=1)
        turned = fit(tf.constant(image.transpose(1, 0, 2)), preprocess).numpy()
        np.testing.assert_allclose(turned.astype(int), expected.transpose(1, 0, 2), atol=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"(2, 3, 3)", b"(2, 3, 3(", "the header of the array is damaged"),
        (b"'shape'", b"'shap('", "the header of the array is damaged"),
        (b"(2, 3, 3)", b"(9**9, 3)", "the header of the array is damaged"),
        (b"(2, 3, 3), }", b"(99999999,)}", "the array is cut off"),
        (b"(2, 3, 3)", b"(-2,-3,3)", "the array is cut off"),
    ],
)
def test_damaged_headers_of_arrays(old: bytes, new: bytes, message: str) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(ValueError, match=message):
        read_pixels(file.getvalue().replace(old, new), 3)
