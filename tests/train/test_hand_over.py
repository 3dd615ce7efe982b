"""What the host hands over, and what the device makes of it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet_train import batch_norm_statistics
from keras_resnet_train.config import AugmentConfig
from keras_resnet_train.config.data import with_earlier_data_defaults
from keras_resnet_train.data import (
    ImageData,
    Share,
    TrainingPlan,
    make_finish,
    pixel_batches,
    training_batches,
)
from keras_resnet_train.data.batches import fetch
from keras_resnet_train.data.sources import ArraySource, FileSource
from keras_resnet_train.evaluation.classify import Evaluator

pytestmark = pytest.mark.tf

SPEC = PreprocessSpec((2, 2), mean=(100.0,), std=(50.0,))


def test_the_device_finishes_pixels() -> None:
    """Normalised, padding and erased pixels at the mean colour, shifted, mixed: in this order."""
    values = np.full((2, 2, 2, 3), 150, "uint8")  # 1 when normalised
    values[1] = 50  # -1
    images = tf.constant(values)
    finish = make_finish(SPEC, AugmentConfig())
    assert finish({"images": images}).numpy()[:, 0, 0, 0].tolist() == [1.0, -1.0]
    pixels: dict[str, Any] = {
        "images": images,
        "rows": np.array([[False, True], [True, True]]),
        "columns": np.ones((2, 2), bool),
        "erased_rows": np.array([[False, False], [True, False]]),
        "erased_columns": np.array([[False, False], [False, True]]),
    }
    found = finish(pixels).numpy()[..., 0]
    assert found.tolist() == [[[0.0, 0.0], [1.0, 1.0]], [[-1.0, 0.0], [-1.0, -1.0]]]
    pixels["shifts"] = np.array([[0.5, 0, 0], [0, 0, 0]], "float32")
    pixels["kept"] = np.array([[0.25, 1.0], [0.0, 0.5]], "float32")
    found = finish(pixels).numpy()
    assert found[0, ..., 0].tolist() == [[0.25 * 0.5 - 0.75, 0.5], [-1.0, 0.25]]
    assert found[0, ..., 1].tolist() == [[-0.75, 0.0], [-1.0, 0.0]]


@pytest.mark.parametrize(
    ("fields", "dtype", "parts"),
    [
        ({}, "uint8", []),
        ({"crop": "pad", "pad": 1, "flip": True}, "uint8", ["columns", "rows"]),
        ({"crop": "resized"}, "uint8", []),
        ({"crop": "scale", "policy": "rand", "pca_noise": 0.1}, "uint8", ["shifts"]),
        (
            {"erasing": 0.5, "erasing_mode": "const", "mixup": 0.2},
            "uint8",
            ["erased_columns", "erased_rows", "kept"],
        ),
        ({"crop": "resized", "pixels": "float32"}, "float32", []),
        ({"erasing": 0.5}, "float32", []),
        ({"crop": "pad", "pad": 1, "start_size": 4, "cutmix": 1.0}, "float32", ["kept"]),
    ],
    ids=str,
)
def test_bytes_are_handed_over(fields: dict[str, Any], dtype: str, parts: list[str]) -> None:
    """But for noise, sizes that grow, and crops that are not rounded."""
    images = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)
    preprocess = PreprocessSpec((8, 8), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    plan = TrainingPlan(preprocess, AugmentConfig(**fields), 3, 0, 0, 1, classes=4)
    data = pixel_batches(ArraySource(images, np.arange(4)), plan, Share(4))
    pixels, _ = data.element_spec
    assert sorted(pixels.keys() - {"images"}) == parts
    assert pixels["images"].dtype.name == dtype


def test_random_crops_are_rounded_as_pillow_rounds() -> None:
    """Runs of earlier versions keep their crops as they were."""
    images = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)
    found = {}
    for pixels in ("uint8", "float32"):
        augment = AugmentConfig(crop="resized", pixels=pixels)  # type: ignore[arg-type]
        plan = TrainingPlan(PreprocessSpec((8, 8)), augment, 3, 0, 0, 1)
        ((parts, _),) = pixel_batches(ArraySource(images, np.arange(4)), plan, Share(4))
        found[pixels] = parts["images"].numpy()
    assert (found["float32"] % 1 != 0).any()
    np.testing.assert_array_equal(np.round(found["float32"]), found["uint8"])
    stored = {"crop": "resized", "pad": 4, "min_area": 0.08, "shorter_side": [1, 2], "flip": True}
    earlier = with_earlier_data_defaults({"augment": stored})
    assert earlier["augment"] == {**stored, "pixels": "float32"}
    for today in ({**stored, "pixels": "uint8"}, {**stored, "crop": "pad"}, {"crop": "resized"}):
        assert with_earlier_data_defaults({"augment": today}) == {"augment": today}


def test_arrays_are_not_copied_into_the_graph(tmp_path: pathlib.Path) -> None:
    """A graph with the images of a data set in it would have gigabytes."""
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    plan = TrainingPlan(PreprocessSpec((32, 32)), AugmentConfig(), 3, 0, 0, 2)
    data = pixel_batches(ArraySource(images, np.arange(64)), plan, Share(8))
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=data._variant_tensor)
    assert len(graph.numpy()) < images.nbytes / 4
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    several = FileSource((str(tmp_path / "a.png"),), np.array([[1, 0]], "uint8"))
    _, label, _ = fetch(several)(tf.constant(0, tf.int64), {})
    assert (label.dtype, label.numpy().tolist()) == (tf.float32, [1.0, 0.0])


def test_statistics_are_measured_on_the_same_values(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are handed over and normalized outside of `tf.data`; each image at most once."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    data = ImageData("x", ("a",), 3, ArraySource(images, np.zeros(20, "int64")), None, None)
    config = tiny(batch_size=8, augment__pad=2, augment__flip=True, augment__erasing=0.5)
    preprocess = PreprocessSpec((8, 8), (100.0,) * 3, (50.0,) * 3)
    handed_over = []

    def watched(*args: Any) -> Any:
        handed_over.append(pixel_batches(*args))
        return handed_over[0]

    monkeypatch.setattr(batch_norm_statistics, "pixel_batches", watched)
    found = list(batch_norm_statistics.statistics_batches(config, data, preprocess, 11))
    assert handed_over[0].element_spec[0]["images"].dtype == tf.uint8
    plain = dataclasses.replace(config.augment, erasing=0.0)
    plan = TrainingPlan(preprocess, plain, 3, config.seed, 0, 2)
    expected = [batch for batch, _ in training_batches(data.train, plan, Share(8))]
    assert [len(each) for each in found] == [8, 3]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected)[:11])


def test_an_evaluation_batch_is_of_each_replica() -> None:
    class Four:
        """Stands for a strategy."""

        num_replicas_in_sync = 4

        def distribute_datasets_from_function(self, batches: Any) -> None:
            """Distributes nothing."""

    model = tf.keras.Sequential([tf.keras.Input((2, 2, 3)), tf.keras.layers.Flatten()])
    for images, batch in ((5000, 1024), (1022, 1024), (6, 8)):
        source = ArraySource(np.zeros((images, 2, 2, 3), "uint8"), np.zeros(images, "int64"))
        assert Evaluator(model, source, SPEC, strategy=Four())._batch == batch
