"""The plan of streams in parts: order, coverage, and what each worker reads. No TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

from keras_resnet_train.data.stream_parts import StreamParts, number_of_parts

LENGTHS = tuple(int(n) for n in np.random.default_rng(0).integers(0, 60, 400))
SIZE = sum(LENGTHS)


def batches(plan: StreamParts, start: int, stop: int) -> np.ndarray:
    rows = [plan.records(part, start, stop) for part in range(plan.parts)]
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize(
    ("lengths", "batch", "window"),
    [(LENGTHS, 256, 2000), (LENGTHS, 1000, 16_384), ((5000,), 96, 700), ((3, 2), 8, 16)],
    ids=["many files", "uneven shares", "one file", "fewer records than rows"],
)
def test_every_record_once_an_epoch(lengths: tuple[int, ...], batch: int, window: int) -> None:
    """Also where an epoch ends within a batch; and from any step on the same batches."""
    plan, size = StreamParts(lengths, batch, seed=3, window=window), sum(lengths)
    steps = 3 * size // batch + 2
    found = batches(plan, 0, steps)
    assert found.shape == (steps, batch)
    epochs = found.ravel()[: steps * batch // size * size].reshape(-1, size)
    assert len(epochs) >= 3
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))
    assert any((one != epochs[0]).any() for one in epochs[1:])
    for start in {1, plan.block, size // batch, size // batch + 1, steps - 1} & set(range(steps)):
        np.testing.assert_array_equal(batches(plan, start, steps), found[start:])


@pytest.mark.parametrize("batch", [512, 1024])
def test_workers_read_their_share(batch: int) -> None:
    """1, 8, 64 and 512 workers: together all rows; each reads 1/N of the records and files' bytes.

    The parts are those of 512 whatever the number of workers, so that the batches are the same.
    """
    plan = StreamParts(LENGTHS, batch, seed=0, window=1024, parts=512)
    steps = SIZE // batch
    read = np.array([plan.records(part, 0, steps).size for part in range(512)])
    for workers in (1, 8, 64, 512):
        rows = np.arange(batch).reshape(workers, -1)
        shares = [plan.of_rows(each) for each in rows]
        parts = np.concatenate([parts for parts, _ in shares])
        np.testing.assert_array_equal(parts, np.arange(512))
        assert all((places == np.arange(batch // workers)).all() for _, places in shares)
        assert {int(read[parts].sum()) for parts, _ in shares} == {steps * batch // workers}
    # Any other number of workers reads at most one part more than its own at each end.
    for workers in (3, 5, 7):
        for each in np.array_split(np.arange(batch), workers):
            parts, places = plan.of_rows(each)
            rows_of_parts = np.concatenate(
                [np.arange(batch).reshape(512, -1)[part] for part in parts]
            )
            np.testing.assert_array_equal(rows_of_parts[places], each)
            assert len(rows_of_parts) <= len(each) + 2 * batch // 512


def test_resuming_skips_whole_files() -> None:
    """Literal pieces: two files of 10 records, two parts with rows of 1 image each."""
    plan = StreamParts((10, 10), 2, seed=1, window=4)
    assert (plan.parts, plan.block, plan.size) == (2, 2, 20)
    whole = plan.pieces(0, epoch=0)
    records = [(file, first + n) for file, first, count in whole for n in range(count)]
    other = [(f, first + n) for f, first, count in plan.pieces(1, 0) for n in range(count)]
    assert len(set(records + other)) == 20
    for skip in range(11):
        rest = plan.pieces(0, 0, skip)
        assert [(f, a + n) for f, a, count in rest for n in range(count)] == records[skip:]
    long = StreamParts(LENGTHS, 256, seed=3, window=2000)
    for part, step in ((0, 1), (17, 46), (63, 90)):
        epoch, skip = long.start(part, step)
        before = sum(len(long.records(part, 0, step)) for _ in range(1)) * long.shares[part]
        passed = sum(long.pieces(part, each)[:, 2].sum() for each in range(epoch))
        assert passed + skip == before
        assert len(long.pieces(part, epoch, skip)) <= len(long.pieces(part, epoch))


def test_pairs_of_a_batch_meet_again_as_often_as_by_chance() -> None:
    """100 files of 200 records in the order of their files, window 1,000."""
    for batch, parts in ((50, None), (200, 200), (800, 200)):
        plan = StreamParts((200,) * 100, batch, seed=0, window=1000, parts=parts)
        steps = plan.size // batch
        numbers = [np.argsort(batches(plan, e * steps, (e + 1) * steps).ravel()) for e in (0, 1)]
        one, other = (each // batch for each in numbers)
        _, counts = np.unique(one * steps + other, return_counts=True)
        meetings = (counts * (counts - 1) / 2).sum()
        chance = steps * batch * (batch - 1) / 2 * (batch - 1) / (plan.size - 1)
        assert meetings / chance < 1.15


def test_seeds_and_wrong_arguments() -> None:
    first = [batches(StreamParts(LENGTHS, 64, seed=seed), 0, 1).tolist() for seed in (0, 0, 1, -1)]
    assert first[0] == first[1] != first[2] != first[3]
    assert number_of_parts(1_281_167, 1024, 16_384) == 512
    assert number_of_parts(1_281_167, 256, 16_384) == 256
    assert number_of_parts(50_000, 256, 16_384) == 64
    with pytest.raises(ValueError, match=r"must be 1 to `batch` \(8\), .* Received: parts=9"):
        StreamParts((10,), 8, 0, parts=9)
    with pytest.raises(ValueError, match="needs a file with records. Received: none"):
        StreamParts((0, 0), 8, 0)
