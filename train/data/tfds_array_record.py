"""Data sets that TFDS has prepared with `file_format=array_record`: read at any example.

TFDS reads them by `tfds.data_source` alone, not by `tf.data`.
"""

from __future__ import annotations

import os
from typing import Any

from .array_record_files import ArrayRecordFiles, Part
from .decoding import STANDARD, Decoding
from .sources import RecordSource, read_in_graph


def is_by_number(builder: Any) -> bool:
    """Whether TFDS has written a data set in the format ArrayRecord."""
    import tensorflow_datasets as tfds

    return bool(builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD)


def records_of(builder: Any, split: str) -> ArrayRecordFiles:
    """Returns the records of a split, or of a part of it such as `train[:100]`.

    Raises:
        ValueError: If the library array_record is not installed.
    """
    instructions = builder.info.splits[split].file_instructions
    parts = [Part(os.fspath(each.filename), each.skip, each.take) for each in instructions]
    return ArrayRecordFiles(parts, f"The data set {builder.info.full_name} of TFDS (array_record)")


def record_source(builder: Any, split: str, decoding: Decoding = STANDARD) -> RecordSource:
    """Returns the images of a split, which are read by their numbers.

    Raises:
        ValueError: If the library array_record is not installed.
    """
    import tensorflow as tf

    records = records_of(builder, split)
    features = {
        "image": tf.io.FixedLenFeature((), tf.string),
        "label": tf.io.FixedLenFeature((), tf.int64),
    }

    def read(numbers: Any) -> tuple[Any, Any]:
        found = read_in_graph(lambda wanted: records.read(wanted.tolist()), numbers)
        parsed = tf.io.parse_example(found, features)
        return parsed["image"], parsed["label"]

    return RecordSource(len(records), read, decoding)
