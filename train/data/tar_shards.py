"""WebDataset shards: `.tar` files of images and their labels."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.weights.files.json_object import loads

from ..config import DataConfig
from .contained import Row, contained_files
from .divide import divided
from .headers import ENDINGS
from .image_data import ImageData, Split
from .index import stamp_of
from .known import Stamp
from .layout import split_named
from .listing import examples
from .request import Request
from .sources import Contained
from .table import LABEL_COLUMNS
from .walk import counted, holds_images, subfolders

_LABELS = ("cls", "json", "txt")
_COMPRESSED = re.compile(r"\.(?:tar\.(?=gz|bz2|xz|zst)|(?=tgz))(gz|tgz|bz2|xz|zst)$", re.IGNORECASE)
_TOOLS = {"gz": "gunzip", "tgz": "gunzip", "bz2": "bunzip2", "xz": "unxz", "zst": "unzstd"}


class _Member(NamedTuple):
    shard: Path
    start: int
    size: int
    label: bytes = b""


class _Shards(Contained):
    """Images in tar files, read from where they lie, without unpacking."""

    def __init__(self, members: Mapping[str, _Member]) -> None:
        self._members = members
        self._stamps: dict[Path, Stamp | None] = {}

    def read(self, path: str) -> bytes:
        """Returns the content of an image."""
        member = self._members[path]
        with member.shard.open("rb") as file:
            file.seek(member.start)
            return file.read(member.size)

    def stamp(self, path: str) -> Stamp | None:
        """Returns the size of an image and the time of its shard."""
        member = self._members[path]
        if member.shard not in self._stamps:
            self._stamps[member.shard] = stamp_of(str(member.shard))
        shard = self._stamps[member.shard]
        return None if shard is None else Stamp(member.size, shard.changed)


def find_shards(path: Path) -> list[Path]:
    """Returns the `.tar` files that a path is or holds, also in folders of splits.

    None of a folder that holds images or other folders: the tar file beside them is their archive.
    """
    if path.is_file():
        return [path] if path.suffix.lower() == ".tar" else []
    if not path.is_dir() or holds_images(path):
        return []
    folders = [path / name for name in subfolders(path)]
    inner = [_shards_in(folder) for folder in folders]
    if not all(inner) or any(subfolders(folder) or holds_images(folder) for folder in folders):
        return []
    return sorted([*_shards_in(path), *(shard for shards in inner for shard in shards)])


def refuse_compressed(path: Path) -> None:
    """Refuses compressed shards, which would have to be read from the start for each image.

    Args:
        path: A file, or a folder.

    Raises:
        ValueError: If it is one, or holds some and neither images nor folders.
    """
    files = [path]
    if path.is_dir():
        files = [] if subfolders(path) or holds_images(path) else sorted(path.iterdir())
    packed = [each for each in files if _COMPRESSED.search(each.name) and each.is_file()]
    if not packed:
        return
    ending = _COMPRESSED.search(packed[0].name)
    tool = _TOOLS[ending[1].lower()] if ending else ""
    raise ValueError(
        f"Tar shards are read from where their images lie, so they must not be compressed: unpack "
        f"them to .tar first ({tool} {packed[0].name}). "
        f"Received: {counted(len(packed), 'compressed file')} such as {packed[0]}"
    )


def _shards_in(folder: Path) -> list[Path]:
    return [each for each in folder.glob("*.tar") if not each.name.startswith(".")]


def load_shards(path: Path, config: DataConfig, channels: int, request: Request) -> ImageData:
    """Opens uncompressed `.tar` files in the layout of WebDataset.

    Files of one example have the same name up to the first full stop: an image, and a label as
    `.cls` (a number or a name), as `.json` (an object with a label, or with a list of labels for
    the task `multilabel`), or as `.txt`. A shard that is named like a split, such as
    `train-0001.tar`, or lies in a folder of such a name, is of that split; others are divided as a
    folder is. Images are read in any order from where they lie.

    Args:
        path: A `.tar` file, or a folder of them.
        config: The data's configuration.
        channels: Number of channels to decode.
        request: Which splits are asked for, by whose classes.

    Raises:
        ValueError: If a shard is damaged or compressed, or an example has no label.
    """
    root = path if path.is_dir() else path.parent
    members: dict[str, _Member] = {}
    rows: list[Row] = []
    passed: list[str] = []
    for shard in find_shards(path):
        split = _split_of(shard, root)
        for key, parts in _examples(shard).items():
            ending = next((e for e in parts if f".{e.rsplit('.', 1)[-1]}" in ENDINGS), None)
            name = f"{shard.relative_to(root).as_posix()}/{key}"
            if ending is None:
                passed.append(name)
                continue
            label = _label(shard, key, parts, config)
            rows.append(Row(f"{name}.{ending}", label, split))
            members[str(root / f"{name}.{ending}")] = parts[ending]
    notes = []
    if passed:
        notes.append(
            f"{counted(len(passed), 'example')} without an image left out: {examples(passed)}"
        )
    files = contained_files(str(path), root, rows, _Shards(members), config, request, notes)
    return divided(str(path), files, channels, config, request)


def _split_of(shard: Path, root: Path) -> Split | None:
    inside = shard.relative_to(root).parts[0] if shard.parent != root else ""
    return split_named(inside) or split_named(re.split(r"[-_.\d]", shard.name)[0])


def _examples(shard: Path) -> dict[str, dict[str, _Member]]:
    """Returns the files of each example by their endings, in lower case."""
    found: dict[str, dict[str, _Member]] = {}
    try:
        with tarfile.open(shard, "r:") as file:
            for member in file:
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                if member.isfile() and key:
                    key = f"{folder}/{key}".removeprefix("./").lstrip("/")
                    # Labels are read here, where the shard is open.
                    is_label = ending.lower() in _LABELS
                    stream = file.extractfile(member) if is_label else None
                    content = b"" if stream is None else stream.read()
                    place = _Member(shard, member.offset_data, member.size, content)
                    found.setdefault(key, {})[ending.lower()] = place
    except tarfile.TarError as error:
        raise ValueError(
            f"{shard} is not an uncompressed tar file ({error}): if it is compressed, unpack it to "
            "a .tar first"
        ) from error
    return found


def _label(
    shard: Path, key: str, parts: Mapping[str, _Member], config: DataConfig
) -> tuple[str, ...]:
    several = config.task == "multilabel"
    ending = next((each for each in _LABELS if each in parts), None)
    if ending is None:
        raise ValueError(
            f"{key} in {shard} has no label: none of {', '.join(f'.{e}' for e in _LABELS)}"
        )
    text = parts[ending].label.decode("utf-8", "replace").strip()
    values: Any = _of_json(text) if ending == "json" else text
    if isinstance(values, str) and several:
        values = [part for part in values.split(config.label_separator) if part.strip()]
    labels: Sequence[Any] = values if isinstance(values, list) else [values]
    if any(isinstance(label, dict | list) or label in (None, "") for label in labels) or not (
        several or len(labels) == 1
    ):
        raise ValueError(
            f"{key}.{ending} in {shard} must hold {'labels' if several else 'one label'}. "
            f"Received: {text[:80]!r}"
        )
    return tuple(str(label).strip() for label in labels)


def _of_json(text: str) -> Any:
    """Returns the label or the labels of a JSON text: an object's, or the value itself."""
    try:
        value = loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return value
    lower = {name.casefold(): each for name, each in value.items()}
    return next((lower[name] for name in (*LABEL_COLUMNS, "cls") if name in lower), None)
