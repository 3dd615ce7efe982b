"""A folder of record shards: its files, and the file of rows beside each shard.

A folder holds, for each split, files of `tf.train.Example` in the format ArrayRecord, named as TFDS
names them (`train-00000-of-00012.array_record`). Each has the features `image` (an encoded image),
`label` (a list of class numbers) and `name` (the name of the image in the source). Beside each file
lies `train-00000-of-00012.csv.gz` with the names, labels and hashes of its images, so that opening
a folder reads no image. `manifest.json` is written last: without it a folder is not finished.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.weights.files.json_object import loads

from ..files import write_bytes
from .image_data import Split
from .known import Read, without_collection

MANIFEST, PLAN, REFUSED = "manifest.json", "plan.json", "refused.csv"
ENDING = ".array_record"
FORMAT = "keras-resnet record shards"
_SURROGATES = {"encoding": "utf-8", "errors": "surrogateescape"}
_CHUNK = 4 * 2**20
# Rows hold hashes, which hardly compress: they unfold to 3 to 10 times their size.
_UNFOLDED, _FREE = 64, 16 * 2**20
_CLASSES = 2**31


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
        examples: Number of images that it may list.

    Raises:
        ValueError: If it is damaged, or unfolds to more than 64 times its size and 16 MiB.
    """
    most = _UNFOLDED * len(content) + _FREE
    try:
        with gzip.open(io.BytesIO(content), mode="rb") as file:
            text = file.read(most + 1)
        if len(text) > most:
            raise ValueError(f"it would unfold to more than {most:,} bytes")
        lines = csv.reader(io.StringIO(text.decode(**_SURROGATES), newline=""))
        facts = loads(next(lines)[0])
        # Equal values of many images are one object.
        classes: dict[str, tuple[int, ...]] = {"": ()}
        kinds: dict[str, tuple[str, ...]] = {"": ()}
        rows = []
        with without_collection():
            for name, labels, digest, notable in lines:
                if labels not in classes:
                    classes[labels] = numbers = tuple(map(int, labels.split("|")))
                    if not 0 <= min(numbers) <= max(numbers) < _CLASSES:
                        raise ValueError(f"{labels[:40]!r} is no number of a class")
                if notable not in kinds:
                    kinds[notable] = tuple(notable.split("|"))
                rows.append(Row(name, classes[labels], Read("", digest, kinds[notable])))
    except (
        OSError,
        EOFError,
        StopIteration,
        IndexError,
        ValueError,
        csv.Error,
        zlib.error,
    ) as error:
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
