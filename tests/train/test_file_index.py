"""What reading images has told, kept for later starts: the index of files, and resized images."""

from __future__ import annotations

import gzip
import os
import pathlib
import tarfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet import get_spec
from keras_resnet_train.config import DataConfig, RunConfig
from keras_resnet_train.data import (
    ArraySource,
    ImageData,
    in_memory,
    load_data,
    reading,
    resolve_data,
)
from keras_resnet_train.data.index import cache_directory, keep_beside
from keras_resnet_train.data.sources import FileSource

pytestmark = pytest.mark.tf

SPEC = get_spec("cifar_resnet8")


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []
    content = FileSource.content

    def noted(self: FileSource, path: str) -> bytes:
        names.append(os.path.basename(path))
        return content(self, path)

    monkeypatch.setattr(FileSource, "content", noted)
    return names


def fill(root: pathlib.Path, count: int = 5) -> pathlib.Path:
    for number in range(2 * count):
        path = root / "ab"[number % 2] / f"{number}.{'jpg' if number < count else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def load(root: pathlib.Path, beside: pathlib.Path | None = None, **fields: Any) -> ImageData:
    return load_data(DataConfig(dataset=str(root), **fields), SPEC, index=beside)


def same(first: ImageData, second: ImageData) -> bool:
    assert first.listing is not None
    assert second.listing is not None
    return first.listing.to_bytes() == second.listing.to_bytes() and first.notes == second.notes


def test_a_second_start_reads_what_has_changed(
    home: pathlib.Path, opened: list[str], tmp_path: pathlib.Path
) -> None:
    root, run = fill(tmp_path / "data"), tmp_path / "run"
    run.mkdir()
    beside = run / "data_index.csv.gz"
    first = load(root, beside)
    assert len(opened) == 10
    opened.clear()
    assert same(load(root, beside), first)
    assert opened == []
    # Another file, one of other content, one that is gone.
    (root / "a" / "new.png").write_bytes((root / "a" / "8.png").read_bytes())
    os.utime(root / "b" / "1.jpg", ns=(1, 1))
    (root / "b" / "3.jpg").unlink()
    third = load(root, beside)
    assert sorted(opened) == ["1.jpg", "new.png"]
    assert sum(len(source) for _, source in third.parts()) == 10
    keep_beside(third.index, run)
    # Each of the two files is enough: the run was copied, or the cache was emptied.
    opened.clear()
    (cached,) = cache_directory().glob("*.csv.gz")
    assert cached.parent == home / "keras_resnet" / "data"
    content = cached.read_bytes()
    cached.unlink()
    assert same(load(root, beside), third)
    assert cached.read_bytes() == beside.read_bytes() == content
    beside.unlink()
    assert same(load(root, beside), third)
    assert opened == []
    # Other pixels are asked for: nothing is known.
    load(root, decoding="fast")
    assert len(opened) == 10


@pytest.mark.parametrize("damage", ["", "no gzip", "cut", "rows"])
def test_a_damaged_index_is_not_used(
    damage: Any, home: pathlib.Path, opened: list[str], tmp_path: pathlib.Path
) -> None:
    root = fill(tmp_path / "data")
    first = load(root)
    (file,) = cache_directory().glob("*.csv.gz")
    content = file.read_bytes()
    rows = gzip.decompress(content).replace(b"png", b"png,x")
    made = {"cut": content[:-9], "rows": gzip.compress(rows)}
    file.write_bytes(made.get(damage, damage.encode()))
    opened.clear()
    again = load(root)
    assert len(opened) == 10
    assert len(again.notes) == len(first.notes) + 1
    assert any("damaged" in note and "read again" in note for note in again.notes)
    opened.clear()
    assert same(load(root), first)
    assert opened == []


def test_unreadable_images_are_read_at_each_start(
    home: pathlib.Path, opened: list[str], tmp_path: pathlib.Path
) -> None:
    """They may become legible without a change of size and time, by another decoder for one."""
    root = fill(tmp_path / "data")
    whole = (root / "a" / "0.jpg").read_bytes()
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (root / "a" / "nothing.png").touch()
    with pytest.raises(ValueError, match=r"2 of 12 images are unreadable: .*cut.jpg \("):
        load(root)
    opened.clear()
    data = load(root, on_bad_image="skip")
    assert sorted(opened) == ["cut.jpg", "nothing.png"]
    assert sum(len(source) for _, source in data.parts()) == 10


def test_shards_are_known_too(
    home: pathlib.Path, opened: list[str], tmp_path: pathlib.Path
) -> None:
    root = fill(tmp_path / "data")
    for number in range(10):
        (root / "ab"[number % 2] / f"{number}.cls").write_text(str(number % 2))
    with tarfile.open(tmp_path / "all.tar", "w") as file:
        for path in sorted(root.rglob("*.*")):
            file.add(path, path.name)
    first = load(tmp_path / "all.tar")
    assert len(opened) == 10
    opened.clear()
    assert same(load(tmp_path / "all.tar"), first)
    assert opened == []


def test_progress_is_said(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(reading, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(reading, "_CHUNK", 4)
    lines: list[str] = []
    config = DataConfig(dataset=str(fill(tmp_path / "data")), test_size=0.0)
    load_data(config, SPEC, say=lines.append)
    assert [line.split(",")[0] for line in lines] == [
        f"reading images before training: {done} of 10" for done in (4, 8, 10)
    ]
    lines.clear()
    load_data(config, SPEC, say=lines.append)
    assert lines == []


def test_resized_images_are_kept(
    home: pathlib.Path,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    monkeypatch.setattr(in_memory, "_WORTH_KEEPING", 1)
    root = fill(tmp_path / "data")
    config = RunConfig(epochs=1, data=DataConfig(dataset=str(root), image_size=16, test_size=0.0))
    data, preprocess = resolve_data(config, SPEC)
    (file,) = cache_directory().glob("*.npy")

    def fail(*args: object) -> None:
        raise AssertionError("resized again")

    with monkeypatch.context() as patch:
        patch.setattr(in_memory, "raw_images", fail)
        again, same_preprocess = resolve_data(config, SPEC)
        assert isinstance(again.train, ArraySource)
        assert isinstance(data.train, ArraySource)
        np.testing.assert_array_equal(again.train.images, data.train.images)
        assert same_preprocess == preprocess
        # Damaged in one byte, and images of other content: both are resized again.
        content = bytearray(file.read_bytes())
        content[-100] ^= 1
        file.write_bytes(content)
        with pytest.raises(AssertionError, match="resized again"):
            resolve_data(config, SPEC)
    repaired, _ = resolve_data(config, SPEC)
    np.testing.assert_array_equal(repaired.train.images, data.train.images)
    (root / "a" / "0.jpg").write_bytes((root / "a" / "2.jpg").read_bytes())
    resolve_data(config, SPEC)
    assert len(list(cache_directory().glob("*.npy"))) == 2
