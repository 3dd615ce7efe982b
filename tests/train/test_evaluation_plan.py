"""The plan of an evaluation on any number of workers: coverage, and what each reads."""

from __future__ import annotations

import numpy as np
import pytest

from keras_resnet_train.data.evaluation_plan import EvaluationPlan
from keras_resnet_train.data.stream_parts import pieces_between

LENGTHS = np.random.default_rng(0).integers(0, 60, 400)  # records of each file
SIZE = int(LENGTHS.sum())


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 64, 512])
def test_every_record_is_read_once(workers: int) -> None:
    """Each worker reads 1/N of the records, and its share of the bytes; all make equal steps."""
    sizes = np.random.default_rng(1).integers(10_000, 200_000, SIZE)  # bytes of each record
    first = np.cumsum(LENGTHS) - LENGTHS
    ends = np.cumsum(LENGTHS)
    plan = EvaluationPlan(SIZE, workers * min(256, -(-SIZE // workers)), workers)
    read = []
    for worker in range(workers):
        begin, end = plan.range_of(worker)
        pieces = pieces_between(ends, begin, end)
        assert (pieces[:, 2] > 0).all()
        assert (pieces[:, 1] + pieces[:, 2] <= LENGTHS[pieces[:, 0]]).all()
        read.append(
            np.concatenate([first[file] + start + np.arange(n) for file, start, n in pieces])
        )
        assert len(read[-1]) == end - begin <= plan.rows
    np.testing.assert_array_equal(np.concatenate(read), np.arange(SIZE))
    assert {len(each) for each in read} <= {SIZE // workers, SIZE // workers + 1}
    shares = np.array([sizes[each].sum() for each in read]) / sizes.sum() * workers
    # 23 records of a worker, of 512, have a standard deviation of 11 % of their bytes.
    assert (
        abs(shares - 1).max() < {1: 1e-9, 2: 0.02, 3: 0.02, 8: 0.06, 64: 0.15, 512: 0.45}[workers]
    )
    places = plan.places()
    assert len(np.unique(places)) == SIZE
    assert places.max() < plan.steps * plan.batch
    # A worker's rows are those of its share of each global batch, in the order of its examples.
    per_worker = plan.batch // workers
    for worker, numbers in enumerate(read):
        assert (places[numbers] % plan.batch // per_worker == worker).all()
        assert (np.diff(places[numbers]) > 0).all()


def test_literal_plans() -> None:
    """Ranges that do not divide, workers without an example, and one worker."""
    plan = EvaluationPlan(7, 4, 2)
    assert [plan.range_of(worker) for worker in range(2)] == [(0, 3), (3, 7)]
    assert (plan.steps, plan.rows) == (2, 4)
    assert plan.places().tolist() == [0, 1, 4, 2, 3, 6, 7]
    few = EvaluationPlan(3, 8, 8)
    ranges = [few.range_of(worker) for worker in range(8)]
    assert [end - begin for begin, end in ranges] == [0, 0, 1, 0, 0, 1, 0, 1]
    assert (few.steps, few.rows, few.places().tolist()) == (1, 1, [2, 5, 7])
    one = EvaluationPlan(10, 4)
    assert (one.steps, one.range_of(0), one.places().tolist()) == (3, (0, 10), list(range(10)))
    ends = np.array([10, 10, 25])
    assert pieces_between(ends, 0, 25).tolist() == [[0, 0, 10], [2, 0, 15]]
    assert pieces_between(ends, 7, 11).tolist() == [[0, 7, 3], [2, 0, 1]]
    assert pieces_between(ends, 12, 12).tolist() == pieces_between(ends, 25, 25).tolist() == []
