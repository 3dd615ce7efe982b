"""Order and content of batches, on any number of workers and replicas."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet_train.config import AugmentConfig, RunConfig
from keras_resnet_train.data import (
    ArraySource,
    ImageData,
    Share,
    Source,
    TrainingPlan,
    augmented_examples,
    evaluation_batches,
    grid,
    raw_images,
    training_batches,
)
from keras_resnet_train.data.evaluation_plan import EvaluationPlan
from keras_resnet_train.data.sources import FileSource, StreamSource
from keras_resnet_train.data.tracing import without_autograph

pytestmark = pytest.mark.tf

SIZE, BATCH = 30, 8  # 3.75 batches an epoch
PREPROCESS = PreprocessSpec((8, 8), (127.0, 100.0, 90.0), (60.0, 50.0, 40.0))
PLAIN = AugmentConfig()
PAD = AugmentConfig(crop="pad", pad=2, flip=True)
RESIZED = AugmentConfig(crop="resized", flip=True)
SCALE = AugmentConfig(crop="scale", flip=True)
EVERYTHING: dict[str, Any] = {
    "flip": True,
    "color_jitter": 0.3,
    "pca_noise": 0.1,
    "erasing": 0.5,
    "mixup": 0.2,
    "cutmix": 1.0,
    "repeats": 3,
    "start_size": 4,
    "size_multiple": 2,
}
Batches = list[tuple[np.ndarray, np.ndarray]]


def arrays(side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Images that are all different; the label is the example's number."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (SIZE, side, side, 3), dtype=np.uint8)
    return images, np.arange(SIZE, dtype=np.int64)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    images, labels = arrays()
    larger, _ = arrays(11)
    folder = tmp_path_factory.mktemp("images")
    paths, encoded = [], []
    for index, image in enumerate(larger):
        path = folder / f"{index}.png"
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
        paths.append(str(path))
        encoded.append(buffer.getvalue())

    def open_stream(seed: Any) -> tf.data.Dataset:
        records = tf.data.Dataset.from_tensor_slices((encoded, labels))
        if seed is None:
            return records
        return records.shuffle(SIZE, seed=seed, reshuffle_each_iteration=False)

    return {
        "array": ArraySource(images, labels),
        "larger array": ArraySource(larger, labels),
        "files": FileSource(tuple(paths), labels),
        "stream": StreamSource(SIZE, open_stream),
    }


def take(
    source: Source,
    share: Share,
    augment: AugmentConfig = PLAIN,
    *,
    seed: int = 0,
    start: int = 0,
    steps: int = 8,
) -> Batches:
    plan = TrainingPlan(PREPROCESS, augment, 3, seed, start, steps, classes=SIZE)
    return list(training_batches(source, plan, share).as_numpy_iterator())


def whole(make: Callable[[Share], Batches], workers: int, replicas: int) -> Batches:
    """What all replicas of all workers got, put together step by step."""
    parts = [make(Share(BATCH, worker, workers, replicas)) for worker in range(workers)]
    assert len({len(part) for part in parts}) == 1
    steps = range(0, len(parts[0]), replicas)
    together = [[b for part in parts for b in part[step : step + replicas]] for step in steps]
    return [tuple(map(np.concatenate, zip(*batch, strict=True))) for batch in together]


def assert_equal(one: Batches, other: Batches) -> None:
    assert len(one) == len(other)
    for batch, same in zip(one, other, strict=True):
        for values, expected in zip(batch, same, strict=True):
            np.testing.assert_array_equal(values, expected)


def labels_of(batches: Batches) -> np.ndarray:
    return np.concatenate([batch[1] for batch in batches])


KINDS = ["array", "larger array", "files", "stream"]
# Files and larger images come in the order of arrays.
ORDERS = ["array", "stream"]
CASES = [
    ("array", PAD),
    ("array", RESIZED),
    ("larger array", PAD),
    ("files", SCALE),
    ("stream", PAD),
]


@pytest.mark.parametrize(("kind", "augment"), CASES, ids=lambda x: getattr(x, "crop", x))
def test_batches_are_a_function_of_the_step(
    kind: str, augment: AugmentConfig, sources: dict[str, Source]
) -> None:
    """Shares put together, and runs begun at a step, equal the one device's batches exactly."""
    source = sources[kind]
    alone = take(source, Share(BATCH), augment)
    assert len(alone) == 8
    assert alone[0][0].shape == (BATCH, 8, 8, 3)
    assert alone[0][0].dtype == np.float32
    assert alone[0][1].dtype == np.int64
    assert_equal(whole(lambda s: take(source, s, augment, start=3), 2, 2), alone[3:])


