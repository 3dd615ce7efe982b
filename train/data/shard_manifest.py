"""The manifest of a folder of record shards: what it holds, and whether it is finished."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import read_object
from .image_data import SPLITS, Split, Task
from .shard_format import ENDING, FORMAT, MANIFEST, PLAN

VERSION = 1
TASKS: tuple[Task, ...] = ("classification", "multilabel")


def is_record_shards(path: Path) -> bool:
    """Whether a path is a folder that `keras-resnet shards` has written, finished or not."""
    if not path.is_dir():
        return False
    if any(path.glob(f"*-of-*{ENDING}")):
        return True
    try:  # before the first shard is whole
        return read_object(path / PLAN).get("format") == FORMAT
    except (OSError, ValueError):
        return False


class Written(NamedTuple):
    """A shard as the manifest states it.

    Attributes:
        file: Name of the file of records.
        rows: Name of the file of rows.
        examples: Number of images.
        bytes: Size of the file of records.
        sha256: Its hash.
        rows_sha256: Hash of the file of rows.
    """

    file: str
    rows: str
    examples: int
    bytes: int
    sha256: str
    rows_sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of record shards holds.

    Attributes:
        source: Where the images came from.
        task: `classification` or `multilabel`.
        class_names: The names of the classes, in the order of the labels.
        splits: The shards of each split.
        images: How the images are stored, in words.
        channels: Number of channels that they were decoded to when they were checked.
        refused: Number of images of the source that could not be read.
        settings: What the folder was written with; another command with these goes on.
        notes: What was assumed or left out.
        versions: Versions of the software that has written it.
    """

    source: str
    task: Task
    class_names: tuple[str, ...]
    splits: Mapping[Split, tuple[Written, ...]]
    images: str
    channels: int
    refused: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `manifest.json`."""
        splits = {
            split: {
                "examples": sum(shard.examples for shard in shards),
                "shards": [shard._asdict() for shard in shards],
            }
            for split, shards in self.splits.items()
        }
        return {"format": FORMAT, "version": VERSION, **vars(self), "splits": splits}


def read_manifest(folder: Path) -> Manifest:
    """Returns the manifest of a finished folder.

    Raises:
        ValueError: If the folder is not finished, or the manifest is damaged or of a later version.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"{folder} holds shards that are not finished: give the same `keras-resnet shards` "
            "command again, which goes on where it ended"
        )
    values = read_object(file)
    if values.get("format") != FORMAT:
        raise ValueError(f"{file} is not one that `keras-resnet shards` has written")
    if values.get("version") != VERSION:
        raise ValueError(
            f"{folder} is of version {values.get('version')!r} of the format, and this version of "
            f"keras-resnet reads {VERSION}"
        )
    try:
        return Manifest(
            source=str(values["source"]),
            task=_one_of(values["task"], TASKS),
            class_names=_names(values["class_names"]),
            splits=_splits(values["splits"]),
            images=str(values["images"]),
            channels=int(values["channels"]),
            refused=int(values["refused"]),
            settings=dict(values["settings"]),
            notes=tuple(map(str, values["notes"])),
            versions=dict(values["versions"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} is not what was written: {error!r}") from error


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("`class_names` is no list")
    names = tuple(_text(name) for name in values)
    if len({*names}) < len(names):
        raise ValueError("two classes have the same name")
    return names


def _splits(values: Mapping[str, Any]) -> dict[Split, tuple[Written, ...]]:
    splits: dict[Split, tuple[Written, ...]] = {
        _one_of(split, SPLITS): tuple(_written(shard) for shard in each["shards"])
        for split, each in values.items()
    }
    files = [name for shards in splits.values() for shard in shards for name in shard[:2]]
    if len({*files}) < len(files):
        raise ValueError("a file of a shard is named twice")
    return splits


def _written(values: Any) -> Written:
    shard = Written(**values)
    if not all(re.fullmatch(r"[a-z]+-\d+-of-\d+\.[a-z_.]+", name) for name in shard[:2]):
        raise ValueError(f"the names of the files of a shard: {shard.file!r}, {shard.rows!r}")
    sizes = shard.examples, shard.bytes
    if not all(type(size) is int for size in sizes) or not 0 <= sizes[0] <= sizes[1] < 2**63:
        raise ValueError(f"{sizes[0]} examples in {sizes[1]} bytes of {shard.file}")
    if not all(re.fullmatch("[0-9a-f]{64}", value) for value in (shard.sha256, shard.rows_sha256)):
        raise ValueError(f"the hashes of {shard.file}")
    return shard


def _one_of(value: Any, allowed: Sequence[Any]) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not the name of a class")
    return value
