"""Grad-CAM pictures of predictions: a PNG file for each image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

import keras_resnet

from ..data.headers import ENDINGS
from ..evaluation import Member
from ..evaluation.exported import FileMember
from ..files import write_bytes

# The gradient keeps what the net computes for so many images.
_AT_ONCE = 8
# Pictures of small nets are enlarged to at least so many pixels.
_LEAST_SIDE = 224


class Heatmaps:
    """Writes the regions that each image's most probable class depends on.

    Args:
        member: The net.
        folder: Directory of the pictures; created if it does not exist.
        inside: Each image's path below `folder`; the ending of an image becomes `.png`.

    Raises:
        ValueError: If `folder` is a file, the images are neither gray nor RGB, or the net is an
            exported file.
    """

    def __init__(self, member: Member, folder: Path, inside: Sequence[str]) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"`--heatmap` must be a directory. Received: {folder}")
        if isinstance(member, FileMember):
            raise ValueError(
                "`--heatmap` needs a run or weights, whose gradients are known. Received: "
                f"{member.name}, an exported file"
            )
        if member.channels not in (1, 3):
            raise ValueError(
                f"`--heatmap` needs a net for gray or RGB images. Received: {member.name}, which "
                f"takes {member.channels} channels"
            )
        self._member, self._folder = member, folder
        self._files = _picture_names(inside)

    def __call__(
        self, images: np.ndarray, classes: np.ndarray, numbers: Sequence[int]
    ) -> list[str]:
        """Writes the pictures of a batch.

        Args:
            images: uint8 `(images, height, width, channels)`, at the net's size.
            classes: The class of each image's picture.
            numbers: Index of each image in `inside`.

        Returns:
            The file of each picture.
        """
        written = []
        for start in range(0, len(images), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            for picture, number in zip(
                self._draw(images[part], classes[part]), numbers[part], strict=True
            ):
                path = self._folder / self._files[number]
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, _png(picture))
                written.append(str(path))
        return written

    def _draw(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        factor = -(-_LEAST_SIDE // min(images.shape[1:3]))
        enlarged = images.repeat(factor, axis=1).repeat(factor, axis=2)
        return keras_resnet.gradcam_overlay(
            self._member.model,
            enlarged,
            inputs=self._member.preprocess.normalize(images),
            classes=[int(each) for each in classes],
        )


def _picture_names(inside: Sequence[str]) -> list[str]:
    """Returns the name of each picture; names that occur twice, also by case, get a number.

    The names that a data set stores may lead out of the folder: steps upwards are left out.
    """
    taken: set[str] = set()
    names = []
    for path in inside:
        image = path.lower().endswith(ENDINGS)  # names of TFDS have points, and no ending
        pure = PurePath(path).with_suffix("") if image else PurePath(path)
        stem = str(PurePath(*(part for part in pure.parts if part not in ("..", pure.anchor))))
        name, number = f"{stem}.png", 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}.png", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    return content.getvalue()
