"""Record shards are written: one after the other, each complete or absent, and checked.

A shard is its file of records, and beside it its file of rows, which is written when the records
are complete and holds their SHA-256. So a process that was killed goes on after the last whole
shard. `manifest.json` is written last.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.version import __version__
from keras_resnet.weights.files.file_system import flush, lock, replace, unlock

from ..files import write_json, write_text
from .array_record_files import WRITER_OPTIONS, array_record_module
from .listing import examples
from .reading import Progress, in_order
from .shard_format import (
    MANIFEST,
    PLAN,
    REFUSED,
    Row,
    Shard,
    planned,
    sha256,
    write_rows,
)
from .shard_images import Storage, Stored, record_of, stored
from .shard_manifest import Manifest, Written, read_manifest
from .shard_origin import Origin
from .shard_plan import THREADS, mean_bytes, settings_of, sweep, whole_shards
from .walk import counted

Say = Callable[[str], None]


def write_shards(
    origin: Origin, folder: Path, storage: Storage, shard_bytes: int, say: Say
) -> Manifest:
    """Writes the images of a source as record shards, or goes on with it.

    Args:
        origin: The images.
        folder: The folder: new, empty, or with some of these shards in it.
        storage: How images are stored.
        shard_bytes: Size of a shard, about.
        say: Prints a line.

    Raises:
        OSError: If the disk is full, or nearly; what is whole remains.
        ValueError: If the folder holds something else, another process writes there, array_record
            is not installed, or no image of a split is readable.
    """
    array_record_module("`keras-resnet shards`")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = lock(folder / ".lock", wait=False)
    except BlockingIOError:
        raise ValueError(f"Another process writes shards into {folder}") from None
    try:
        return _Writer(origin, folder, storage, say).write(shard_bytes)
    finally:
        if descriptor is not None:
            unlock(descriptor, folder / ".lock", remove=True)
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()


class _Writer:
    def __init__(self, origin: Origin, folder: Path, storage: Storage, say: Say) -> None:
        self._origin, self._folder, self._storage, self._say = origin, folder, storage, say

    def write(self, shard_bytes: int) -> Manifest:
        settings = settings_of(self._origin, self._folder, self._storage, shard_bytes)
        shards = planned(self._origin.sizes, settings["shards"])
        sweep(self._folder)
        keys = {shard.stem: f"{settings['identity']} {self._origin.key(shard)}" for shard in shards}
        facts = whole_shards(self._folder, shards, keys, self._say)
        missing = [shard for shard in shards if shard.stem not in facts]
        if not missing and (self._folder / MANIFEST).is_file():
            (self._folder / PLAN).unlink(missing_ok=True)
            self._say(f"{self._folder} holds these images: all {len(shards)} shards are whole")
            return read_manifest(self._folder)
        left = sum(shard.stop - shard.start for shard in missing)
        if missing and facts:
            self._say(f"{len(facts)} of {len(shards)} shards are whole already, by their SHA-256")
        self._check_space(left)
        write_json(self._folder / PLAN, settings)
        (self._folder / MANIFEST).unlink(missing_ok=True)
        known = sum(self._origin.sizes.values()) - left
        progress = Progress(left, known, self._say, "writing shards")
        for shard in missing:
            facts[shard.stem] = self._write(shard, keys[shard.stem], progress)
        return self._finish(shards, facts, settings)

    def _check_space(self, left: int) -> None:
        needed = left * mean_bytes(self._origin, self._storage) if left else 0
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise OSError(
                f"{self._folder} has {free / 2**20:,.0f} MiB free, and the shards need about "
                f"{needed / 2**20:,.0f} MiB more"
            )

    def _write(self, shard: Shard, key: str, progress: Progress) -> dict[str, Any]:
        """Writes a shard, and returns what its file of rows says of it."""
        temporary = self._folder / f".{shard.file}"
        rows: list[Row] = []
        refused: list[tuple[str, str]] = []
        resized = 0
        try:
            with _open_writer(temporary) as write:
                for image in self._images(shard, progress):
                    if image.read.problem:
                        refused.append((image.example.name, image.read.problem))
                        continue
                    write(record_of(image))
                    resized += image.resized
                    rows.append(Row(image.example.name, image.example.labels, image.read))
            flush(temporary)
            facts = {
                "key": key,
                "sha256": sha256(temporary),
                "bytes": temporary.stat().st_size,
                "examples": len(rows),
                "resized": resized,
                "refused": refused,
            }
            replace(temporary, self._folder / shard.file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        write_rows(self._folder / shard.rows, facts, rows)
        return facts

    def _images(self, shard: Shard, progress: Progress) -> Iterator[Stored]:
        storage, decoding = self._storage, self._origin.decoding
        chunks = self._origin.chunks(shard, self._origin.chunk_size())
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            work = in_order(
                pool, lambda chunk: stored(chunk(), storage, decoding), chunks, 2 * THREADS
            )
            for images in work:
                yield from images
                progress.add(len(images))

    def _finish(
        self, shards: Sequence[Shard], facts: Mapping[str, Mapping[str, Any]], settings: Any
    ) -> Manifest:
        """Writes the list of refused images and the manifest."""
        splits: dict[Any, list[Written]] = {}
        refused: list[tuple[str, str, str]] = []
        for shard in shards:
            found = facts[shard.stem]
            refused += [(shard.split, name, why) for name, why in found["refused"]]
            splits.setdefault(shard.split, []).append(
                Written(
                    shard.file,
                    shard.rows,
                    found["examples"],
                    found["bytes"],
                    found["sha256"],
                    sha256(self._folder / shard.rows),
                )
            )
        for split, written in splits.items():
            if not sum(shard.examples for shard in written):
                first = next(each for each in refused if each[0] == split)
                raise ValueError(
                    f"None of the {self._origin.sizes[split]} {split} images is readable: "
                    f"{first[1]} ({first[2]})"
                )
        self._write_refused(refused)
        total = sum(shard.examples for written in splits.values() for shard in written)
        resized = sum(each["resized"] for each in facts.values())
        manifest = Manifest(
            source=self._origin.name,
            task=self._origin.task,
            class_names=self._origin.class_names,
            splits={split: tuple(written) for split, written in splits.items()},
            images=self._storage.describe(resized, total),
            channels=self._storage.channels,
            refused=len(refused),
            settings=settings,
            notes=self._origin.notes,
            versions=_versions(),
        )
        write_json(self._folder / MANIFEST, manifest.to_json())
        (self._folder / PLAN).unlink()
        return manifest

    def _write_refused(self, refused: Sequence[tuple[str, str, str]]) -> None:
        file = self._folder / REFUSED
        if not refused:
            file.unlink(missing_ok=True)
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("split", "image", "problem"))
        writer.writerows(refused)
        write_text(file, text.getvalue())
        shown = examples([f"{name} ({why})" for _, name, why in refused], 5)
        what = counted(len(refused), "unreadable image")
        self._say(f"{what} left out, listed in {file}: {shown}")


@contextlib.contextmanager
def _open_writer(path: Path) -> Iterator[Callable[[bytes], Any]]:
    """Yields a function that adds a record to a new file."""
    module = array_record_module("`keras-resnet shards`")
    try:
        writer = module.ArrayRecordWriter(str(path), WRITER_OPTIONS)
        try:
            yield writer.write
        finally:
            writer.close()
    except RuntimeError as error:
        reason = (str(error).strip() or "an error of array_record").splitlines()[0]
        raise OSError(
            f"{path.name.removeprefix('.')} was not written: {reason}. Free some space if the disk "
            "is full, and give the same command again"
        ) from error


def _versions() -> dict[str, str]:
    import importlib.metadata

    import tensorflow as tf

    return {
        "keras_resnet": __version__,
        "tensorflow": tf.__version__,
        "array_record": importlib.metadata.version("array_record"),
    }
