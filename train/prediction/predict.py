"""Predictions for images, batch by batch, by the code that `evaluate` measures with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ..evaluation import Member, make_view
from ..evaluation.ensemble import Predictor
from .found import Picture
from .reading import read_batches

Pictures = Callable[[np.ndarray, np.ndarray, Sequence[int]], Sequence[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one image.

    Attributes:
        path: The file, or the name of the example in its data set.
        probabilities: float64 `(outputs,)`; None if the image could not be read.
        problem: Why it could not be read; "" if it could.
        picture: The file of its heat map; "" if there is none.
        split: Its split in a data set; "" for files.
        label: The name of the class that is stored with it; "" for files.
        notable: What of its file was converted, as `headers.notable` names it.
    """

    path: str
    probabilities: np.ndarray | None = None
    problem: str = ""
    picture: str = ""
    split: str = ""
    label: str = ""
    notable: tuple[str, ...] = ()


def predictions(
    member: Member,
    pictures: Iterable[Picture],
    *,
    batch_size: int = 64,
    draw: Pictures | None = None,
) -> Iterator[Prediction]:
    """Yields a prediction for each image, in their order.

    Args:
        member: The net.
        pictures: The images.
        batch_size: Images per batch. It changes probabilities by no more than rounding.
        draw: Draws heat maps of a batch: takes its images, uint8 `(images, height, width,
            channels)`, the most probable class of each and their indices in `pictures`, and returns
            the file of each.

    Raises:
        ValueError: If the net's outputs are not finite.
    """
    net = Predictor(member, make_view("center", member.preprocess, member.spec), batch_size)
    first = 0
    batches = read_batches(
        pictures, member.channels, member.preprocess, batch_size, member.decoding
    )
    for batch in batches:
        readable = {
            row: each.image for row, (_, each) in enumerate(batch) if each.image is not None
        }
        found = {}
        if readable:
            numbers, images = list(readable), np.stack(list(readable.values()))
            shares = np.exp(net.log_probabilities((images,), len(images)))
            files = [first + row for row in numbers]
            _check(shares, [batch[row][0].name for row in numbers])
            drawn = [""] * len(files) if draw is None else draw(images, shares.argmax(1), files)
            found = dict(zip(numbers, zip(shares, drawn, strict=True), strict=True))
        for row, (picture, each) in enumerate(batch):
            share, heat_map = found.get(row, (None, ""))
            name, _, split, label = picture
            yield Prediction(name, share, each.problem, heat_map, split, label, each.notable)
        first += len(batch)


def _check(shares: np.ndarray, names: Sequence[str]) -> None:
    broken = np.flatnonzero(~np.isfinite(shares).all(axis=1))
    if len(broken):
        raise ValueError(
            f"The net's outputs must be finite numbers: they are not for {names[broken[0]]} "
            f"({len(broken)} of these {len(names)} images)"
        )
