"""Evaluation on several workers: each reads its share, and the metrics are those of one."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import types
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet_train.data import ImageData, Share, evaluation_batches, evaluation_notes
from keras_resnet_train.data.record_offsets import make_reader
from keras_resnet_train.data.sources import (
    ArraySource,
    Contained,
    FileSource,
    RecordFiles,
    Records,
    RecordSource,
    Source,
    StreamSource,
    read_in_graph,
)
from keras_resnet_train.evaluation.classify import Evaluation, Evaluator

pytestmark = pytest.mark.tf

LENGTHS = (7, 1, 12, 4, 9, 8)
SIZE, CLASSES = sum(LENGTHS), 5
PREPROCESS = PreprocessSpec((4, 4), (0.0,) * 3, (1.0,) * 3)
LABELS = np.random.default_rng(2).integers(0, CLASSES, SIZE)
PIXELS = np.random.default_rng(1).integers(0, 256, (SIZE, 4, 4, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(buffer, "PNG")
    return buffer.getvalue()


class Counted(Contained):
    """Counts the images that are read, whose paths are their numbers."""

    def __init__(self, read: list[int]) -> None:
        self._read = read

    def read(self, path: str) -> bytes:
        self._read.append(int(path))
        return png(int(path))


def make_sources(folder: pathlib.Path, read: list[int]) -> dict[str, Source]:
    """Sources of the same images; each adds the numbers of the images that it reads to `read`."""
    files, number = [], 0
    for index, length in enumerate(LENGTHS):
        path = str(folder / f"{index}.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(length):
                writer.write(bytes([number]) + png(number))
                number += 1
        files.append(Records(path, 0, length))

    def contents(numbers: Sequence[int]) -> list[bytes]:
        read.extend(int(each) for each in numbers)
        return [png(int(each)) for each in numbers]

    def parse(record: Any) -> tuple[Any, Any]:
        number = tf.cast(tf.io.decode_raw(tf.strings.substr(record, 0, 1), tf.uint8), tf.int64)
        return read_in_graph(contents, number)[0], tf.gather(LABELS, number[0])

    def read_records(numbers: Any) -> tuple[Any, Any]:
        wanted = SIZE - 1 - numbers  # the records are stored the other way round
        return read_in_graph(contents, wanted), tf.gather(LABELS, wanted)

    return {
        "array": ArraySource(PIXELS, LABELS),
        "container": FileSource(tuple(map(str, range(SIZE))), LABELS, container=Counted(read)),
        "records": RecordSource(SIZE, read_records, numbers=np.arange(SIZE)[::-1]),
        "stream": StreamSource(
            SIZE, lambda seed: None, parted=RecordFiles(tuple(files), make_reader(), parse)
        ),
    }


class Workers:
    """A strategy of several workers with replicas, all in this process."""

    def __init__(self, workers: int, replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers, self.num_replicas_in_sync = workers, workers * replicas
        self._replica = 0
        monkeypatch.setattr(tf.distribute, "get_replica_context", self._context)

    def _context(self) -> Any:
        return types.SimpleNamespace(replica_id_in_sync_group=self._replica)

    def distribute_datasets_from_function(self, make: Callable[[Any], Any]) -> Any:
        self.each = [
            make(types.SimpleNamespace(input_pipeline_id=index, num_input_pipelines=self.workers))
            for index in range(self.workers)
        ]
        replicas = self.num_replicas_in_sync // self.workers
        # One element per step: what all replicas of all workers get, and no more.
        steps = [each.batch(replicas, drop_remainder=True) for each in self.each]
        return tf.data.Dataset.zip(tuple(steps))

    def run(self, function: Callable[[Any], Any], args: tuple[Any]) -> list[Any]:
        found = []
        for worker in args[0]:
            for index in range(self.num_replicas_in_sync // self.workers):
                self._replica = len(found)
                found.append(function(tuple(part[index] for part in worker)))
        return found

    def reduce(self, how: str, values: list[Any], axis: None) -> Any:
        return tf.add_n(values)


@pytest.fixture(scope="module")
def read() -> list[int]:
    return []


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, read: list[int]) -> dict[str, Source]:
    return make_sources(tmp_path_factory.mktemp("records"), read)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A linear model whose logits are exact: its weights and pixels are small whole numbers."""
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    kernel = np.random.default_rng(3).integers(-8, 9, (48, CLASSES)) / 512
    model.set_weights([kernel, np.zeros(CLASSES)])
    return model


