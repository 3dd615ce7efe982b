"""`keras-resnet shards`: write a data set as ArrayRecord shards, or check them."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import Command
from ..config import DataConfig

if TYPE_CHECKING:
    from ..data.shard_manifest import Manifest


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder, a CSV or Parquet file, tar shards, or the name of a data set of TFDS",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="folder of the shards; also in an object store, such as s3://bucket/shards",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing: compare the SHA-256 of each shard in the folder with its manifest",
    )
    parser.add_argument(
        "--short-side",
        type=int,
        default=0,
        metavar="PIXELS",
        help="store images whose shorter side is longer at this size, as JPEG; by default all "
        "images as they are",
    )
    parser.add_argument(
        "--quality",
        type=int,
        default=95,
        help="quality of the JPEGs of --short-side, 1 to 100 (default: 95)",
    )
    parser.add_argument(
        "--shard-size",
        type=float,
        default=1024,
        metavar="MIB",
        help="size of a shard, about (default: 1024)",
    )
    parser.add_argument(
        "--channels", type=int, default=3, help="channels of the images (default: 3)"
    )
    _add_data_options(parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    defaults = DataConfig()
    parser.add_argument("--data-dir", metavar="DIR", help="directory of TFDS data sets")
    parser.add_argument(
        "--task",
        choices=("classification", "multilabel"),
        default=defaults.task,
        help="one label per image (the default), or any number",
    )
    parser.add_argument(
        "--label-separator",
        default=defaults.label_separator,
        metavar="TEXT",
        help="separates the labels of an image in a cell (default: a space)",
    )
    parser.add_argument(
        "--validation",
        type=float,
        default=defaults.validation,
        metavar="FRACTION",
        help="fraction of the training images that become the validation split (default: none; "
        "training can hold them out)",
    )
    parser.add_argument(
        "--test-size",
        type=float,
        default=defaults.test_size,
        metavar="FRACTION",
        help="fraction that becomes the test split, where the source has no splits (default: 0.2)",
    )


def _run(args: argparse.Namespace) -> int:
    from ..data.remote_shards import check_place, write_remote_shards
    from ..data.shard_checks import check_shards
    from ..data.shard_images import Storage
    from ..data.shard_origin import open_origin
    from ..data.shard_writer import write_shards
    from ..data.table import images_of_table
    from ..remote.address import remote_url
    from ..remote.data import copy_data, data_at_hand

    def say(text: str) -> None:
        print(text, flush=True)

    if args.check:
        folder = args.folder or Path(args.source)
        place = remote_url(folder)
        manifest = check_shards(folder if place is None else copy_data(place, say), say)
        say(f"{place or folder}: all shards have the SHA-256 of the manifest")
        _describe(place or folder, manifest)
        return 0
    if args.folder is None:
        raise ValueError("`keras-resnet shards SOURCE DIR` needs the folder to write, DIR")
    source = Path(args.source)
    if source.is_dir() and args.folder.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"The folder of the shards must lie outside of the source {source}. "
            f"Received: {args.folder}"
        )
    if args.shard_size < 1:
        raise ValueError(f"`--shard-size` must be at least 1 MiB. Received: {args.shard_size:g}")
    storage = Storage(args.short_side, args.quality, args.channels)
    config = DataConfig(
        dataset=args.source,
        data_dir=args.data_dir,
        task=args.task,
        label_separator=args.label_separator,
        validation=args.validation,
        test_size=args.test_size,
    )
    place = remote_url(args.folder)
    if place is not None:
        check_place(place)
    origin = open_origin(data_at_hand(config, say, images_of_table), args.channels, say)
    origin = dataclasses.replace(origin, name=args.source)
    for note in origin.notes:
        say(f"Note: {note}")

    def write(folder: Path) -> Manifest:
        return write_shards(origin, folder, storage, int(args.shard_size * 2**20), say)

    manifest = write(args.folder) if place is None else write_remote_shards(place, write, say)
    _describe(place or args.folder, manifest)
    say(f"Train from them: keras-resnet train --dataset {place or args.folder}")
    return 0


def _describe(folder: Path | str, manifest: Manifest) -> None:
    """Prints what a folder holds."""
    for split, shards in manifest.splits.items():
        images, size = sum(s.examples for s in shards), sum(s.bytes for s in shards)
        print(f"{split:<11}{images:>12,} images{len(shards):>7} shards{size / 2**20:>12,.1f} MiB")
    print(f"{folder}: {manifest.images}")


COMMAND = Command(_add_arguments, _run)
