"""Predictions for files, batch by batch, by the code that `evaluate` measures with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..evaluation import Member, make_view
from ..evaluation.ensemble import Predictor
from .reading import read_batches

Pictures = Callable[[np.ndarray, np.ndarray, Sequence[int]], Sequence[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one file.

    Attributes:
        path: The file.
        probabilities: float64 `(outputs,)`; None if the file could not be read.
        problem: Why it could not be read; "" if it could.
        picture: The file of its heat map; "" if there is none.
    """

    path: str
    probabilities: np.ndarray | None = None
    problem: str = ""
    picture: str = ""


def predictions(
    member: Member,
    paths: Sequence[str],
    *,
    batch_size: int = 64,
    draw: Pictures | None = None,
) -> Iterator[Prediction]:
    """Yields a prediction for each file, in their order.

    Args:
        member: The net.
        paths: The files.
        batch_size: Images per batch. It changes probabilities by no more than rounding.
        draw: Draws pictures of a batch: takes its images, uint8 `(images, height, width,
            channels)`, the most probable class of each and their indices in `paths`, and returns
            the file of each.

    Raises:
        ValueError: If the net's outputs are not finite.
    """
    net = Predictor(member, make_view("center", member.preprocess, member.spec), batch_size)
    first = 0
    batches = read_batches(paths, member.channels, member.preprocess, batch_size, member.decoding)
    for batch in batches:
        numbers = [row for row, image in enumerate(batch) if not isinstance(image, str)]
        found = {}
        if numbers:
            images = np.stack([batch[row] for row in numbers])
            shares = np.exp(net.log_probabilities((images,), len(images)))
            files = [first + row for row in numbers]
            _check(shares, [paths[file] for file in files])
            drawn = [""] * len(files) if draw is None else draw(images, shares.argmax(1), files)
            found = dict(zip(numbers, zip(shares, drawn, strict=True), strict=True))
        for row, image in enumerate(batch):
            path = paths[first + row]
            if isinstance(image, str):
                yield Prediction(path, problem=image)
            else:
                yield Prediction(path, found[row][0], picture=found[row][1])
        first += len(batch)


def _check(shares: np.ndarray, paths: Sequence[str]) -> None:
    broken = np.flatnonzero(~np.isfinite(shares).all(axis=1))
    if len(broken):
        raise ValueError(
            f"The net's outputs must be finite numbers: they are not for {paths[broken[0]]} "
            f"({len(broken)} of these {len(paths)} images)"
        )
