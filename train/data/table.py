"""Images and labels from a CSV or Parquet file."""

from __future__ import annotations

import collections
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..config import DataConfig
from .decoding import Decoding
from .divide import Files, divided
from .image_data import ImageData, Split
from .layout import split_named
from .listing import examples
from .request import Request
from .sources import FileSource
from .walk import counted, is_special

TABLES = (".csv", ".tsv", ".parquet")
"""Endings of files of images and labels."""

IMAGE_COLUMNS = ("image", "path", "file", "filename", "file_name", "filepath", "image_path", "img")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "target", "tags", "category", "class_name")
_SPLIT = ("split", "subset", "partition")


def names_table(path: Path) -> bool:
    """Whether a path is named like a file of labels, by its ending."""
    return path.suffix.lower() in TABLES


def is_table(path: Path) -> bool:
    """Whether a path is a file of labels."""
    return names_table(path) and path.is_file()


def images_of_table(path: Path, separator: str) -> list[str]:
    """Returns the paths of a table's images below its folder, each once; none of other files.

    Args:
        path: The file.
        separator: Separates labels in a cell.
    """
    if not is_table(path):
        return []
    rows = _rows(path, separator)
    image = _column({name.strip().casefold(): name for name in rows}, IMAGE_COLUMNS)
    if image is None:
        return []
    names = {_name(text, path, row): None for row, text in enumerate(rows[image], 2)}
    return [name for name in names if not name.startswith("../")]


def load_table(path: Path, config: DataConfig, channels: int, request: Request) -> ImageData:
    """Opens a CSV, TSV or Parquet file with the columns `image`, `label` and perhaps `split`.

    Paths of images are relative to the file's folder. With the task `multilabel` a cell holds any
    number of labels, separated by `config.label_separator`; or the file has, in place of a column
    of labels, one column of 0 and 1 per class. Rows without a split are divided as a folder is.

    Args:
        path: The file.
        config: The data's configuration.
        channels: Number of channels to decode.
        request: Which splits are asked for, by whose classes.

    Raises:
        ValueError: If columns are missing, a label or a file is missing, a split has an unknown
            name, an image is listed with two labels, or there is only one class.
    """
    rows = _rows(path, config.label_separator)
    columns = {name.strip().casefold(): name for name in rows}
    image = _column(columns, IMAGE_COLUMNS)
    if image is None:
        raise ValueError(
            f"{path} needs a column of paths, one of {', '.join(IMAGE_COLUMNS)}. "
            f"It has: {', '.join(rows)}"
        )
    names = [_name(text, path, row) for row, text in enumerate(rows[image], 2)]
    split_column = _column(columns, _SPLIT)
    notes: list[str] = []
    classes, labels = _labels(path, rows, image, split_column, config, request)
    kept = _without_repeats(path, names, labels, notes)
    splits = _splits(path, rows[split_column]) if split_column else [None] * len(names)
    decoding = Decoding.of(config)
    special = [names[row] for row in kept if is_special(str(path.parent / names[row]))]
    if special:
        raise ValueError(f"{path} lists {special[0]!r}, which is a pipe or device, not a file")

    def part(split: Split | None) -> FileSource:
        chosen = [row for row in kept if splits[row] == split]
        return FileSource(
            tuple(str(path.parent / names[row]) for row in chosen),
            labels[chosen],
            names=tuple(names[row] for row in chosen),
            decoding=decoding,
        )

    present = {splits[row] for row in kept}
    own = {split: part(split) for split in present if split is not None}
    files = Files(own, part(None) if None in present else None, classes, tuple(notes))
    return divided(str(path), files, channels, config, request)


