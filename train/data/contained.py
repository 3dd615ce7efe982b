"""Images that are not files of their own: the labels and splits of the rows of a container."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import DataConfig
from .decoding import Decoding
from .divide import Files
from .image_data import Split
from .request import Request
from .sources import Contained, FileSource
from .table import label_array


class Row(NamedTuple):
    """An image of a container.

    Attributes:
        name: Its name in the container, which splits go by.
        labels: The names of its classes; one for classification.
        split: Its split, or None.
    """

    name: str
    labels: tuple[str, ...]
    split: Split | None


def contained_files(
    where: str,
    root: Path,
    rows: Sequence[Row],
    container: Contained,
    config: DataConfig,
    request: Request,
    notes: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
) -> Files:
    """Returns the images of a container as files that are not divided yet.

    Args:
        where: Name of the container, for errors.
        root: The folder that names are relative to; a path is `root / name`.
        rows: The images.
        container: Reads them.
        config: The data's configuration.
        request: Which splits are asked for, by whose classes.
        notes: What was assumed.
        class_names: The names of the classes in the container's order; sorted where None.

    Raises:
        ValueError: If there are no images, or they have only one class.
    """
    if not rows:
        raise ValueError(f"{where} has no images")
    alone = request.class_names is not None
    classes, labels = label_array(
        where, [row.labels for row in rows], config, class_names, alone=alone
    )
    decoding = Decoding.of(config)

    def part(split: Split | None) -> FileSource:
        chosen = [number for number, row in enumerate(rows) if row.split == split]
        return FileSource(
            tuple(str(root / rows[number].name) for number in chosen),
            labels[np.asarray(chosen, "int64")],
            names=tuple(rows[number].name for number in chosen),
            decoding=decoding,
            container=container,
        )

    present = {row.split for row in rows}
    own = {split: part(split) for split in present if split is not None}
    return Files(own, part(None) if None in present else None, classes, tuple(notes))
