"""The plan of streams in parts: order, coverage, and what each worker reads. No TensorFlow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from keras_resnet_train.data.stream_parts import StreamParts

LENGTHS = tuple(int(n) for n in np.random.default_rng(0).integers(20, 60, 300))
SIZE = sum(LENGTHS)
STARTS = np.cumsum((0, *LENGTHS[:-1]))


def records(plan: StreamParts, part: int, count: int, step: int = 0) -> np.ndarray:
    found, left = [], count
    for piece in plan.pieces(part, step):
        first = STARTS[piece.file] + piece.first
        found.append(np.arange(first, first + min(left, piece.count)))
        left -= len(found[-1])
        if not left:
            break
    return np.concatenate(found)


@pytest.mark.parametrize(("parts", "batch"), [(64, 256), (512, 1024)])
def test_workers_read_the_same_batches(parts: int, batch: int) -> None:
    plan, steps = StreamParts(LENGTHS, batch, seed=3, parts=parts), 3 * SIZE // batch
    share = batch // parts
    rows = [records(plan, part, steps * share).reshape(steps, share) for part in range(parts)]
    batches = np.concatenate(rows, axis=1)
    assert batches.shape == (steps, batch)
    # Every record once in each epoch, also where an epoch ends within a batch.
    flat = batches.ravel()
    for epoch in range(2):
        seen = np.bincount(flat[epoch * SIZE : (epoch + 1) * SIZE], minlength=SIZE)
        assert seen.tolist() == [1] * SIZE
    # Any number of workers: rows of its own parts, one part of the reading.
    for workers in (1, 8, 64, 512):
        if parts % workers:
            with pytest.raises(ValueError, match=r"must divide the 64 parts .*workers=512"):
                plan.parts_of(0, workers)
            continue
        own = [plan.parts_of(worker, workers) for worker in range(workers)]
        assert [*itertools.chain(*own)] == [*range(parts)]
        read = [sum(rows[part].size for part in each) for each in own]
        assert set(read) == {steps * batch // workers}


def test_resuming_skips_whole_files() -> None:
    plan = StreamParts(LENGTHS, 256, seed=3)
    for part in (0, 17, 63):
        whole = records(plan, part, 400)
        for step in (1, 46, 47, 48, 90):  # an epoch has 47.5 steps
            rest = records(plan, part, 400 - 4 * step, step)
            np.testing.assert_array_equal(rest, whole[4 * step :])
    first = next(plan.pieces(5, 20))
    assert first.count <= LENGTHS[first.file]
    assert list(map(tuple, itertools.islice(plan.pieces(5, 0), 2))) != [tuple(first)]


def test_epochs_and_seeds_have_other_orders() -> None:
    def start(seed: int, step: int = 0) -> list[int]:
        plan = StreamParts(LENGTHS, 256, seed=seed)
        return records(plan, 0, 100, step).tolist()

    assert start(0) == start(0) != start(1)
    assert start(0) != start(0, 47)
    with pytest.raises(ValueError, match=r"must divide `batch` \(250\). Received: parts=64"):
        StreamParts(LENGTHS, 250, seed=0)
