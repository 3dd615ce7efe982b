"""Data sets of TensorFlow Datasets (TFDS) with an image and a label."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import nearest

from ..config import DataConfig
from .decoding import Decoding, decode
from .image_data import SPLITS, ImageData, Split, check_labels, hold_out, no_images
from .memory import fits, notes
from .reading import reason
from .sources import ArraySource, Source, StreamSource
from .stream_labels import labels_checked
from .tfds_array_record import is_by_number, record_source
from .tfds_directory import check_tfds_directory
from .tfds_records import record_files


def load_tfds(config: DataConfig, asked: Sequence[Split] = SPLITS) -> ImageData:
    """Opens a TFDS data set, and downloads and prepares it if necessary.

    The test images are the `test` split, or the `validation` split if there is no `test` or its
    labels are withheld (as in `imagenet2012`). Validation images are held out from `train`. A data
    set without a `train` split can only be evaluated.

    Args:
        config: The data's configuration.
        asked: The splits to open; others are not read.

    Raises:
        ValueError: If the data set is unknown, has no image and label, has no known split, or
            cannot be downloaded.
    """
    import tensorflow as tf

    try:
        return _load(config, asked)
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise ValueError(
            f"A record of {config.dataset!r} is damaged: {reason(error)}. Prepare the data set "
            "again"
        ) from error


def _load(config: DataConfig, asked: Sequence[Split]) -> ImageData:
    builder = open_builder(config)
    image, label = image_and_label(builder, config.dataset)
    names = tuple(label.names)
    channels = image.shape[-1] or 3
    splits = builder.info.splits
    fixed = all(image.shape)
    size = sum(split.num_examples for split in splits.values()) * math.prod(
        side or 0 for side in image.shape
    )
    if config.cache == "memory" and not fixed:
        raise ValueError(
            f"`cache` can be 'memory' only for images of one size; those of {config.dataset!r} vary"
        )
    opened = _Opened(
        builder,
        names,
        image.shape,
        cached=fixed and fits(size, config.cache),
        # Images of one size were encoded by TFDS itself, without an orientation.
        decoding=dataclasses.replace(
            Decoding.of(config), oriented=config.orientation == "exif" and not fixed
        ),
        order=config.stream_order,
        window=config.shuffle_window,
    )
    test_name = test_split(builder)
    if "train" not in splits and test_name is None:
        raise ValueError(
            f"Data set {config.dataset!r} has neither a train, a validation nor a test split. "
            f"It has: {', '.join(splits)}"
        )
    test = opened.source(test_name) if test_name and "test" in asked else None
    train: Source = no_images(channels)
    validation: Source | None = None
    trained = "train" in splits and splits["train"].num_examples
    if trained and {"train", "validation"} & set(asked):
        in_order = not opened.cached and not is_by_number(builder)
        if builder.info.disable_shuffling and in_order:
            raise ValueError(
                f"TFDS has written {config.dataset!r} in the order of its source "
                "(`disable_shuffling`), often sorted by class, and a stream is shuffled within a "
                "window only. Prepare it anew without `disable_shuffling`, or write it as shards "
                f"(`keras-resnet shards {config.dataset} DIR`), of which the order is shuffled as "
                "a whole"
            )
        train, validation = opened.train_parts(splits["train"].num_examples, config.validation)
    return ImageData(
        config.dataset,
        names,
        channels,
        train,
        validation,
        test,
        notes(size) if opened.cached else (),
        identity=_identity(builder.info.full_name, train),
    )


def _identity(name: str, train: Source) -> str:
    """Returns what a resumed run must find; with the files, where the order depends on them."""
    if isinstance(train, StreamSource) and train.parted is not None:
        return f"{name}, {train.parted.identity}"
    return name


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A prepared data set, and how its images are read.

    Attributes:
        builder: TFDS's builder.
        names: The names of the classes.
        shape: Shape of the images.
        cached: Whether images are decoded into memory.
        decoding: How they are decoded.
        order: How a stream is shuffled, as in `DataConfig`.
        window: Number of records that are shuffled together.
    """

    builder: Any
    names: tuple[str, ...]
    shape: tuple[int, int, int]
    cached: bool
    decoding: Decoding
    order: str = "parts"
    window: int = 16_384

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def source(self, split: str, *, trained: bool = False) -> Source:
        """Returns the images of a split, or of those that are trained on."""
        if not self.cached and is_by_number(self.builder):
            return labels_checked(record_source(self.builder, split, self.decoding), self.classes)
        if not self.cached:
            return self._stream(split, parted=not trained or self.order == "parts")
        everything = np.arange(self.builder.info.splits[split].num_examples)
        return self._decoded(split, [everything])[0]

    def train_parts(self, examples: int, fraction: float) -> tuple[Source, Source | None]:
        """Returns the training images and those held out for validation."""
        if not fraction:
            return self.source("train", trained=True), None
        rest, held = hold_out(examples, fraction)
        if self.cached:
            train, validation = self._decoded("train", [rest, held])
            return train, validation
        if is_by_number(self.builder):
            source = record_source(self.builder, "train", self.decoding)
            source = labels_checked(source, self.classes)
            return source.take(rest), source.take(held)
        # A stream is cut in two: TFDS has written it in random order.
        cut = len(rest)
        return self.source(f"train[:{cut}]", trained=True), self.source(f"train[{cut}:]")

    def _stream(self, split: str, *, parted: bool) -> StreamSource:
        import tensorflow as tf

        size = self.builder.info.splits[split].num_examples

        def open_stream(seed: Any) -> Any:
            records = _encoded(self.builder, split)
            if seed is None:
                return records
            # A sixteenth of an epoch is enough: TFDS shuffles the examples when it writes them.
            window = max(1, min(self.window, size // 16 if size > 1024 else size))
            return records.shuffle(
                window, seed=tf.cast(seed, tf.int64), reshuffle_each_iteration=False
            )

        files = record_files(self.builder, split, self.window) if parted else None
        return labels_checked(StreamSource(size, open_stream, self.decoding, files), self.classes)

    def _decoded(self, split: str, parts: Sequence[np.ndarray]) -> list[ArraySource]:
        """Decodes a split straight into the arrays of its parts, so that nothing is held twice."""
        import tensorflow as tf

        count = self.builder.info.splits[split].num_examples
        part_of, row_of = np.zeros(count, "int64"), np.zeros(count, "int64")
        for number, indices in enumerate(parts):
            part_of[indices], row_of[indices] = number, np.arange(len(indices))
        images = [np.empty((len(indices), *self.shape), "uint8") for indices in parts]
        labels = np.empty(count, "int64")
        records = _encoded(self.builder, split).map(
            lambda image, label: (
                tf.ensure_shape(decode(image, self.shape[-1], self.decoding), self.shape),
                label,
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        done = 0
        for batch, batch_labels in records.batch(128).prefetch(2).as_numpy_iterator():
            rows = slice(done, done + len(batch))
            labels[rows] = batch_labels
            for number, array in enumerate(images):
                chosen = part_of[rows] == number
                array[row_of[rows][chosen]] = batch[chosen]
            done += len(batch)
        check_labels(labels, self.names, f"{self.builder.info.name} {split}")
        return [
            ArraySource(array, labels[indices])
            for array, indices in zip(images, parts, strict=True)
        ]


def test_split(builder: Any) -> str | None:
    """Returns the name of the split to test on: `test`, or `validation` if that has no labels."""
    splits = builder.info.splits
    named = (name for name in ("test", "validation") if name in splits)
    return next((name for name in named if _labelled(builder, name)), None)


def _labelled(builder: Any, split: str) -> bool:
    """Whether a split has labels. Competitions withhold those of test images, as -1."""
    if not builder.info.splits[split].num_examples:
        return False
    first = _encoded(builder, split).take(16).as_numpy_iterator()
    return all(label >= 0 for _, label in first)


def find_builder(config: DataConfig) -> Any:
    """Returns TFDS's builder of a data set, which need not be downloaded.

    Raises:
        ValueError: If TFDS does not know the data set; names the nearest ones.
    """
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
    check_tfds_directory(config.data_dir, config.dataset)
    try:
        return tfds.builder(config.dataset, data_dir=config.data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        raise _unknown(config) from None
    except Exception as error:  # of damaged metadata: protobuf's, TFDS's and Python's own
        where = f" in {config.data_dir}" if config.data_dir else ""
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ValueError(f"TFDS cannot open {config.dataset!r}{where}: {reason}") from error


def open_builder(config: DataConfig) -> Any:
    """Returns the builder of a data set, which is downloaded and prepared if necessary.

    Raises:
        ValueError: If the data set is unknown, or cannot be downloaded.
    """
    builder = find_builder(config)
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

    folders = [f"{path.name}/" for path in Path().iterdir() if path.is_dir()]
    known = [*folders, *tfds.list_builders(), "digits", "synthetic"]
    return ValueError(
        f"Unknown data set {config.dataset!r}: neither digits, synthetic, an existing folder, "
        f"nor a TFDS data set{f' in {config.data_dir}' if config.data_dir else ''}. "
        f"{nearest(config.dataset, known)}"
    )


def image_and_label(builder: Any, name: str) -> tuple[Any, Any]:
    """Returns the features `image` and `label` of a data set.

    Raises:
        ValueError: If it does not have them.
    """
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
    _check_names(builder.data_path, features["label"])
    return features["image"], features["label"]


def _check_names(folder: Any, label: Any) -> None:
    """Checks the file of class names, whose errors TFDS drops: it goes on with what it has.

    Raises:
        ValueError: If it is not text, or its names are not one for each class.
    """
    import tensorflow_datasets as tfds

    try:
        tfds.features.ClassLabel(num_classes=label.num_classes).load_metadata(folder, "label")
    except ValueError as error:
        raise ValueError(
            f"{label.get_names_filepath(folder, 'label')} needs the {label.num_classes} names of "
            f"the classes, each once: {error}"
        ) from error


def _encoded(builder: Any, split: str) -> Any:
    """Returns a `tf.data.Dataset` of (encoded image, label) in the stored order."""
    import tensorflow_datasets as tfds

    if is_by_number(builder):
        source = record_source(builder, split)
        return source.open()
    records = builder.as_dataset(
        split=split,
        shuffle_files=False,
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    return records.map(lambda record: (record["image"], record["label"]))
