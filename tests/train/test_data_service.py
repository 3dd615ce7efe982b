"""Batches that a tf.data service prepares."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet_train.config import AugmentConfig
from keras_resnet_train.data import Share, TrainingPlan, service, training_batches
from keras_resnet_train.data.decoding import Decoding
from keras_resnet_train.data.service import in_order
from keras_resnet_train.data.sources import ArraySource, FileSource

pytestmark = pytest.mark.tf

AUGMENT = AugmentConfig(
    crop="resized", flip=True, policy="rand", mixup=0.2, erasing=0.5, erasing_mode="const"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    folder, paths = tmp_path_factory.mktemp("files"), []
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (12, 9, 9, 3))):
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(image.astype("uint8")).save(paths[-1])
    decoding = Decoding(oriented=False, accurate=False)
    return FileSource(tuple(paths), np.arange(12) % 4, decoding=decoding)


def batches(source: Any, start: int = 0, address: str | None = None) -> list[Any]:
    plan = TrainingPlan(PreprocessSpec((8, 8)), AUGMENT, 3, 0, start, 9, 4, address)
    return list(training_batches(source, plan, Share(8, replicas=2)).as_numpy_iterator())


def test_two_workers_give_the_batches_of_the_run(files: FileSource) -> None:
    """In their order and to the bit, from the start and resumed."""
    servers = tf.data.experimental.service
    dispatcher = servers.DispatchServer()
    address = dispatcher.target.split("://")[1]
    workers = [servers.WorkerServer(servers.WorkerConfig(address)) for _ in range(2)]
    expected = batches(files)
    assert len(expected) == 18
    for found, same in ((batches(files, 0, address), 0), (batches(files, 5, address), 10)):
        assert len(found) == len(expected[same:])
        for one, other in zip(found, expected[same:], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
    del workers


def test_local_decodes_as_this_process_does(files: FileSource) -> None:
    """Also by Pillow, and with the orientation of each image."""
    accurate = dataclasses.replace(files, decoding=Decoding())
    found, expected = batches(accurate, 6, "local"), batches(accurate, 6)
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_batches_are_put_in_order_or_missed() -> None:
    def numbered(*numbers: int) -> list[Any]:
        return [({"number": number}, number) for number in numbers]

    assert [label for _, label in in_order(numbered(3, 2, 4, 6, 5), 2, 7)] == [2, 3, 4, 5, 6]
    with pytest.raises(RuntimeError, match=r"Batch 3 did not come .* and 2 later ones did"):
        list(in_order(numbered(2, 4, 5), 2, 6))
    with pytest.raises(RuntimeError, match="gave batch 2 twice"):
        list(in_order(numbered(3, 2, 2), 2, 6))
    rest = iter(numbered(*range(1, 1000)))
    with pytest.raises(RuntimeError, match="Batch 0 did not come"):
        list(in_order(rest, 0, 1000))
    assert next(rest)[1] == service.LARGEST_GAP + 2  # does not wait for all of them


def test_what_a_service_cannot_prepare_is_refused(files: FileSource) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    memory = ArraySource(np.zeros((4, 8, 8, 3), "uint8"), np.arange(4))
    for source, address, message in (
        (memory, "local", "Received: images in memory"),
        (dataclasses.replace(files, decoding=Decoding()), nobody, "data.decoding=fast"),
        (files, "machine", "must be HOST:PORT of a dispatcher, or 'local'. Received: 'machine'"),
        (files, nobody, "no dispatcher answers at 127.0.0.1"),
    ):
        with pytest.raises(ValueError, match=message):
            batches(source, 0, address)