def test_workers_of_one_replica(sources: dict[str, Source]) -> None:
    alone = take(sources["files"], Share(BATCH), PAD)
    assert_equal(whole(lambda s: take(sources["files"], s, PAD), 2, 1), alone)


@pytest.mark.parametrize(
    ("kind", "fields", "several"),
    [
        ("array", {"crop": "pad", "pad": 2, "policy": "rand"}, (1, 4)),
        (
            "array",
            {"crop": "pad", "pad": 2, "policy": "none", "color_jitter": 0, "erasing": 0},
            (2, 2),
        ),
        # A policy of three operations: tracing all of them takes most of the time.
        ("files", {"crop": "resized", "policy": "three"}, (1, 2)),
        ("stream", {"crop": "scale", "policy": "three"}, (2, 2)),
    ],
    ids=str,
)
def test_everything_at_once_is_a_function_of_the_step(
    kind: str, fields: dict[str, Any], several: tuple[int, int], sources: dict[str, Source]
) -> None:
    """Also with every augmentation on, shares and runs begun at a step are the same to the bit."""
    source, augment = sources[kind], AugmentConfig(**{**EVERYTHING, **fields})
    alone = take(source, Share(BATCH), augment)
    assert [batch[0].shape[1] for batch in alone] == [4, 4, 6, 6, 6, 8, 8, 8]
    assert alone[0][0].shape == (BATCH, 4, 4, 3)
    assert [part.dtype for part in alone[0]] == [np.float32, np.float32]
    assert alone[0][1].shape == (BATCH, SIZE)
    np.testing.assert_allclose(alone[0][1].sum(axis=1), 1, atol=1e-6)
    assert_equal(whole(lambda s: take(source, s, augment, start=3), *several), alone[3:])


@pytest.mark.parametrize("kind", ["array", "stream"])
def test_repeats(kind: str, sources: dict[str, Source]) -> None:
    """A batch of 8 has 3 images, thrice (the last twice); copies differ and are no neighbours."""
    augment = AugmentConfig(crop="pad", pad=2, flip=True, repeats=3)
    batches = take(sources[kind], Share(BATCH), augment, steps=20)
    seen = []
    for _, labels in batches:
        assert labels.tolist() == [labels[row % 3] for row in range(BATCH)]
        assert (labels[::2] != labels[1::2]).all()
        seen.extend(labels[:3])
    # 20 steps are two passes over the 30 images, where without repeats they would be five.
    passes = np.sort(np.reshape(seen, (2, SIZE)), axis=1)
    np.testing.assert_array_equal(passes, np.tile(np.arange(SIZE), (2, 1)))
    copies = np.concatenate([images[[0, 3, 6]] for images, _ in batches]).reshape(20, 3, -1)
    assert np.mean([len({copy.tobytes() for copy in each}) for each in copies]) > 2.8


