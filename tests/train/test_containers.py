"""Images in containers: tar shards, Hugging Face `datasets`, Parquet; other numbers of channels."""

from __future__ import annotations

import io
import json
import pathlib
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec, get_spec
from keras_resnet_train.config import AugmentConfig, DataConfig, RunConfig
from keras_resnet_train.data import (
    ImageData,
    Share,
    TrainingPlan,
    check_dataset,
    load_data,
    raw_images,
    resolve_data,
    training_batches,
)
from keras_resnet_train.evaluation.examples import chunks
from keras_resnet_train.rundir import RunDirectory
from keras_resnet_train.session import run_training

pytestmark = pytest.mark.tf

SPEC = get_spec("cifar_resnet8")
SIZE = PreprocessSpec((6, 5))


def load(path: object, spec: Any = SPEC, **fields: Any) -> ImageData:
    return load_data(DataConfig(dataset=str(path), **fields), spec)


def pixels(number: int, channels: int = 3) -> np.ndarray:
    shape = (6, 5, channels)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def png(number: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels(number)).save(content, "PNG")
    return content.getvalue()


def shard(path: pathlib.Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def numbered(first: int, last: int, classes: int = 2) -> dict[str, bytes]:
    members = {}
    for number in range(first, last):
        members[f"./{number:03}.cls"] = b"%d" % (number % classes)
        members[f"./{number:03}.png"] = png(number)
    return members


def sizes(data: ImageData) -> dict[str, int]:
    return {split: len(source) for split, source in data.parts()}


def test_shards(tmp_path: pathlib.Path) -> None:
    shard(tmp_path / "a" / "train-0.tar", numbered(0, 6))
    shard(tmp_path / "a" / "train-1.tar", numbered(6, 10))
    shard(tmp_path / "a" / "Val-0.tar", {**numbered(10, 14), "014.txt": b"no image"})
    data = load(tmp_path / "a")
    assert (data.class_names, sizes(data)) == (("0", "1"), {"train": 10, "validation": 4})
    assert "1 example without an image left out: Val-0.tar/014" in data.notes
    images, labels = raw_images(data.validation, SIZE, 3)
    np.testing.assert_array_equal(images, [pixels(number) for number in range(10, 14)])
    assert labels.tolist() == [0, 1, 0, 1]
    # So does the evaluation of chunks.
    (chunk,) = chunks(
        data.validation, 3, lambda image: (tf.ensure_shape(image.pixels, (6, 5, 3)),), 4
    )
    np.testing.assert_array_equal(chunk.versions[0], [pixels(number) for number in range(10, 14)])
    # Training reads single images, in any order.
    plan = TrainingPlan(SIZE, AugmentConfig(), 3, seed=0, start_step=0, total_steps=1)
    batch, labels = next(training_batches(data.train, plan, Share(10)).as_numpy_iterator())
    found = sorted(
        (image.astype("uint8").tobytes(), int(label))
        for image, label in zip(batch, labels, strict=True)
    )
    assert found == sorted((pixels(n).tobytes(), n % 2) for n in range(10))
    # One file is divided by name, as a folder is; a run's list divides it again in the same way.
    shard(tmp_path / "one.tar", numbered(0, 20))
    one = load(tmp_path / "one.tar")
    assert sizes(one) == {"train": 15, "test": 5}
    again = load_data(
        DataConfig(dataset=str(tmp_path / "one.tar")), SPEC, splits=("test",), stored=one.listing
    )
    assert again.test.names == one.test.names
    assert RunDirectory(tmp_path).check_data(one, SIZE) is None


def test_shards_of_several_labels(tmp_path: pathlib.Path) -> None:
    """Folders of splits; labels in JSON; a damaged image is named."""
    for split, first in (("train", 0), ("test", 4)):
        members = {}
        for number in range(first, first + 4):
            label = json.dumps({"labels": [["u"], ["u", "v"], [], ["v"]][number % 4]})
            members |= {f"{number}.json": label.encode(), f"{number}.seg.png": png(number)}
        shard(tmp_path / split / "0.tar", members)
    data = load(tmp_path, task="multilabel")
    assert (data.class_names, sizes(data)) == (("u", "v"), {"train": 4, "test": 4})
    assert data.train.labels.tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]
    with pytest.raises(ValueError, match=r"[15]\.json in .*0\.tar must hold one label"):
        load(tmp_path)
    (tmp_path / "train" / "0.tar").write_bytes(b"no tar")
    packed = tmp_path.parent / f"{tmp_path.name}-packed"
    packed.mkdir()
    for name in ("train-0.tar.gz", "train-1.TGZ"):
        (packed / name).write_bytes(b"\x1f\x8b")
    for path, number in ((packed, "2 compressed files"), (packed / "train-1.TGZ", "1 compressed")):
        with pytest.raises(ValueError, match=r"unpack them to \.tar first \(gunzip .*" + number):
            check_dataset(DataConfig(dataset=str(path)))
        with pytest.raises(ValueError, match=r"unpack them to \.tar first \(gunzip .*" + number):
            load(path)
    with pytest.raises(ValueError, match=r"0\.tar is not an uncompressed tar file .*unpack it to"):
        load(tmp_path, task="multilabel")
    shard(tmp_path / "bad.tar", {**numbered(0, 8), "9.cls": b"1", "9.jpg": b"\xff\xd8\xff broken"})
    with pytest.raises(ValueError, match=r"1 of 9 images are unreadable: .*bad\.tar/9\.jpg"):
        load(tmp_path / "bad.tar")
    shard(tmp_path / "none.tar", {"1.png": png(1)})
    with pytest.raises(ValueError, match=r"1 in .*none\.tar has no label"):
        load(tmp_path / "none.tar")


