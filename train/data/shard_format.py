"""A folder of record shards: its manifest, and the file of rows beside each shard.

A folder holds, for each split, files of `tf.train.Example` in the format ArrayRecord, named as TFDS
names them (`train-00000-of-00012.array_record`). Each has the features `image` (an encoded image),
`label` (a list of class numbers) and `name` (the name of the image in the source). Beside each file
lies `train-00000-of-00012.csv.gz` with the names, labels and hashes of its images, so that opening
a folder reads no image. `manifest.json` is written last: without it a folder is not finished.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import read_object, write_bytes
from .known import Read, without_collection
from .listing import examples
from .sources import SPLITS, Split, Task
from .walk import counted

MANIFEST, PLAN, REFUSED = "manifest.json", "plan.json", "refused.csv"
ENDING = ".array_record"
FORMAT, VERSION = "keras-resnet record shards", 1
TASKS: tuple[Task, ...] = ("classification", "multilabel")
_SURROGATES = {"encoding": "utf-8", "errors": "surrogateescape"}
_CHUNK = 4 * 2**20
_LONGEST_ROW, _LONGEST_FACTS = 16 * 2**10, 64 * 2**20  # bytes


class Row(NamedTuple):
    """An image of a shard.

    Attributes:
        name: Its name in the source, such as `cat/1.jpg`.
        labels: Its class, or its classes for several labels per image.
        read: Hash and peculiarities of the encoded image.
    """

    name: str
    labels: tuple[int, ...]
    read: Read


class Shard(NamedTuple):
    """A planned file: the images `start` to `stop - 1` of a split.

    Attributes:
        split: The split.
        number: Number of the shard among those of its split, from 0.
        shards: How many shards the split has.
        start: First image.
        stop: The image after the last one.
    """

    split: Split
    number: int
    shards: int
    start: int
    stop: int

    @property
    def stem(self) -> str:
        """The name of its files without their endings."""
        return f"{self.split}-{self.number:05d}-of-{self.shards:05d}"

    @property
    def file(self) -> str:
        """The name of the file of records."""
        return self.stem + ENDING

    @property
    def rows(self) -> str:
        """The name of the file of rows."""
        return f"{self.stem}.csv.gz"


def planned(sizes: Mapping[Split, int], shards: Mapping[Split, int]) -> list[Shard]:
    """Returns the shards of each split, of nearly equal numbers of images.

    Args:
        sizes: Number of images by split.
        shards: Number of shards by split.
    """
    return [
        Shard(split, number, count, number * size // count, (number + 1) * size // count)
        for split, size in sizes.items()
        for count in [shards[split]]
        for number in range(count)
    ]


def write_rows(path: Path, facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Writes the file of rows of a shard, atomically; the first row holds facts about the shard."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((json.dumps(facts, sort_keys=True),))
    for name, labels, read in rows:
        writer.writerow((name, "|".join(map(str, labels)), read.digest, "|".join(read.notable)))
    write_bytes(path, gzip.compress(text.getvalue().encode(**_SURROGATES), 1, mtime=0))


def read_facts(path: Path, examples: int) -> dict[str, Any] | None:
    """Returns the facts in a file of rows, of at most `examples`; None without a sound file."""
    try:
        return read_rows(path.read_bytes(), examples)[0]
    except (OSError, ValueError):
        return None


def read_rows(content: bytes, examples: int) -> tuple[dict[str, Any], list[Row]]:
    """Reads what `write_rows` wrote.

    Args:
        content: The content of the file.
        examples: Number of images that it may list; it bounds the memory of a hostile file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        with gzip.open(io.BytesIO(content), mode="rb") as file:
            text = file.read(_LONGEST_FACTS + examples * _LONGEST_ROW)
        lines = csv.reader(io.StringIO(text.decode(**_SURROGATES), newline=""))
        facts = json.loads(next(lines)[0])
        # Equal values of many images are one object.
        classes: dict[str, tuple[int, ...]] = {"": ()}
        kinds: dict[str, tuple[str, ...]] = {"": ()}
        rows = []
        with without_collection():
            for name, labels, digest, notable in lines:
                if labels not in classes:
                    classes[labels] = tuple(map(int, labels.split("|")))
                if notable not in kinds:
                    kinds[notable] = tuple(notable.split("|"))
                rows.append(Row(name, classes[labels], Read("", digest, kinds[notable])))
    except (OSError, EOFError, StopIteration, IndexError, csv.Error, zlib.error) as error:
        raise ValueError(f"no list of the images of a shard: {error}") from error
    if not isinstance(facts, dict) or len(rows) > examples:
        raise ValueError("no list of the images of a shard")
    return facts, rows


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            total.update(block)
    return total.hexdigest()


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
            class_names=tuple(_text(name) for name in values["class_names"]),
            splits={
                _one_of(split, SPLITS): tuple(_written(shard) for shard in each["shards"])
                for split, each in values["splits"].items()
            },
            images=str(values["images"]),
            channels=int(values["channels"]),
            refused=int(values["refused"]),
            settings=dict(values["settings"]),
            notes=tuple(map(str, values["notes"])),
            versions=dict(values["versions"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} is not what was written: {error!r}") from error


def _written(values: Any) -> Written:
    shard = Written(**values)
    if not all(re.fullmatch(r"[a-z]+-\d+-of-\d+\.[a-z_.]+", name) for name in shard[:2]):
        raise ValueError(f"the names of the files of a shard: {shard.file!r}, {shard.rows!r}")
    if not isinstance(shard.bytes, int) or not isinstance(shard.examples, int):
        raise TypeError(f"the size of {shard.file}")
    return shard


def _one_of(value: Any, allowed: Sequence[Any]) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not the name of a class")
    return value


def problem_of_shard(folder: Path, shard: Written, *, content: bool) -> str:
    """Returns what is wrong with the files of a shard, or "".

    Args:
        folder: The folder.
        shard: What the manifest states.
        content: Whether to read the file of records and compare its hash, not its size alone.
    """
    file, beside = folder / shard.file, folder / shard.rows
    if not file.is_file():
        return "missing"
    size = file.stat().st_size
    if size != shard.bytes:
        return f"{size:,} bytes, not {shard.bytes:,}"
    if not beside.is_file():
        return f"{beside.name} is missing"
    if sha256(beside) != shard.rows_sha256:
        return f"{beside.name} has other content"
    return "other content" if content and sha256(file) != shard.sha256 else ""


def refuse_damaged(folder: Path, damaged: Sequence[str]) -> None:
    """Refuses a folder with damaged shards.

    Args:
        folder: The folder.
        damaged: The names of the shards, each with what is wrong.

    Raises:
        ValueError: If there are some; says what to do.
    """
    if damaged:
        raise ValueError(
            f"{folder} has {counted(len(damaged), 'damaged shard')}: {examples(damaged)}. Give the "
            "`keras-resnet shards` command of this folder again, which writes these anew, or copy "
            "them from where they are whole"
        )