def _rows(path: Path, separator: str) -> Mapping[str, Sequence[str]]:
    """Returns the columns of a file, each cell as text; a list's items with a separator."""
    if path.suffix.lower() == ".parquet":
        try:
            from pyarrow import parquet
        except ImportError:
            raise ValueError(f"{path} needs PyArrow: pip install pyarrow") from None
        try:
            _check_parquet(path)
            table = parquet.read_table(path).to_pydict()
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        return {name: [_text(cell, separator) for cell in cells] for name, cells in table.items()}
    try:
        columns = _text_columns(path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a {path.suffix[1:]} file in UTF-8: {error}") from error
    if not columns or not next(iter(columns.values())):
        raise ValueError(f"{path} has no rows: expected a first line `image,label` and rows")
    return columns


def _check_parquet(path: Path) -> None:
    """Refuses a file that unfolds to much more than it holds, before it is read.

    Raises:
        ValueError: If its columns would take more than 64 times its size and 256 MiB, or it states
            more than 16 rows for each byte and a million rows.
    """
    from pyarrow import parquet

    size, stated = path.stat().st_size, parquet.read_metadata(path)
    groups = (stated.row_group(number) for number in range(stated.num_row_groups))
    unfolded = sum(group.total_byte_size for group in groups)
    if unfolded > 64 * size + (256 << 20) or stated.num_rows > 16 * size + 1_000_000:
        raise ValueError(
            f"its {size:,} bytes would become {stated.num_rows:,} rows and {unfolded:,} bytes"
        )


def _text_columns(path: Path) -> dict[str, list[str]]:
    """Returns the columns of a CSV or TSV file."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        columns: dict[str, list[str]] = {name: [] for name in reader.fieldnames or ()}
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(
                    f"Line {reader.line_num} of {path} does not have {len(columns)} cells, as its "
                    "first line has"
                )
            for name, cell in row.items():
                columns[name].append(cell)
    return columns


def _text(cell: object, separator: str) -> str:
    if cell is None:
        return ""
    if isinstance(cell, list):
        return separator.join(_text(item, separator) for item in cell)
    return str(int(cell)) if isinstance(cell, bool) else str(cell)


def _column(columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _name(text: str, path: Path, row: int) -> str:
    """Returns the path of an image relative to the file's folder, in one spelling."""
    if not text.strip():
        raise ValueError(f"Row {row} of {path} has no image")
    text = text.strip()
    if os.path.isabs(text):
        text = os.path.relpath(text, path.parent.resolve())
    return os.path.normpath(text).replace(os.sep, "/")


def _labels(
    path: Path,
    rows: Mapping[str, Sequence[str]],
    image: str,
    split: str | None,
    config: DataConfig,
    request: Request,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the classes and the label or labels of each row."""
    column = _column({name.strip().casefold(): name for name in rows}, LABEL_COLUMNS)
    if config.task == "multilabel" and column is None:
        return _indicators(path, {n: c for n, c in rows.items() if n not in (image, split)})
    if column is None:
        raise ValueError(
            f"{path} needs a column of labels, one of {', '.join(LABEL_COLUMNS)}. "
            f"It has: {', '.join(rows)}"
        )
    cells = [cell.strip() for cell in rows[column]]
    if config.task == "multilabel":
        sets = [tuple(_parts(cell, config.label_separator)) for cell in cells]
    else:
        empty = next((row for row, cell in enumerate(cells, 2) if not cell), None)
        if empty is not None:
            raise ValueError(f"Row {empty} of {path} has no label")
        sets = [(cell,) for cell in cells]
    return label_array(str(path), sets, config, alone=request.class_names is not None)


def label_array(
    where: str,
    sets: Sequence[tuple[str, ...]],
    config: DataConfig,
    class_names: Sequence[str] | None = None,
    *,
    alone: bool = False,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the classes and the label, or the row of labels, of each image.

    Args:
        where: Origin of the labels, for errors.
        sets: The names of the classes of each image; one each for the task `classification`.
        config: States the task.
        class_names: The names in their order; sorted where None.
        alone: Whether one class is enough, as labels are compared with those of a net.

    Raises:
        ValueError: If there is only one class, or an image does not have one for classification.
    """
    found = {name for each in sets for name in each}
    names = tuple(sorted(found, key=_order)) if class_names is None else tuple(class_names)
    if len(names) < 2 and not alone:
        raise ValueError(
            f"{where} has one class, {', '.join(names)!r}: a classifier needs two or more"
        )
    index = {name: number for number, name in enumerate(names)}
    if config.task == "classification":
        wrong = next((number for number, each in enumerate(sets) if len(each) != 1), None)
        if wrong is not None:
            raise ValueError(
                f"{where}: image {wrong} has {len(sets[wrong])} labels, so give --task multilabel"
            )
        return names, np.asarray([index[name] for (name,) in sets], "int64")
    labels = np.zeros((len(sets), len(names)), "uint8")
    for row, each in enumerate(sets):
        labels[row, [index[name] for name in each]] = 1
    return names, labels


def _order(name: str) -> tuple[int, int, str]:
    """Sorts numbers by value and before text."""
    number = name.isascii() and name.isdigit()
    return (0, int(name), name) if number else (1, 0, name)


def _parts(cell: str, separator: str) -> Iterator[str]:
    return filter(None, (part.strip() for part in cell.split(separator)))


def _indicators(
    path: Path, columns: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Reads one column of 0 and 1 per class."""
    values = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "": 0}
    for name, cells in columns.items():
        wrong = next((cell for cell in cells if cell.strip().casefold() not in values), None)
        if wrong is not None:
            raise ValueError(
                f"{path} has no column of labels, so each other column must be a class with cells "
                f"of 0 and 1. Received: {wrong!r} in the column {name!r}"
            )
    if len(columns) < 2:
        raise ValueError(f"{path} needs a column of labels, or one column of 0 and 1 per class")
    marks = [[values[cell.strip().casefold()] for cell in cells] for cells in columns.values()]
    return tuple(columns), np.asarray(marks, "uint8").T


def _splits(path: Path, cells: Sequence[str]) -> list[Split | None]:
    found = [split_named(cell) if cell.strip() else None for cell in cells]
    for row, (split, cell) in enumerate(zip(found, cells, strict=True), 2):
        if split is None and cell.strip():
            raise ValueError(
                f"Row {row} of {path}: a split must be train, validation or test. "
                f"Received: {cell!r}"
            )
    return found


def _without_repeats(
    path: Path, names: Sequence[str], labels: np.ndarray, notes: list[str]
) -> list[int]:
    """Returns the rows to keep: the first of each image."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if np.any(labels[first.setdefault(name, row)] != labels[row]):
            raise ValueError(
                f"{path} lists {name!r} with two labels, in rows {first[name] + 2} and {row + 2}"
            )
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        notes.append(
            f"{counted(len(repeated), 'image')} listed more than once, kept once: "
            f"{examples(repeated)}"
        )
    return list(first.values())