@pytest.mark.parametrize(
    ("kind", "workers", "replicas"), [("container", 2, 2), ("records", 3, 1), ("stream", 3, 1)]
)
def test_a_worker_reads_its_share_alone(
    kind: str, workers: int, replicas: int, sources: dict[str, Source], read: list[int]
) -> None:
    """Every image is read by one worker, once; all make equal steps."""
    batch = 2 * workers * replicas
    everything: list[int] = []
    for worker in range(workers):
        read.clear()
        images, labels, weights = examples_of(
            sources[kind], Share(batch, worker, workers, replicas), -(-SIZE // batch) * replicas
        )
        assert len(read) in {SIZE // workers, -(-SIZE // workers)}
        everything += read
        assert weights.tolist() == [1.0] * len(read) + [0.0] * (len(weights) - len(read))
        np.testing.assert_array_equal(images[: len(read)], PIXELS[sorted(read)])
        np.testing.assert_array_equal(labels[: len(read)], LABELS[sorted(read)])
    assert sorted(everything) == list(range(SIZE))


def test_a_worker_without_examples(sources: dict[str, Source], read: list[int]) -> None:
    """It reads nothing, and makes as many steps as the others."""
    read.clear()
    images, _, weights = examples_of(sources["stream"], Share(100, 0, 50), steps=1)
    assert read == []
    assert not weights.any()
    assert not images.any()


def examples_of(source: Source, share: Share, steps: int) -> list[np.ndarray]:
    """The images, labels and weights of a worker, in `steps` batches of two."""
    batches = evaluation_batches(source, PREPROCESS, 3, share)
    found = list(batches.as_numpy_iterator())
    assert [images.shape for images, _, _ in found] == [(2, 4, 4, 3)] * steps
    return [np.concatenate(part) for part in zip(*found, strict=True)]


def values_of(found: Evaluation) -> dict[str, Any]:
    return dataclasses.asdict(dataclasses.replace(found, counts=None)) | found.counts.to_dict()


def test_metrics_are_those_of_one_worker(
    sources: dict[str, Source], model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, also where the workers' shares are not equal."""
    logits = PIXELS.reshape(SIZE, 48).astype("float64") @ model.get_weights()[0]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(SIZE), LABELS]
    expected = values_of(Evaluator(model, sources["array"], PREPROCESS, batch_size=2)())
    assert expected["examples"] == SIZE
    assert expected["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    assert expected["accuracy"] == (logits.argmax(axis=1) == LABELS).mean()
    for kind, workers, replicas in (
        ("array", 3, 2),
        ("stream", 2, 1),
    ):
        together: Any = Workers(workers, replicas, monkeypatch)
        evaluator = Evaluator(model, sources[kind], PREPROCESS, strategy=together, batch_size=2)
        assert values_of(evaluator()) == expected, (kind, workers)


def test_several_labels_on_several_workers(
    model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (np.arange(CLASSES) == LABELS[:, None]) | (np.arange(CLASSES) == 0)
    source = ArraySource(PIXELS, rows.astype("uint8"))
    one = Evaluator(model, source, PREPROCESS, batch_size=2)()
    together: Any = Workers(3, 2, monkeypatch)
    found = Evaluator(model, source, PREPROCESS, strategy=together, batch_size=2)()
    np.testing.assert_array_equal(found.labels, rows)
    np.testing.assert_array_equal(found.labels, one.labels)
    # The vectors in which TensorFlow computes a sigmoid differ by rounding from single values.
    np.testing.assert_allclose(found.scores, one.scores, rtol=1e-6)
    assert found.loss == pytest.approx(one.loss, rel=1e-6)


def test_streams_of_other_files(sources: dict[str, Source]) -> None:
    """Without known files a worker reads from the beginning to the end of its share; it is said."""
    source = sources["stream"]
    whole = dataclasses.replace(
        source,
        parted=None,
        open=lambda seed: tf.data.Dataset.from_tensor_slices(
            ([png(number) for number in range(SIZE)], LABELS)
        ),
    )
    batches = evaluation_batches(whole, PREPROCESS, 3, Share(4, 1, 2)).as_numpy_iterator()
    found = np.concatenate([images[weights > 0] for images, _, weights in batches])
    np.testing.assert_array_equal(found, PIXELS[SIZE // 2 :])
    data = ImageData("x", ("a",), 3, whole, source, whole)
    assert evaluation_notes(data, 1) == []
    (note,) = evaluation_notes(data, 2)
    assert note.startswith("of the test images each of 2 workers reads its share and those before")


def test_numbers_of_a_subset_are_no_part_of_the_graph() -> None:
    """Those of 100,000 records would be 0.8 MB, in each function of each pipeline."""
    subset = RecordSource(200_000, lambda numbers: (tf.as_string(numbers), numbers))
    subset = subset.take(np.arange(0, 200_000, 2))
    numbers = tf.TensorSpec((16,), tf.int64)
    graph = tf.function(subset.gather).get_concrete_function(numbers).graph
    assert len(graph.as_graph_def().SerializeToString()) < 10_000
    assert [label for _, label in subset.open().take(3).as_numpy_iterator()] == [0, 2, 4]
