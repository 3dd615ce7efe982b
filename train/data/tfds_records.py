"""The record files of a prepared TFDS data set, to be read in parts."""

from __future__ import annotations

import os
from typing import Any

from .listing import examples
from .record_offsets import make_reader
from .sources import RecordFiles, Records
from .walk import counted


def record_files(builder: Any, split: str, window: int) -> RecordFiles | None:
    """Returns the files of a split.

    Args:
        builder: TFDS's builder of a data set that is prepared.
        split: A split, or a range of one, such as `train[:1000]`.
        window: Number of records that are shuffled together.

    Returns:
        The files; None where they are not TFRecord files, of which TFDS alone reads others.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    import tensorflow_datasets as tfds

    if builder.info.file_format.value != "tfrecord":
        return None
    files = tuple(
        Records(os.fspath(each.filename), each.skip, each.take)
        for each in builder.info.splits[split].file_instructions
    )
    _check_present(files)
    features = builder.info.features

    def parse(record: Any) -> tuple[Any, Any]:
        found = features.deserialize_example(record, decoders={"image": tfds.decode.SkipDecoding()})
        return found["image"], found["label"]

    return RecordFiles(files, make_reader(), parse, window)


def _check_present(files: tuple[Records, ...]) -> None:
    import tensorflow as tf

    folders = {os.path.dirname(each.path) for each in files}
    present = {
        os.path.join(folder, name) for folder in folders for name in tf.io.gfile.listdir(folder)
    }
    missing = [os.path.basename(each.path) for each in files if each.path not in present]
    if missing:
        raise FileNotFoundError(
            f"{counted(len(missing), 'record file')} of {len(files)} not in "
            f"{', '.join(sorted(folders))}: {examples(missing)}"
        )
