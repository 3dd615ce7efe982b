"""How record files are read by several workers: order, coverage, bytes, and records per second."""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet_train.config import AugmentConfig
from keras_resnet_train.data.batches import Share, TrainingPlan
from keras_resnet_train.data.record_offsets import make_reader
from keras_resnet_train.data.sources import RecordFiles, Records, StreamSource
from keras_resnet_train.data.stream_parts import StreamParts
from keras_resnet_train.data.streams import parted_records, windowed_records

RECORD_BYTES = 110_000  # the mean of ImageNet's training images
WINDOW = 16_384
_BATCHES = (256, 1024, 4096)
_ROUNDS = 3
_KINDS = ("stored order", "parts")


def run(output: Path, workers: Sequence[int], files: int, records: int) -> int:
    """Simulates the plan on 1.28 million examples, then reads record files; writes CSV tables.

    Args:
        output: Directory of the tables.
        workers: Numbers of workers that read files, one of them at a time.
        files: Number of record files that are written and read.
        records: Number of records in each.
    """
    output.mkdir(parents=True, exist_ok=True)
    _write(output / "meetings.csv", meetings((1250,) * 1024, _BATCHES, WINDOW))
    _write(output / "workers.csv", shares((1250,) * 1024, 1024, (1, 8, 64, 512)))
    with tempfile.TemporaryDirectory() as folder:
        source = _written(Path(folder), files, records)
        _write(output / "resuming.csv", resuming(source))
        _write(output / "reading.csv", reading(source, workers))
    return 0


