"""Where records begin in TFRecord files, so that reading can start at any of them."""

from __future__ import annotations

import array
import os
import threading
from typing import Any

from .readable import FEWER_RECORDS

_HEADER, _AROUND = 8, 16  # bytes of a record's length; of length, its checksum and the data's
_FEW = 64  # records that are skipped without an index


class RecordOffsets:
    """The first byte of each record of local files, as far as it was asked for.

    A file's headers are read once, up to the record that is wanted: 8 bytes for each record.
    TensorFlow would read them anew each time that it skips records, in about 15 microseconds each.

    Source: the format of TFRecord files, tensorflow/core/lib/io/record_writer.h.

    Example:
        >>> RecordOffsets().of("train.tfrecord-00000-of-00001", 0)
        0
    """

    def __init__(self) -> None:
        self._known: dict[str, array.array[int]] = {}
        self._lock = threading.Lock()

    def of(self, path: str, record: int) -> int:
        """Returns the first byte of a record.

        Raises:
            ValueError: If the file has fewer records.
        """
        with self._lock:
            known = self._known.setdefault(path, array.array("q", [0]))
            if record >= len(known):
                _extend(known, path, record)
            return known[record]


def _extend(known: array.array[int], path: str, record: int) -> None:
    """Adds the offsets of records up to one."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while len(known) <= record:
            file.seek(known[-1])
            header = file.read(_HEADER)
            end = known[-1] + _AROUND + int.from_bytes(header, "little")
            if len(header) < _HEADER or end > size:
                raise ValueError(f"{path} {FEWER_RECORDS} the {record} that are stated")
            known.append(end)


def make_reader() -> Any:
    """Returns a function of a path and a number to the records of a TFRecord file from there on.

    It is for `flat_map`: TensorFlow 2.21 cannot write the operation into the graph of a data set,
    only into that of a function.

    Other machines' file systems (`gs://` and the like) have buffers of their own and are slow to
    read 8 bytes: there, TensorFlow skips the records.
    """
    import tensorflow as tf

    offsets = RecordOffsets()

    def offset(path: bytes, first: int) -> int:
        return offsets.of(os.fsdecode(path), int(first))

    def read(path: Any, first: Any) -> Any:
        local = tf.logical_not(tf.strings.regex_full_match(path, "[a-z0-9]+://.*"))
        indexed = tf.logical_and(local, first > _FEW)
        start = tf.cond(
            indexed,
            lambda: tf.numpy_function(offset, [path, first], tf.int64),
            lambda: tf.constant(0, tf.int64),
        )
        records = tf.raw_ops.TFRecordDatasetV2(
            filenames=path,
            compression_type="",
            buffer_size=tf.where(local, tf.constant(0, tf.int64), -1),
            byte_offsets=start,
        )
        dataset = tf.data.experimental.from_variant(records, tf.TensorSpec((), tf.string))
        return dataset.skip(tf.where(indexed, tf.constant(0, tf.int64), first))

    return read
