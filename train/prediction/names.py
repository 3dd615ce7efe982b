"""Names of a net's outputs: a run's classes, a file of labels, ImageNet's, or numbers."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

from ..evaluation import Member
from ..evaluation.classes import read_labels
from ..evaluation.imagenet import imagenet_classes


def output_names(member: Member, labels: Path | None = None) -> tuple[tuple[str, ...], str]:
    """Returns the name of each output, each different, and what was assumed.

    Args:
        member: The net.
        labels: A text file with one name per line; its names go before the net's own.

    Returns:
        The names, and a note for the user; "" where the names are the net's own or the user's.

    Raises:
        FileNotFoundError: If there is no file at `labels`.
        ValueError: If `labels` does not have one line for each output.
    """
    if labels is not None:
        return _distinct(read_labels(labels, member.classes)), ""
    if member.class_names is not None:
        return _distinct(member.class_names), ""
    classes = imagenet_classes()
    if member.classes == len(classes):
        note = (
            f"{member.name} does not name its 1,000 outputs: taken for the classes of ImageNet-1k"
        )
        return tuple(each.name for each in classes), note
    note = (
        f"{member.name} does not name its {member.classes:,} outputs: they are numbered from 0. "
        "--labels FILE names them, one line each"
    )
    return tuple(map(str, range(member.classes))), note


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names, with the number of the output behind those that occur twice."""
    counts = collections.Counter(names)
    return tuple(
        f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names)
    )