def meetings(lengths: Sequence[int], batches: Sequence[int], window: int) -> Iterator[dict]:
    """Yields how often pairs of examples that shared a batch share one in the next epoch too.

    The unit is the number of such pairs that a shuffle of all examples would give.
    """
    size = sum(lengths)
    for batch in batches:
        before = [_window_order(size, window, seed) for seed in (0, 1)]
        plan = StreamParts(lengths, batch, 0, window)
        steps = -(-2 * size // batch)
        order = np.concatenate([plan.records(part, 0, steps) for part in range(plan.parts)], axis=1)
        after = order.ravel()[: 2 * size].reshape(2, size)
        for epoch in after:
            assert (np.bincount(epoch, minlength=size) == 1).all()
        yield {
            "examples": size,
            "files": len(lengths),
            "batch": batch,
            "window": window,
            "parts": plan.parts,
            "stored_order": round(_meetings(before, batch), 3),
            "parts_order": round(_meetings([*after], batch), 3),
        }


def _window_order(size: int, window: int, seed: int) -> np.ndarray:
    """Returns the order of a window that moves over the stored order, as tf.data shuffles."""
    picks = np.random.default_rng(seed).integers(0, window, size - window).tolist()
    held, order = list(range(window)), []
    for entering, pick in enumerate(picks, window):
        order.append(held[pick])
        held[pick] = entering
    rest = np.random.default_rng([seed, 1]).permutation(held)
    return np.concatenate([order, rest])


def _meetings(epochs: Sequence[np.ndarray], batch: int) -> float:
    size = len(epochs[0])
    of_example = np.empty((2, size), "int64")
    for numbers, order in zip(of_example, epochs, strict=True):
        numbers[order] = np.arange(size) // batch
    keys = of_example[0] * (of_example[1].max() + 1) + of_example[1]
    counts = np.unique(keys, return_counts=True)[1].astype("float64")
    chance = size * (batch - 1) / 2 * (batch - 1) / (size - 1)
    return float((counts * (counts - 1) / 2).sum() / chance)


def shares(lengths: Sequence[int], batch: int, workers: Sequence[int]) -> Iterator[dict]:
    """Yields what each of several workers reads in an epoch; checks that the batches are equal."""
    plan, size = StreamParts(lengths, batch, 0), sum(lengths)
    steps = size // batch
    rows = [plan.records(part, 0, 3) for part in range(plan.parts)]
    expected = np.concatenate(rows, axis=1)
    for count in workers:
        opened, read, passed, found = [], [], [], []
        for own in np.arange(batch).reshape(count, -1):
            parts, places = plan.of_rows(own)
            found.append(np.concatenate([rows[part] for part in parts], axis=1)[:, places])
            pieces = np.concatenate([plan.pieces(part, 0) for part in parts])
            opened.append(len(pieces))
            read.append(int(plan.shares[parts].sum()) * steps)
            passed.append(int(pieces[:, 1].sum()))
        assert (np.concatenate(found, axis=1) == expected).all()
        yield {
            "workers": count,
            "records_read_each": max(read),
            "of_all": round(max(read) / (steps * batch), 5),
            "gigabytes_each": round(max(read) * RECORD_BYTES / 1e9, 2),
            "gigabytes_each_before": round(steps * batch * RECORD_BYTES / 1e9, 2),
            "files_opened_each": max(opened),
            "lengths_of_skipped_records_each": max(passed),
        }


def resuming(source: StreamSource) -> Iterator[dict]:
    """Yields what one worker reads before its first batch, where it resumes in an epoch."""
    epoch = len(source) // 256
    for step in (0, epoch // 4, epoch * 3 // 4):
        for kind in _KINDS:
            measured = [_read(source, kind, Share(256), step, 1) for _ in range(_ROUNDS)]
            _, processor, megabytes = map(statistics.median, zip(*measured, strict=True))
            yield {
                "step": step,
                "of_epoch": epoch,
                "order": kind,
                "records_read_before_the_first_batch": round(1e6 * megabytes / RECORD_BYTES),
                "processor_seconds": round(processor, 2),
            }


def reading(source: StreamSource, workers: Sequence[int]) -> Iterator[dict]:
    """Yields the speed of one worker of several, that reads from the page cache, without decoding.

    Both orders read in turns. The first epoch, in which windows are filled, does not count.
    """
    epoch = len(source) // 256
    for count in workers:
        kinds: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in _KINDS}
        for _ in range(_ROUNDS):
            for kind, measured in kinds.items():
                share = Share(256, 0, count)
                measured.append(_read(source, kind, share, 0, 2 * epoch, passed=epoch))
        for kind, measured in kinds.items():
            seconds, processor, megabytes = map(statistics.median, zip(*measured, strict=True))
            useful = 2 * epoch * 256 / count
            yield {
                "workers": count,
                "order": kind,
                "useful_records_per_second": round(useful / seconds),
                "processor_ms_per_useful_record": round(1000 * processor / useful, 3),
                "megabytes_read_per_useful_record": round(megabytes / useful, 3),
            }


def _written(folder: Path, files: int, records: int) -> StreamSource:
    import tensorflow as tf

    content = np.random.default_rng(0).bytes(RECORD_BYTES)
    for number in range(files):
        with tf.io.TFRecordWriter(str(folder / f"{number:05d}.tfrecord")) as writer:
            for _ in range(records):
                writer.write(content)
    paths = sorted(map(str, folder.iterdir()))
    size = files * records

    def parse(record: Any) -> tuple[Any, Any]:
        return record, tf.constant(0, tf.int64)

    def open_stream(seed: Any) -> Any:  # as TFDS reads: 8 MiB of each file at a time
        found = tf.data.TFRecordDataset(paths, buffer_size=2**23).map(parse)
        return found.shuffle(size // 16, seed=seed, reshuffle_each_iteration=False)

    files_of = tuple(Records(path, 0, records) for path in paths)
    # The window that a sixteenth of the records is, as the stored order has it.
    return StreamSource(
        size, open_stream, parted=RecordFiles(files_of, make_reader(), parse, size // 16)
    )


def _read(
    source: StreamSource, kind: str, share: Share, start: int, steps: int, passed: int = 0
) -> tuple[float, float, float]:
    """Returns seconds, seconds of processor time and megabytes of some steps.

    Args:
        source: The stream.
        kind: The order.
        share: The worker.
        start: The step that reading begins at.
        steps: The steps that count.
        passed: Steps before them that do not.
    """
    plan = TrainingPlan(
        PreprocessSpec((8, 8)), AugmentConfig(), 3, 0, start, start + passed + steps
    )
    begun = time.monotonic(), time.process_time(), _bytes_read()
    if kind == "parts":
        assert source.parted is not None
        records = parted_records(source.parted, plan, share)
    else:
        records = windowed_records(source, plan, share)
    batches = iter(records.batch(share.batch // share.workers))
    for _ in range(passed):
        next(batches)
    if passed:
        begun = time.monotonic(), time.process_time(), _bytes_read()
    for _ in range(steps):
        next(batches)
    seconds, processor = time.monotonic() - begun[0], time.process_time() - begun[1]
    return seconds, processor, (_bytes_read() - begun[2]) / 1e6


def _bytes_read() -> int:
    """Returns the bytes that this process has read, from the page cache too; 0 where unknown."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["rchar"])


def _write(path: Path, rows: Iterator[dict]) -> None:
    writer = None
    with path.open("w", newline="", encoding="utf-8") as file:
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            print(path.stem, *(f"{name}={value}" for name, value in row.items()), flush=True)