def test_an_archive_beside_images_is_no_shard(tmp_path: pathlib.Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            (tmp_path / name / f"{number}.png").write_bytes(png(number + 10 * (name == "b")))
    shard(tmp_path / "all.tar", numbered(0, 4))
    assert load(tmp_path).class_names == ("a", "b")


def test_saved_datasets(tmp_path: pathlib.Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hf")
    names = datasets.ClassLabel(names=["z", "a"])
    features = datasets.Features({"img": datasets.Image(), "fine": names})

    def table(first: int, last: int) -> Any:
        rows = range(first, last)
        images = [{"bytes": png(number), "path": None} for number in rows]
        columns = {"img": images, "fine": [number % 2 for number in rows]}
        return datasets.Dataset.from_dict(columns, features=features)

    parts = {"train": table(0, 6), "validation": table(6, 10)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "both")
    data = load(tmp_path / "both")
    assert (data.class_names, sizes(data)) == (("z", "a"), {"train": 6, "validation": 4})
    images, labels = raw_images(data.validation, SIZE, 3)
    np.testing.assert_array_equal(images, [pixels(number) for number in range(6, 10)])
    assert labels.tolist() == [0, 1, 0, 1]
    table(0, 20).save_to_disk(tmp_path / "one")
    assert sum(sizes(load(tmp_path / "one")).values()) == 20
    several = datasets.Features({"image": datasets.Image(), "labels": [names]})
    columns = {
        "image": [{"bytes": png(number), "path": None} for number in range(4)],
        "labels": [[0], [0, 1], [], [1]],
    }
    datasets.Dataset.from_dict(columns, features=several).save_to_disk(tmp_path / "several")
    data = load(tmp_path / "several", task="multilabel", test_size=0)
    assert data.train.labels.tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]
    with pytest.raises(ValueError, match="has 2 labels, so give --task multilabel"):
        load(tmp_path / "several")


def test_a_table_that_unfolds(tmp_path: pathlib.Path) -> None:
    """Two million rows in 23 kB."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    same = arrow.repeat("a/very/long/path/of/an/image.png", 2_000_000).dictionary_encode()
    path = tmp_path / "labels.parquet"
    parquet.write_table(arrow.table({"image": same, "label": same}), path)
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"labels.parquet cannot be read: its .* 2,000,000 rows"):
        load(path)


def test_parquet(tmp_path: pathlib.Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="writes a Parquet file")
    from pyarrow import parquet

    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(png(number))
    columns = {
        "file_name": names,
        "label": [number % 3 for number in range(6)],
        "split": ["train", "train", "train", "train", None, "test"],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    data = load(tmp_path / "labels.parquet", test_size=0)
    assert (data.class_names, sizes(data)) == (("0", "1", "2"), {"train": 5, "test": 1})
    assert dict(zip(data.train.names, data.train.labels, strict=True))["4.png"] == 1
    columns = {"image": names, "labels": [["u"], ["u", "v"], [], ["v"], ["u"], ["v"]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "several.parquet")
    data = load(tmp_path / "several.parquet", task="multilabel", test_size=0)
    assert data.train.labels[:4].tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]


def write_bands(path: pathlib.Path, number: int, channels: int) -> None:
    if path.suffix == ".npy":
        np.save(path, pixels(number, channels))
        return
    Image.fromarray(pixels(number, 4), "CMYK").save(path)


@pytest.mark.parametrize(("ending", "channels"), [(".npy", 5), (".tif", 4)])
def test_other_channels(
    ending: str, channels: int, tmp_path: pathlib.Path, tiny: Callable[..., RunConfig]
) -> None:
    """Images of more than three bands are trained on one step, and evaluated."""
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            file = tmp_path / "data" / name / f"{number}{ending}"
            write_bands(file, number + 10 * (name == "b"), channels)
    spec = {"widths": [4, 8, 8], "input_channels": channels}
    config = tiny(data__dataset=str(tmp_path / "data"), model__spec=spec, batch_size=4, steps=1)
    data, preprocess = resolve_data(config, SPEC.replace(input_channels=channels))
    assert (data.channels, len(preprocess.mean)) == (channels, channels)
    directory = run_training(config, tmp_path / "run")
    assert directory.metrics["test"]["examples"] == len(data.test)
