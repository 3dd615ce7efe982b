"""Records of a stream for one worker, as the plan of parts has them (`stream_parts.py`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .batches import Share, TrainingPlan
from .image_data import ImageData
from .on_host import on_host
from .order import ORDER
from .readable import FEWER_RECORDS
from .sources import RecordFiles, Source, StreamSource
from .stream_parts import StreamParts, pieces_between
from .walk import counted

_OTHER_FILES = 512  # that a process has open: libraries, devices, connections
_MOST_READERS = 16
_ENDLESS = 2**62


def plan_of(files: RecordFiles, batch: int, seed: int) -> StreamParts:
    """Returns the plan of a stream.

    Args:
        files: The stream's files.
        batch: Different images in a global batch.
        seed: The run's seed.
    """
    return StreamParts([each.length for each in files.files], batch, seed, files.window)


def parted_records(files: RecordFiles, plan: TrainingPlan, share: Share) -> Any:
    """Yields (encoded image, label) of this worker's rows of the batches, from the first step on.

    Reads only the parts that have these rows. A run that resumes goes to the files of its step by
    their numbers of records; it then reads what it needs to shuffle, at most the window.

    Raises:
        ValueError: If the process may not open as many files as there are parts.
    """
    import tensorflow as tf

    per_worker = share.batch // share.workers
    different = plan.different(share.batch)
    parts = plan_of(files, different, plan.seed)
    own = (share.worker * per_worker + np.arange(per_worker)) % different
    numbers, places = parts.of_rows(own)
    allow_open_files(len(numbers) + _OTHER_FILES)
    read = _piece_reader(files)
    records = (
        tf.data.Dataset.from_tensor_slices(_starts(parts, numbers, plan.start_step))
        .interleave(
            lambda start: _part(parts, start, plan.total_steps - plan.start_step, read),
            cycle_length=len(numbers),
            block_length=1,
            num_parallel_calls=min(len(numbers), _MOST_READERS),
            deterministic=True,
        )
        .unbatch()
    )
    rows = int(parts.shares[numbers].sum())
    if rows != per_worker or (places != np.arange(rows)).any():
        records = records.batch(rows).map(lambda batch: tf.gather(batch, places)).unbatch()
    return records.map(files.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def records_between(files: RecordFiles, begin: int, end: int) -> Any:
    """Yields (encoded image, label) of a range of the records as they are stored.

    It reads no others.

    Args:
        files: The stream's files.
        begin: The first record.
        end: The record after the last one.
    """
    import tensorflow as tf

    ends = np.cumsum([each.length for each in files.files])
    pieces = tf.data.Dataset.from_tensor_slices(pieces_between(ends, begin, end))
    return pieces.flat_map(_piece_reader(files)).map(
        files.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def windowed_records(source: StreamSource, plan: TrainingPlan, share: Share) -> Any:
    """Yields (encoded image, label) of this worker's rows, out of all records, which it reads.

    The order of earlier versions: a window moves over the records as they are stored.
    """
    import tensorflow as tf

    size, per_worker = len(source), share.batch // share.workers
    different = plan.different(share.batch)
    start, end = plan.start_step * different, plan.total_steps * different
    first = start // size

    @tf.autograph.experimental.do_not_convert  # which warns that TFDS's method cannot be
    def epoch(number: Any) -> Any:
        # Sets the seed of this function's graph only. `shuffle` combines it with its own seed, so
        # that the process's seed would change the order; with 0, TensorFlow fails on a symbolic
        # comparison.
        tf.random.set_seed(1)
        key = tf.random.experimental.stateless_fold_in([plan.seed, ORDER], number)
        # Draws with the whole key: half of the key is the same in each epoch.
        return source.open(tf.random.stateless_uniform((), key, None, None, tf.int64))

    records = (
        tf.data.Dataset.range(first, -(-end // size))
        .flat_map(epoch)
        .skip(start - first * size)  # records are still encoded: this costs reading only
        .take(end - start)
    )
    if different < share.batch:
        own = share.worker * per_worker
        numbers = tf.range(own, own + per_worker) % different
        records = records.batch(different).map(
            lambda *parts: tuple(tf.gather(part, numbers) for part in parts)
        )
        return records.unbatch()
    if share.workers > 1:
        records = records.batch(per_worker).shard(share.workers, share.worker).unbatch()
    return records


def reading_notes(source: Source, plan: TrainingPlan, share: Share) -> list[str]:
    """Returns what is said of how training reads a stream; nothing of other sources.

    Args:
        source: The training images.
        plan: The parameters of the batches.
        share: The batch and this process's part of it.
    """
    if not isinstance(source, StreamSource):
        return []
    if source.parted is None:
        if share.workers == 1:
            return []
        return [
            f"each of {share.workers} workers reads all {source.size:,} records and keeps its own, "
            "as earlier versions did and as is needed for files that are not TFRecord"
        ]
    different = plan.different(share.batch)
    parts = plan_of(source.parted, different, plan.seed)
    note = (
        f"training images are read from {counted(len(source.parted.files), 'file')} in "
        f"{parts.parts} parts and shuffled among {parts.block * different:,}"
    )
    if parts.parts % share.workers:
        return [
            f"{note}; {share.workers} workers do not divide the {parts.parts} parts, so that some "
            "records are read by two of them"
        ]
    return [note if share.workers == 1 else f"{note}; each worker reads its own parts"]


def evaluation_notes(data: ImageData, workers: int) -> list[str]:
    """Returns what is said of evaluation splits that workers cannot read in shares."""
    return [
        f"of the {split} images each of {workers} workers reads its share and those before it, as "
        "they are not in TFRecord files"
        for split, source in data.parts()
        if workers > 1 and split != "train"
        if isinstance(source, StreamSource) and source.parted is None
    ]


def allow_open_files(count: int) -> None:
    """Lets this process have a number of files open at once.

    Raises:
        ValueError: If the system does not allow it.
    """
    try:
        import resource
    except ImportError:  # on Windows, where a process may open many more
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise ValueError(
            f"The data is read from many files at once: the process needs {count} open files "
            f"and may have {hard}. Raise the limit (`ulimit -Hn`), or begin a new run with "
            "`--set data.stream_order=window`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _starts(parts: StreamParts, numbers: np.ndarray, step: int) -> dict[str, np.ndarray]:
    """Returns where reading begins in each part: at the first step of the block of a step."""
    blocks = [parts.block_of(part, step) for part in numbers]
    firsts = [parts.first_step(part, block) for part, block in zip(numbers, blocks, strict=True)]
    places = [parts.start(part, max(first, 0)) for part, first in zip(numbers, firsts, strict=True)]
    shares = parts.shares[numbers]
    found = {
        "part": numbers,
        "share": shares,
        "block": blocks,
        "passed": step - np.asarray(firsts),
        "before": np.maximum(-np.asarray(firsts), 0) * shares,
        "epoch": [epoch for epoch, _ in places],
        "skip": [skip for _, skip in places],
    }
    return {name: np.asarray(values, "int64") for name, values in found.items()}


def _part(parts: StreamParts, start: dict[str, Any], steps: int, read: Callable[[Any], Any]) -> Any:
    """Yields the records of a part's rows, `(share,)`, for each step."""
    import tensorflow as tf

    part, share = start["part"], start["share"]

    def pieces(epoch: Any) -> Any:
        skip = tf.where(epoch == start["epoch"], start["skip"], 0)
        found = tf.numpy_function(_whole_numbers(parts.pieces), [part, epoch, skip], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(found, (None, 3)))

    def shuffled(number: Any, records: Any) -> Any:
        order = tf.numpy_function(_whole_numbers(parts.order), [part, number], tf.int64)
        return tf.reshape(tf.gather(records, order), (parts.block, share))

    records = tf.data.Dataset.range(start["epoch"], _ENDLESS).flat_map(pieces).flat_map(read)
    # The first block of a part may begin before the first step: nothing is read for that.
    nothing = tf.data.Dataset.from_tensors("").repeat(start["before"])
    blocks = nothing.concatenate(records).batch(parts.block * share, drop_remainder=True)
    numbered = tf.data.Dataset.zip(tf.data.Dataset.range(start["block"], _ENDLESS), blocks)
    return numbered.map(shuffled).unbatch().skip(start["passed"]).take(steps)


def _piece_reader(files: RecordFiles) -> Callable[[Any], Any]:
    """Returns a function of a piece, `(3,)` as `pieces_between` has it, to its records."""
    import tensorflow as tf

    paths = on_host([each.path for each in files.files])
    firsts = on_host(np.asarray([each.first for each in files.files], "int64"))

    def read(piece: Any) -> Any:
        path, first, count = paths[piece[0]], firsts[piece[0]] + piece[1], piece[2]
        ended = tf.data.Dataset.from_tensors((path, first + count)).map(_fewer)
        return files.read(path, first).concatenate(ended).take(count)

    return read


def _fewer(path: Any, count: Any) -> Any:
    """Fails, in a graph, because a file ends before its last record."""
    import tensorflow as tf

    def fail(name: bytes, expected: int) -> bytes:
        raise ValueError(f"{os.fsdecode(name)} {FEWER_RECORDS} the {expected} that are stated")

    return tf.ensure_shape(tf.numpy_function(fail, [path, count], tf.string), ())


def _whole_numbers(function: Any) -> Any:
    """Returns a function for `tf.numpy_function`, which passes arrays for whole numbers."""
    return lambda *values: np.asarray(function(*map(int, values)), "int64")