def test_balanced_sampling_shows_each_class_equally_often(sources: dict[str, Source]) -> None:
    """3 classes of 3, 7 and 20 images: each batch of 6 has 2 of each; passes of each class."""
    labels = np.repeat([0, 2, 4], [3, 7, 20])
    order = np.random.default_rng(0).permutation(SIZE)
    source = sources["files"]
    assert isinstance(source, FileSource)
    labelled = dataclasses.replace(source, labels=labels[order], balanced=True)
    batches = take(labelled, Share(6), steps=70)
    for _, found in batches:
        assert sorted(found) == [0, 0, 2, 2, 4, 4]
    assert len({tuple(found) for _, found in batches}) > 30
    images: dict[int, list[bytes]] = {label: [] for label in (0, 2, 4)}
    for batch, found in batches:
        for image, label in zip(batch, found, strict=True):
            images[label].append(image.tobytes())
    for label, size in ((0, 3), (2, 7), (4, 20)):
        for first in range(0, 140 // size * size, size):
            assert len(set(images[label][first : first + size])) == size
    assert_equal(whole(lambda s: take(labelled, s), 2, 2), take(labelled, Share(BATCH)))
    assert_equal(take(labelled, Share(6), start=40, steps=70), batches[40:])


def test_what_is_switched_on_leaves_the_rest_as_it_is(sources: dict[str, Source]) -> None:
    """Each kind of augmentation draws by itself: erasing changes erased pixels and no others."""
    plain = take(sources["files"], Share(BATCH), RESIZED, steps=2)
    erased = take(
        sources["files"],
        Share(BATCH),
        AugmentConfig(crop="resized", flip=True, erasing=1.0, erasing_mode="const"),
        steps=2,
    )
    for (images, labels), (others, same) in zip(plain, erased, strict=True):
        np.testing.assert_array_equal(labels, same)
        changed = (images != others).any(axis=-1)
        assert (others[changed] == 0).all()
        assert 0.02 < changed.mean() < 0.4


def test_several_labels_stay_as_they_are() -> None:
    images, _ = arrays()
    several = np.random.default_rng(0).integers(0, 2, (SIZE, 4)).astype("uint8")
    source = ArraySource(images, several)
    for augment in (PAD, RESIZED):
        ((_, labels),) = take(source, Share(BATCH), augment, steps=1)
        assert (labels.shape, labels.dtype) == ((BATCH, 4), np.float32)
        assert {tuple(row) for row in labels} <= {tuple(row) for row in several.astype("float32")}


def test_an_augmentation_that_does_not_fit_is_refused(sources: dict[str, Source]) -> None:
    with pytest.raises(ValueError, match="must be even. Received: 1 images per replica"):
        take(sources["array"], Share(BATCH, replicas=8), AugmentConfig(mixup=0.2))


@pytest.mark.parametrize("count", [5, 16])
def test_augmented_examples(count: int, sources: dict[str, Source]) -> None:
    """The first images of the run, with normalisation undone."""
    data = ImageData("x", tuple(map(str, range(SIZE))), 3, sources["array"], None, None)
    config = RunConfig(epochs=1, batch_size=12)
    images, labels = augmented_examples(config, data, PREPROCESS, count)
    assert (images.shape, images.dtype) == ((count, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(images, arrays()[0][labels])
    expected = labels_of(take(sources["array"], Share(12), steps=2))
    np.testing.assert_array_equal(labels[: min(count, 4)], expected[: min(count, 4)])
    mixed = dataclasses.replace(config, augment=AugmentConfig(mixup=1.0, policy="three"))
    images, labels = augmented_examples(mixed, data, PREPROCESS, count)
    assert labels.shape == (count, SIZE)
    picture = grid(images[:3], columns=2, space=1)
    assert picture.shape == (17, 17, 3)
    np.testing.assert_array_equal(picture[9:, :8], images[2])
    assert (picture[9:, 8:] == 255).all()


def test_starting_at_every_step(sources: dict[str, Source]) -> None:
    for kind, part in (("array", Share(BATCH, 1, 2, 2)), ("stream", Share(BATCH, 1, 2, 1))):
        alone = take(sources[kind], part, PAD)
        for start in (1, 3, 4, 7):  # within an epoch, across its end, behind it, the last step
            found = take(sources[kind], part, PAD, start=start)
            assert_equal(found, alone[start * part.replicas :])


def test_a_streams_order_follows_the_seed_it_is_given_alone(sources: dict[str, Source]) -> None:
    """Not the process's, which is 0 by default: TensorFlow fails on that one."""
    found = []
    for process_seed in (0, 1):
        tf.random.set_seed(process_seed)
        found.append(take(sources["stream"], Share(BATCH), PAD, steps=4))
    assert_equal(*found)


@pytest.mark.parametrize("kind", ORDERS)
def test_every_epoch_has_every_example_once(kind: str, sources: dict[str, Source]) -> None:
    seen = labels_of(take(sources[kind], Share(BATCH), steps=15))  # 4 epochs of 30
    epochs = seen.reshape(4, SIZE)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(SIZE), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert not any((epoch == np.arange(SIZE)).all() for epoch in epochs)


@pytest.mark.parametrize("kind", KINDS)
def test_images_belong_to_their_labels(kind: str, sources: dict[str, Source]) -> None:
    stored, _ = raw_images(sources[kind], PREPROCESS, 3)
    for images, labels in take(sources[kind], Share(BATCH), steps=4):
        np.testing.assert_array_equal(images, PREPROCESS.normalize(stored[labels]))


@pytest.mark.parametrize("kind", ORDERS)
def test_seeds(kind: str, sources: dict[str, Source]) -> None:
    first, again, other = (
        take(sources[kind], Share(BATCH), PAD, seed=seed, steps=4) for seed in (3, 3, 4)
    )
    assert_equal(first, again)
    assert not (labels_of(first) == labels_of(other)).all()


def test_augmentation_follows_the_seed_and_the_step(sources: dict[str, Source]) -> None:
    """The same example is varied differently from epoch to epoch, and from seed to seed."""
    source = ArraySource(np.repeat(arrays()[0][:1], 8, axis=0), np.zeros(8, np.int64))
    one, other = (take(source, Share(BATCH), PAD, seed=seed, steps=3) for seed in (0, 1))
    seen = {image.tobytes() for images, _ in [*one, *other] for image in images}
    assert len(seen) > 30  # of 48; 25 places and 2 sides are possible


def test_order_does_not_depend_on_the_batch_size_or_the_source(sources: dict[str, Source]) -> None:
    """Position p of the run is the same example whatever the batch."""
    expected = labels_of(take(sources["array"], Share(BATCH), steps=6))
    np.testing.assert_array_equal(labels_of(take(sources["array"], Share(6), steps=8)), expected)
    np.testing.assert_array_equal(
        labels_of(take(sources["files"], Share(BATCH), steps=6)), expected
    )


def test_a_batch_larger_than_the_data(sources: dict[str, Source]) -> None:
    for kind in ORDERS:
        ((_, labels),) = take(sources[kind], Share(64), steps=1)
        assert sorted(labels[:SIZE]) == sorted(labels[SIZE : 2 * SIZE]) == list(range(SIZE))


# Evaluation.


@pytest.mark.parametrize(
    ("kind", "workers", "replicas"),
    [
        ("array", 1, 1),
        ("array", 2, 2),
        ("larger array", 1, 2),
        ("files", 2, 2),
        ("stream", 2, 1),
    ],
)
def test_evaluation_has_every_example_once(
    kind: str, workers: int, replicas: int, sources: dict[str, Source]
) -> None:
    source = sources[kind]
    found = whole(
        lambda s: list(evaluation_batches(source, PREPROCESS, 3, s).as_numpy_iterator()),
        workers,
        replicas,
    )
    assert len(found) == 4  # 30 examples in batches of 8: two rows to spare
    places = EvaluationPlan(SIZE, BATCH, workers).places()
    images, labels, weights = map(np.concatenate, zip(*found, strict=True))
    assert weights.sum() == weights[places].sum() == SIZE
    np.testing.assert_array_equal(labels[places], np.arange(SIZE))
    stored, _ = raw_images(source, PREPROCESS, 3)
    np.testing.assert_array_equal(images[places], PREPROCESS.normalize(stored))


@pytest.mark.parametrize("kind", ["array", "stream"])
def test_evaluation_in_batches_that_divide_the_data(kind: str, sources: dict[str, Source]) -> None:
    data = evaluation_batches(sources[kind], PREPROCESS, 3, Share(10))
    found = list(data.as_numpy_iterator())
    assert [weights.sum() for _, _, weights in found] == [10, 10, 10]


@pytest.mark.parametrize("kind", KINDS)
def test_raw_images(kind: str, sources: dict[str, Source]) -> None:
    images, labels = raw_images(sources[kind], PREPROCESS, 3)
    assert (images.shape, images.dtype) == ((SIZE, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(labels, np.arange(SIZE))
    if kind == "array":
        np.testing.assert_array_equal(images, arrays()[0])
    some, labels = raw_images(sources[kind], PREPROCESS, 3, limit=7)
    assert len(some) == len(labels) == 7
    np.testing.assert_array_equal(some, images[labels])
    if kind != "stream":  # which is read from its beginning
        assert (labels[0], labels[-1]) == (0, SIZE - 1)
    everything, _ = raw_images(sources[kind], PREPROCESS, 3, limit=1000)
    assert len(everything) == SIZE


def test_the_order_is_as_good_as_random() -> None:
    """Epochs put no more pairs of examples into one batch again than chance does."""
    size, batch = 20_000, 100
    source = ArraySource(np.zeros((size, 1, 1, 1), "uint8"), np.arange(size))
    plan = TrainingPlan(PreprocessSpec((1, 1)), AugmentConfig(), 1, 0, 0, 3 * size // batch)
    batches = training_batches(source, plan, Share(batch)).as_numpy_iterator()
    order = np.concatenate([labels for _, labels in batches]).reshape(3, size)
    places = np.argsort(order, axis=1) // batch  # the batch that each example fell into
    expected = size * (batch - 1) / 2 * (batch - 1) / (size - 1)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        _, together = np.unique(places[one] * size + places[other], return_counts=True)
        pairs = (together * (together - 1) // 2).sum()
        assert pairs == pytest.approx(expected, rel=0.06)  # the standard deviation is 1.4 %


def test_data_sets_are_traced_as_they_are_written() -> None:
    """AutoGraph, which would translate the branch, has no part in it."""

    @without_autograph
    def branching() -> tf.data.Dataset:
        return tf.data.Dataset.range(3).map(lambda number: 1 if number > 0 else 0)

    with pytest.raises(TypeError, match="symbolic `tf.Tensor` as a Python `bool`"):
        branching()
