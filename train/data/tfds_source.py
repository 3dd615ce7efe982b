"""Data sets of TensorFlow Datasets (TFDS) with an image and a label."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import nearest

from ..config import DataConfig
from .images import decode
from .sources import (
    IN_MEMORY,
    ArraySource,
    ImageData,
    Source,
    StreamSource,
    check_labels,
    hold_out,
)


def load_tfds(config: DataConfig) -> ImageData:
    """Opens a TFDS data set, and downloads and prepares it if necessary.

    The test images are the `test` split, or the `validation` split if there is no `test` or its
    labels are withheld (as in `imagenet2012`). Validation images are held out from `train`. A data
    set without a `train` split can only be evaluated.

    Raises:
        ValueError: If the data set is unknown, has no image and label, has no known split, or
            cannot be downloaded.
    """
    builder = _builder(config)
    image, label = _features(builder, config.dataset)
    names = tuple(label.names)
    channels = image.shape[-1] or 3
    splits = builder.info.splits

    def source(split: str, *, cached: bool) -> Source:
        if cached:
            return _decoded(builder, split, image.shape, names)
        return _stream(builder, split)

    fixed = all(image.shape)
    size = sum(split.num_examples for split in splits.values()) * math.prod(
        side or 0 for side in image.shape
    )
    if config.cache == "memory" and not fixed:
        raise ValueError(
            f"`cache` can be 'memory' only for images of one size; those of {config.dataset!r} vary"
        )
    cached = fixed and (config.cache == "memory" or (config.cache == "auto" and size < IN_MEMORY))
    test_name = next(
        (n for n in ("test", "validation") if n in splits and _labelled(builder, n)), None
    )
    test = source(test_name, cached=cached) if test_name else None
    if "train" not in splits:
        if test is None:
            raise ValueError(
                f"Data set {config.dataset!r} has neither a train, a validation nor a test split. "
                f"It has: {', '.join(splits)}"
            )
        empty = ArraySource(np.zeros((0, 1, 1, channels), "uint8"), np.zeros(0, "int64"))
        return ImageData(config.dataset, names, channels, empty, None, test)
    examples = splits["train"].num_examples
    train, validation = _train_parts(source, examples, cached=cached, config=config)
    return ImageData(config.dataset, names, channels, train, validation, test)


def _labelled(builder: Any, split: str) -> bool:
    """Whether a split has labels. Competitions withhold those of test images, as -1."""
    if not builder.info.splits[split].num_examples:
        return False
    first = _encoded(builder, split).take(16).as_numpy_iterator()
    return all(label >= 0 for _, label in first)


def _train_parts(
    source: Any, examples: int, *, cached: bool, config: DataConfig
) -> tuple[Source, Source | None]:
    if not config.validation:
        return source("train", cached=cached), None
    if not cached:  # a stream is cut in two: TFDS has written it in random order
        rest, _ = hold_out(examples, config.validation)
        cut = len(rest)
        return source(f"train[:{cut}]", cached=False), source(f"train[{cut}:]", cached=False)
    whole = source("train", cached=True)
    rest, held = hold_out(len(whole), config.validation)
    return whole.take(rest), whole.take(held)


def _builder(config: DataConfig) -> Any:
    import tensorflow_datasets as tfds

    if not hasattr(tfds, "builder"):  # TFDS logs the error of its import and goes on
        raise ValueError(
            "TensorFlow Datasets could not be imported, most often because tensorflow-metadata "
            "needs a newer protobuf than TensorFlow: `pip install 'tensorflow-metadata<1.18'`. "
            "`import tensorflow_datasets` shows the cause"
        )
    # TFDS would answer a malformed name with the syntax of its names.
    if not re.match(r"[A-Za-z_]\w*([:/]\S+)?$", config.dataset):
        raise _unknown(config)
    try:
        builder = tfds.builder(config.dataset, data_dir=config.data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        raise _unknown(config) from None
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except Exception as error:  # whatever the download and the builder raise
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise ValueError(
                f"TFDS could not download and prepare {config.dataset!r}: {reason}. "
                "Point --data-dir at a prepared directory, or try again with a network"
            ) from error
    return builder


def _unknown(config: DataConfig) -> ValueError:
    import tensorflow_datasets as tfds

    return ValueError(
        f"Unknown data set {config.dataset!r}: neither digits, synthetic, an existing folder, "
        f"nor a TFDS data set{f' in {config.data_dir}' if config.data_dir else ''}. "
        f"{nearest(config.dataset, [*tfds.list_builders(), 'digits', 'synthetic'])}"
    )


def _features(builder: Any, name: str) -> tuple[Any, Any]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = set(features) if hasattr(features, "keys") else set()
    if not {"image", "label"} <= keys or not isinstance(
        features["label"], tfds.features.ClassLabel
    ):
        raise ValueError(
            f"Data set {name!r} needs the features 'image' and 'label' (a class). "
            f"It has: {', '.join(sorted(keys)) or type(features).__name__}"
        )
    return features["image"], features["label"]


def _encoded(builder: Any, split: str) -> Any:
    """Returns a `tf.data.Dataset` of (encoded image, label) in the stored order."""
    import tensorflow_datasets as tfds

    records = builder.as_dataset(
        split=split,
        shuffle_files=False,
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    return records.map(lambda record: (record["image"], record["label"]))


def _stream(builder: Any, split: str) -> StreamSource:
    import tensorflow as tf

    size = builder.info.splits[split].num_examples

    def open_stream(seed: Any) -> Any:
        records = _encoded(builder, split)
        if seed is None:
            return records
        # A window of a sixteenth of an epoch, at most 16,384 encoded images, is enough: TFDS
        # shuffles the examples when it writes them.
        window = max(1, min(16_384, size // 16 if size > 1024 else size))
        return records.shuffle(window, seed=tf.cast(seed, tf.int64), reshuffle_each_iteration=False)

    return StreamSource(size, open_stream)


def _decoded(
    builder: Any, split: str, shape: tuple[int, int, int], names: tuple[str, ...]
) -> ArraySource:
    import tensorflow as tf

    count = builder.info.splits[split].num_examples
    images = np.empty((count, *shape), "uint8")
    labels = np.empty(count, "int64")
    records = _encoded(builder, split).map(
        lambda image, label: (tf.ensure_shape(decode(image, shape[-1]), shape), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    done = 0
    for batch, batch_labels in records.batch(512).prefetch(2).as_numpy_iterator():
        part = slice(done, done + len(batch))
        images[part], labels[part] = batch, batch_labels
        done += len(batch)
    check_labels(labels, names, f"{builder.info.name} {split}")
    return ArraySource(images, labels)
