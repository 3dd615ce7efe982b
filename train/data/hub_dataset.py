"""Hugging Face `datasets` in a folder that `save_to_disk` has written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import DataConfig
from ..files import read_bytes
from .contained import Row, contained_files
from .divide import divided
from .image_data import ImageData
from .layout import split_named
from .request import Request
from .sources import Contained
from .table import IMAGE_COLUMNS, LABEL_COLUMNS


class _Images(Contained):
    """Encoded images of the tables, which lie in memory-mapped files."""

    def __init__(self, columns: Mapping[str, Any], places: Mapping[str, tuple[str, int]]) -> None:
        self._columns, self._places = columns, places

    def read(self, path: str) -> bytes:
        """Returns the content of an image."""
        table, row = self._places[path]
        image = self._columns[table][row]
        if image["bytes"] is not None:
            return bytes(image["bytes"])
        return read_bytes(Path(image["path"]))  # no pipe or device


def is_saved_dataset(path: Path) -> bool:
    """Whether a path is a folder that `datasets.save_to_disk` has written."""
    one = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    return one or (path / "dataset_dict.json").is_file()


def load_saved_dataset(
    path: Path, config: DataConfig, channels: int, request: Request
) -> ImageData:
    """Opens a folder of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.

    The images are the column of the feature `Image`; the labels a column named like those of a
    CSV file, with the names and the order of its `ClassLabel`. Tables named like splits are these
    splits; any other table is divided as a folder is.

    Args:
        path: The folder.
        config: The data's configuration.
        channels: Number of channels to decode.
        request: Which splits are asked for, by whose classes.

    Raises:
        ValueError: If the library is missing, or there is no column of images or of labels.
    """
    try:
        import datasets
    except ImportError:
        raise ValueError(
            f"{path} needs the library datasets: pip install 'keras3-resnet[hf]'"
        ) from None
    opened = datasets.load_from_disk(str(path))
    tables = dict(opened) if isinstance(opened, datasets.DatasetDict) else {"": opened}
    rows: list[Row] = []
    columns: dict[str, Any] = {}
    places: dict[str, tuple[str, int]] = {}
    class_names: list[str] | None = None
    for name, table in tables.items():
        image, label = _columns(table, path)
        names = _class_names(table.features[label])
        if names is not None and class_names not in (None, names):
            raise ValueError(f"The splits of {path} have different classes")
        class_names = class_names or names
        columns[name] = table.cast_column(image, datasets.Image(decode=False))[image]
        split = split_named(name) if name else None
        for number, value in enumerate(table[label]):
            row = Row(f"{name or 'row'}/{number}", _labels(value, names), split)
            rows.append(row)
            places[str(path / row.name)] = (name, number)
    files = contained_files(
        str(path), path, rows, _Images(columns, places), config, request, (), class_names
    )
    return divided(str(path), files, channels, config, request)


def _columns(table: Any, path: Path) -> tuple[str, str]:
    """Returns the names of the columns of images and of labels."""
    features = table.features
    images = [name for name, each in features.items() if type(each).__name__ == "Image"]
    image = next((n for n in images if n.casefold() in IMAGE_COLUMNS), *images[:1] or [None])
    lower = {name.casefold(): name for name in features}
    label = next((lower[name] for name in LABEL_COLUMNS if name in lower), None)
    classes = [name for name, each in features.items() if _class_names(each) is not None]
    label = label or (classes[0] if len(classes) == 1 else None)
    if image is None or label is None:
        raise ValueError(
            f"{path} needs a column of images (the feature Image) and one of labels "
            f"({', '.join(LABEL_COLUMNS)}, or a ClassLabel). It has: "
            f"{', '.join(f'{name} ({type(each).__name__})' for name, each in features.items())}"
        )
    return image, label


def _class_names(feature: Any) -> list[str] | None:
    """Returns the names of a `ClassLabel`, or of a list of it."""
    feature = getattr(feature, "feature", feature)
    feature = feature[0] if isinstance(feature, list) else feature
    names = getattr(feature, "names", None)
    return None if names is None else list(names)


def _labels(value: Any, names: list[str] | None) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(str(each) if names is None else names[each] for each in values)
