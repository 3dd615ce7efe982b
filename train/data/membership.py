"""Which images are held out, and which fold they are in: a function of their names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def position_of(name: str, purpose: str) -> float:
    """Returns a number in [0, 1) that is a function of a name, uniform over names.

    Args:
        name: Relative name of a file, such as `cat/1.jpg`.
        purpose: What the number is for; numbers of different purposes are independent.
    """
    content = purpose.encode() + b"\0" + name.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") / 2**64


def held_out(
    names: Sequence[str], labels: Sequence[int] | np.ndarray, fraction: float, purpose: str
) -> np.ndarray:
    """Returns which images are held out, about a fraction of each class.

    An image is held out if the hash of its name is below the fraction. So images that are added
    or removed later do not move others, with one exception: of a class with two or more images at
    least one is held out and one is not, and a single image is not held out. Where the hashes
    alone would not give this, another image of that class decides.

    Args:
        names: Relative names of the files.
        labels: The class of each.
        fraction: Fraction to hold out, in (0, 1).
        purpose: `test` or `validation`.

    Returns:
        bool, `(len(names),)`.

    Example:
        >>> held_out(["cat/1.jpg", "cat/2.jpg"], [0, 0], 0.2, "test").sum()
        1
    """
    positions = np.asarray([position_of(name, purpose) for name in names], "float64")
    held = positions < fraction
    labels = np.asarray(labels)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            held[members] = False
            continue
        order = members[np.argsort(positions[members], kind="stable")]
        held[order[0]], held[order[-1]] = True, False
    return held


def fold_of(names: Sequence[str], labels: Sequence[int] | np.ndarray, folds: int) -> np.ndarray:
    """Returns the fold of each image, in 0..folds - 1, for cross-validation.

    The images of a class are ordered by the hash of their names and dealt to the folds in turn, so
    the sizes of a class in two folds differ by at most one. Images that are added later move
    others: the folds of one cross-validation need the same files.

    Args:
        names: Relative names of the files, or numbers of examples as text.
        labels: The class of each.
        folds: Number of folds.

    Returns:
        int64, `(len(names),)`.

    Raises:
        ValueError: If a fold would have no images.
    """
    if len(names) < folds:
        raise ValueError(
            f"`data.folds` must be at most the number of training images ({len(names)}). "
            f"Received: data.folds={folds}"
        )
    positions = np.asarray([position_of(name, "fold") for name in names], "float64")
    # By class, and by hash within the class; dealt in one go, so that the folds differ by at most
    # one image in all too.
    order = np.lexsort((positions, np.asarray(labels)))
    found = np.empty(len(names), "int64")
    found[order] = np.arange(len(names)) % folds
    return found
