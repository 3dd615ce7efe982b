"""Every command at places in object stores: which options take them, and what is written there."""

from __future__ import annotations

import argparse
import importlib
import io
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet_train.commands import COMMANDS, Entry
from keras_resnet_train.remote.address import copy_path
from keras_resnet_train.remote.places import PLACES
from keras_resnet_train.remote.store import Store
from keras_resnet_train.remote.uploader import Uploader

pytestmark = [
    pytest.mark.tf,
    pytest.mark.network,
    # botocore and moto call names of Python that are deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Command = Callable[..., Any]

# Options that name files or folders and are for this machine only; given a place, the command
# refuses them in one line.
_LOCAL: Mapping[str, tuple[str, ...]] = {
    "train": ("work_dir", "dry_run", "runtime.profile"),
    "demo": ("litertjs",),
    "study": ("output",),
    "tune": ("output", "runtime.profile"),
}
_NAMES_A_PATH = ("DIR", "FILE", "RUN", "PATH", "DIRECTORY", "SOURCE", "WEIGHTS", "IMAGE", "FOLDER")


def _parsers() -> list[tuple[str, argparse.ArgumentParser]]:
    def below(name: str, entry: Entry) -> list[tuple[str, argparse.ArgumentParser]]:
        if entry.commands:
            return [each for inner in entry.commands.values() for each in below(name, inner)]
        parser = argparse.ArgumentParser()
        importlib.import_module(f"keras_resnet_train.{entry.module}").COMMAND.add_arguments(parser)
        return [(name, parser)]

    return [each for name, entry in COMMANDS.items() for each in below(name, entry)]


def _takes_a_path(action: argparse.Action) -> bool:
    shown = str(action.metavar or "").upper()
    words = {word.strip("[].") for word in shown.replace("|", " ").split()}
    return action.type is pathlib.Path or bool(words & {*_NAMES_A_PATH, "NET"})


def test_no_option_is_forgotten() -> None:
    """Each option that takes a path is in the table of places, or is local on purpose."""
    for name, parser in _parsers():
        places = PLACES.get(name)
        known = () if places is None else (*places.reads, *places.writes, *places.own)
        for action in parser._actions:
            if _takes_a_path(action) and action.dest not in ("net", "model", "models"):
                assert action.dest in (*known, *_LOCAL.get(name, ())), f"{name}: {action.dest}"
    for name, places in PLACES.items():
        dests = {a.dest for each, parser in _parsers() if each == name for a in parser._actions}
        assert {*places.reads, *places.writes, *places.own} <= dests, name


@pytest.fixture(scope="module")
def place(finished_run: pathlib.Path, make_bucket: Callable[..., Any]) -> Iterator[str]:
    """A bucket with a finished run, pictures, weights and labels, which the tests share."""
    with make_bucket("commands") as bucket:
        _fill(bucket, finished_run)
        yield bucket


def _fill(bucket: str, finished_run: pathlib.Path) -> None:
    Uploader(finished_run, Store(f"{bucket}/run"), print).upload(all_files=True)
    store = Store(f"{bucket}/files")
    store.put(finished_run / "model.keras", "model.keras")
    store.write("labels.txt", "\n".join("abcdefghij").encode())
    picture = io.BytesIO()
    Image.fromarray(np.arange(64, dtype="uint8").reshape(8, 8)).save(picture, "PNG")
    for name in ("pictures/one.png", "pictures/more/two.png"):
        store.write(name, picture.getvalue())


# A command, what it prints, and the files that are at the place afterwards.
_ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "evaluate @/run --output @/out",
        "files     @/out\n",
        ("classes.csv", "confusion.csv", "evaluation.json", "reliability.svg"),
    ),
    ("evaluate @/run --output @/files/labels.txt", "is a file, and the output is a folder", ()),
    ("evaluate @/run --output s3://nowhere/out", "Create the bucket 'nowhere' first", ()),
    ("evaluate @/nothing", "There is nothing at @/nothing", ()),
    ("export @/run --examples @/files/labels.txt", "must be a readable .npy or .npz file", ()),
    (
        "predict @/run @/files/pictures --output @/table.csv",
        "@/table.csv: 2 files, by cifar_resnet8",
        ("table.csv",),
    ),
    ("predict @/run mnist --data-dir @/files", "There is nothing at @/files/mnist", ()),
    ("latency @/run @/run", "Each file must be named once. Received twice: @/run", ()),
    ("report @/run", "Report: @/run/report.html\nUploaded 1 file(s) to @/run", ()),
    ("runs @", "@/run  finished  40 of 40", ()),
    ("compare @/run --output @/page.html", "`compare` needs two runs or more", ()),
    ("publish @/run @/files", "@/files exists: remove it or choose another", ()),
    ("convert @/run --to @/m.safetensors", "torchvision has no net like", ()),
    ("convert @/run --to @/run/model.keras", "@/run/model.keras exists: remove it", ()),
    ("demo @/run --output @/files", "'@/files' holds other files, not a page of this", ()),
    ("demo @/run --litertjs @/js", "`demo` takes no place in an object store as litertjs", ()),
    ("prune @/run --output @/run", "must be another directory than RUN. Received: @/run", ()),
    ("study lesion @/run --output @/out", "`study` takes no place in an object store", ()),
    ("tune --dataset digits --output @/out", "`tune` takes no place in an object store", ()),
    ("shards @/nothing @/new", "There is nothing at @/nothing", ()),
    ("shards @/files/pictures @/files", "that were not begun on this machine", ()),
    ("train --config @/run/config.json --output @/files", "so it is not a run", ()),
    ("train --dataset digits --weights @/none --output @/new", "There is nothing at @/none", ()),
    ("quickstart --output @/files", "so it is not a run", ()),
)


@pytest.mark.parametrize(("line", "printed", "files"), _ROWS, ids=[row[0] for row in _ROWS])
def test_commands(
    line: str, printed: str, files: tuple[str, ...], place: str, command: Command
) -> None:
    written = copy_path("x", place).parents[1].with_name("written")
    ended = command(*line.replace("@", place).split())
    assert printed.replace("@", place) in ended.out + ended.err
    assert ended.status == (1 if "Error" in ended.err else 0), ended.err
    assert ended.err.count("\n") <= 2, ended.err
    there = Store(place).entries()
    assert {*files} <= {name.removeprefix("out/") for name in there}
    assert not written.is_dir() or not [*written.iterdir()]
    assert not any(name.startswith("new/") for name in there if "lock/" not in name)
    if line.startswith("predict"):
        table = Store(place).read("table.csv").decode().splitlines()
        assert table[1].startswith(f"{place}/files/pictures/more/two.png,")
