"""Record files read in parts: the plan's batches on any number of workers, each reading its own."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import PreprocessSpec
from keras_resnet_train.config import AugmentConfig, DataConfig
from keras_resnet_train.config.data import with_earlier_data_defaults
from keras_resnet_train.data import Share, TrainingPlan, naming_files, training_batches
from keras_resnet_train.data.arrange import relabelled
from keras_resnet_train.data.image_data import ImageData
from keras_resnet_train.data.record_offsets import RecordOffsets, make_reader
from keras_resnet_train.data.sources import RecordFiles, Records, StreamSource
from keras_resnet_train.data.stream_labels import labels_checked
from keras_resnet_train.data.streams import allow_open_files, plan_of, reading_notes

pytestmark = pytest.mark.tf

LENGTHS = (7, 1, 12, 4, 9, 8)  # of the files; the second file has 3 records before these
SIZE, BATCH, STEPS = sum(LENGTHS), 8, 14  # 5.1 batches an epoch
Batches = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> StreamSource:
    """Images whose pixels and label are their number in the stored order; 16 are shuffled."""
    folder, number, files = tmp_path_factory.mktemp("records"), 0, []
    for index, length in enumerate(LENGTHS):
        path = str(folder / f"{index}.tfrecord")
        first = 3 * (index == 1)
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(first):
                writer.write(b"not of this stream")
            for _ in range(length):
                writer.write(bytes([number]))
                number += 1
        files.append(Records(path, first, length))

    def parse(record: Any) -> tuple[Any, Any]:
        value = tf.io.decode_raw(record, tf.uint8)[0]
        return tf.io.encode_png(tf.fill((4, 4, 3), value)), tf.cast(value, tf.int64)

    return StreamSource(
        SIZE, lambda seed: None, parted=RecordFiles(tuple(files), make_reader(), parse, 16)
    )


def take(
    source: StreamSource, share: Share, start: int = 0, stop: int = STEPS, **augment: Any
) -> Batches:
    """Pixel values are the numbers of the images, as nothing normalizes them."""
    preprocess = PreprocessSpec((4, 4), (0.0,) * 3, (1.0,) * 3)
    plan = TrainingPlan(preprocess, AugmentConfig(**augment), 3, 5, start, stop, classes=SIZE)
    return list(training_batches(source, plan, share).as_numpy_iterator())


def whole(make: Callable[[Share], Batches], workers: int, replicas: int = 1) -> list[list[int]]:
    """The labels of all replicas of all workers, put together step by step."""
    parts = [make(Share(BATCH, worker, workers, replicas)) for worker in range(workers)]
    for images, labels in parts[0]:
        np.testing.assert_array_equal(images[:, 2, 2, 1], labels)
    labels = [np.stack([labels for _, labels in part]) for part in parts]
    return np.concatenate([each.reshape(-1, BATCH // workers) for each in labels], 1).tolist()


def test_batches_are_those_of_the_plan(source: StreamSource) -> None:
    """2 workers of two replicas, then 1, then 2 again; and images that are repeated."""
    plan = plan_of(source.parted, BATCH, 5)
    assert (plan.parts, plan.block) == (8, 2)
    expected = np.concatenate([plan.records(part, 0, STEPS) for part in range(8)], axis=1)
    assert sorted(expected.ravel()[:SIZE]) == sorted(expected.ravel()[SIZE : 2 * SIZE])
    elastic = []
    for workers, start, stop in ((2, 0, 5), (1, 5, 6), (2, 6, STEPS)):
        each = functools.partial(take, source, start=start, stop=stop)
        elastic += whole(each, workers, replicas=2)
    assert elastic == expected.tolist()
    # Every image three times (the last one twice), so that both workers need all parts.
    three = plan_of(source.parted, 3, 5)
    once = np.concatenate([three.records(part, 0, 4) for part in range(3)], axis=1)
    repeated = whole(functools.partial(take, source, stop=4, repeats=3), 2)
    assert repeated == once[:, np.arange(BATCH) % 3].tolist()


def test_a_worker_opens_the_files_of_its_parts_only(source: StreamSource) -> None:
    opened: list[str] = []

    read_records = make_reader()

    def read(path: Any, first: Any) -> Any:
        def note(name: bytes) -> bytes:
            opened.append(name.decode())
            return name

        return read_records(tf.reshape(tf.numpy_function(note, [path], tf.string), ()), first)

    watched = dataclasses.replace(source, parted=dataclasses.replace(source.parted, read=read))
    plan = plan_of(source.parted, BATCH, 5)
    # Steps 1 and 2 of worker 3 of 8: the block is of two steps, and the epoch has five.
    found = take(watched, Share(BATCH, 3, 8), 1, 3)
    np.testing.assert_array_equal(
        [labels for _, labels in found], plan.records(3, 1, 3).reshape(2, 1)
    )
    names = [pathlib.Path(each.path).name for each in source.parted.files]
    allowed = {names[file] for file, _, _ in plan.pieces(3, 0)}
    assert {pathlib.Path(path).name for path in opened} <= allowed
    assert 1 <= len(opened) < len(LENGTHS)


def test_labels_by_another_list_of_classes(source: StreamSource) -> None:
    names = tuple(map(str, range(SIZE)))
    data = ImageData("x", names, 3, source, None, None)
    other = relabelled(data, tuple(f"{i}" for i in reversed(range(SIZE)))).train
    ours, theirs = take(source, Share(BATCH), 0, 1)[0][1], take(other, Share(BATCH), 0, 1)[0][1]
    np.testing.assert_array_equal(theirs, SIZE - 1 - ours)


def test_a_file_with_fewer_records_than_stated(source: StreamSource) -> None:
    files = [*source.parted.files[:2], source.parted.files[2]._replace(length=13)]
    short = StreamSource(
        21, lambda seed: None, parted=dataclasses.replace(source.parted, files=tuple(files))
    )
    message = r"2\.tfrecord has fewer records than the 13 that are stated"
    # The stream is not searched for an unreadable image: `open` would fail.
    with pytest.raises(ValueError, match=f"^/.*{message}") as raised, naming_files(short):
        take(short, Share(BATCH))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("classes", "wrong"), [(SIZE, None), (SIZE - 1, SIZE - 1)])
def test_labels_that_are_no_class(source: StreamSource, classes: int, wrong: int | None) -> None:
    """Labels of records are seen only as they are read."""
    checked = labels_checked(source, classes)
    if wrong is None:
        ours, theirs = take(source, Share(BATCH), 0, 1), take(checked, Share(BATCH), 0, 1)
        np.testing.assert_array_equal(ours[0][1], theirs[0][1])
        return
    message = f"label of an example must be 0 to {classes - 1}. Received: .*{wrong}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        take(checked, Share(BATCH))


def test_other_files_are_other_data(source: StreamSource) -> None:
    """A run cannot resume with records that are divided among files in another way."""
    assert source.parted is not None
    moved = [
        dataclasses.replace(source.parted, files=files)
        for files in (
            tuple(each._replace(path=f"other/{each.path}") for each in source.parted.files),
            (source.parted.files[0]._replace(length=8), *source.parted.files[1:]),
        )
    ]
    assert [each.identity == source.parted.identity for each in moved] == [True, False]


def test_what_is_said_of_reading(source: StreamSource) -> None:
    plan = TrainingPlan(PreprocessSpec((4, 4)), AugmentConfig(), 3, 5, 0, 1)

    def said(stream: StreamSource, workers: int) -> list[str]:
        return reading_notes(stream, plan, Share(24, 0, workers))

    note = "training images are read from 6 files in 24 parts and shuffled among 24"
    assert said(source, 1) == [note]
    assert said(source, 2) == [f"{note}; each worker reads its own parts"]
    (uneven,) = reading_notes(source, plan, Share(100, 0, 50))
    assert "50 workers do not divide the 64 parts" in uneven
    whole_stream = dataclasses.replace(source, parted=None)
    assert said(whole_stream, 1) == []
    assert "each of 2 workers reads all 41 records" in said(whole_stream, 2)[0]


def test_offsets_of_records(tmp_path: pathlib.Path) -> None:
    """Records of 0 to 199 bytes: each has 16 bytes around it; reading may start at any."""
    path = str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for length in range(200):
            writer.write(bytes(length))
    offsets = RecordOffsets()
    assert [offsets.of(path, n) for n in (0, 2, 1, 200)] == [0, 33, 16, 200 * 199 // 2 + 3200]
    with pytest.raises(ValueError, match=r"x\.tfrecord has fewer records than the 201"):
        offsets.of(path, 201)
    read = make_reader()
    firsts = tf.data.Dataset.from_tensor_slices(tf.constant([0, 3, 150, 199], tf.int64))
    found = firsts.flat_map(lambda first: read(tf.constant(path), first).take(2))
    # Without an index, and with it.
    sizes = [len(record) for record in found.as_numpy_iterator()]
    assert sizes == [0, 1, 3, 4, 150, 151, 199]


def test_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append(pair))
    allow_open_files(200)
    allow_open_files(1000)
    assert limits == [(256, 4096), (1000, 4096)]
    with pytest.raises(ValueError, match="needs 5000 open files and may have 4096"):
        allow_open_files(5000)


def test_runs_of_earlier_versions_keep_their_order() -> None:
    today = dataclasses.asdict(DataConfig())
    assert (today["stream_order"], today["shuffle_window"]) == ("parts", 16_384)
    without = {k: v for k, v in today.items() if k not in ("stream_order", "shuffle_window")}
    assert with_earlier_data_defaults({"data": without})["data"]["stream_order"] == "window"
    assert with_earlier_data_defaults({"data": today})["data"] == today
    assert with_earlier_data_defaults({"data": {"dataset": "x"}})["data"] == {"dataset": "x"}
