"""The section `data` of a configuration: the images, and how they are divided and decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from .fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FRACTION, SHARE, Section, setting


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """The images, and how they are brought to the net's input size."""

    section: ClassVar[str] = "data"

    dataset: str = setting(
        "digits",
        "`digits`, `synthetic`, the name of a TFDS data set, a folder of class folders, a CSV or "
        "Parquet file of images and labels, tar shards (WebDataset), or a folder of Hugging Face's "
        "`save_to_disk`. Whether a resumed run has its data is checked by "
        "the names and the content of the images, not by this path.",
        option="--dataset",
        metavar="DATASET",
        free=True,
    )
    data_dir: str | None = setting(
        None,
        "Directory of TFDS data sets, read and written. By default TFDS's own.",
        option="--data-dir",
        metavar="DIR",
        free=True,
    )
    validation: float = setting(
        0.0,
        "Fraction of the training images to hold out for validation; the best weights are chosen "
        "by it.",
        FRACTION,
        option="--validation",
        metavar="FRACTION",
    )
    test_size: float = setting(
        0.2,
        "Fraction of the images that become the test split, where the data has no splits of its "
        "own; 0 for none.",
        FRACTION,
        option="--test-size",
        metavar="FRACTION",
    )
    split_by: Literal["name", "position"] = setting(
        "name",
        "How test and validation images are chosen: by a hash of each image's `name`, within each "
        "class, so that files added later move no others; or by `position` in the listing, as "
        "earlier versions did.",
    )
    folds: int = setting(
        0,
        "Number of folds that the training images are divided into, for cross-validation; 0 for "
        "none. Fold number `fold` is then the test split.",
        AT_LEAST_0,
    )
    fold: int = setting(0, "The fold to test on, counted from 0.", AT_LEAST_0)
    task: Literal["classification", "multilabel"] = setting(
        "classification",
        "`classification`: one label per image. `multilabel`: any number of labels per image, from "
        "a CSV or Parquet file, tar shards or Hugging Face's `datasets`.",
        option="--task",
    )
    label_separator: str = setting(
        " ", "Separates the labels of an image in one cell, for the task `multilabel`."
    )
    sampling: Literal["uniform", "balanced"] = setting(
        "uniform",
        "Order of the training images: `uniform`, each once per epoch; `balanced`, each class "
        "equally often.",
        option="--sampling",
    )
    orientation: Literal["exif", "stored"] = setting(
        "exif",
        "Turn images as their EXIF orientation says (`exif`), or leave them as they are `stored`.",
    )
    decoding: Literal["accurate", "fast"] = setting(
        "accurate",
        "Decoder of images: `accurate` gives the pixel values of Pillow; `fast` is what "
        "earlier versions used: JPEG's fast transform, and TensorFlow's decoder for every format.",
    )
    large_jpeg: Literal["scaled", "whole"] = setting(
        "scaled",
        "JPEGs of which four or more pixels, along each axis, become one pixel of the input: "
        "`scaled` decodes them at 1/2, 1/4 or 1/8 of their size and resizes the result, which "
        "takes about half the time; `whole` decodes all of their pixels.",
    )
    image_size: int | None = setting(
        None,
        "Height and width of the net's input, pixels. By default the net's own.",
        AT_LEAST_1,
        option="--image-size",
        metavar="PIXELS",
    )
    crop_fraction: float = setting(
        1.0,
        "Evaluation resizes the shorter side to `image_size / crop_fraction` and crops the centre.",
        SHARE,
    )
    mean: tuple[float, ...] | None = setting(
        None, "Mean of each channel, pixel values. By default measured on the training images."
    )
    std: tuple[float, ...] | None = setting(
        None,
        "Standard deviation of each channel, pixel values. By default measured on the training "
        "images.",
        ABOVE_0,
    )
    on_bad_image: Literal["fail", "skip", "trust"] = setting(
        "fail",
        "Unreadable images of a folder: `fail` before training, `skip` them, or `trust` the folder "
        "and read no image beforehand.",
        option="--on-bad-image",
    )
    cache: Literal["auto", "memory", "none"] = setting(
        "auto",
        "Keep decoded images in memory: `auto` where they take less than 2 GiB, `memory` always, "
        "`none` never.",
    )
    stream_order: Literal["parts", "window"] = setting(
        "parts",
        "Order of data sets that are read in sequence (those of TFDS that are not kept in memory): "
        "`parts`, in which each worker reads its part of the files, in another order in each "
        "epoch; or `window`, as earlier versions did: each worker reads all files as they are "
        "stored.",
    )
    shuffle_window: int = setting(
        16_384,
        "Encoded images that are shuffled together where they are read in sequence, of all workers "
        "together. Each worker holds its share of them in memory (with `stream_order=window`, all "
        "of them).",
        AT_LEAST_1,
    )
    classes: int | None = setting(
        None,
        "Number of classes that the data must have. By default any.",
        AT_LEAST_1,
        option="--classes",
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that mean and standard deviation, fold and folds go together."""
        super().__post_init__()
        if self.folds == 1 or (self.folds and self.fold >= self.folds):
            raise ValueError(
                "`data.folds` must be 0 or at least 2, and `data.fold` below it. "
                f"Received: data.folds={self.folds}, data.fold={self.fold}"
            )
        if self.fold and not self.folds:
            raise ValueError(f"`data.fold` needs `data.folds`. Received: data.fold={self.fold}")
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                "Give both `data.mean` and `data.std`, or neither. "
                f"Received: data.mean={self.mean}, data.std={self.std}"
            )


# All fields that the data section had before images were split by name.
_EARLIER_DATA_FIELDS = {
    *("dataset", "data_dir", "validation", "image_size", "crop_fraction", "mean", "std"),
    *("on_bad_image", "cache", "classes"),
}


# The fields of the section `augment` that all stored configurations have.
_AUGMENT_FIELDS = {"crop", "pad", "min_area", "shorter_side", "flip"}

# Fields of the data section that came later, with what runs before them meant.
_LATER_DATA_FIELDS = {"large_jpeg": "whole", "stream_order": "window", "shuffle_window": 16_384}


def with_earlier_data_defaults(values: Any) -> Any:
    """Returns the JSON of a configuration; one of earlier versions keeps what it meant.

    Its data section has all fields of that time and none of today's. The earliest runs were split
    by position, and their images were decoded without their orientation; later ones decoded all
    pixels of large JPEGs, and read all records of a stream on each worker. Random crops were not
    rounded.

    Args:
        values: The JSON object.

    Example:
        >>> with_earlier_data_defaults({"data": {"dataset": "digits"}})
        {'data': {'dataset': 'digits'}}
    """
    if not isinstance(values, Mapping):
        return values
    augment = values.get("augment")
    if (
        isinstance(augment, Mapping)
        and augment.keys() >= _AUGMENT_FIELDS
        and "pixels" not in augment
        and augment["crop"] in ("resized", "scale")
    ):
        values = {**values, "augment": {**augment, "pixels": "float32"}}
    data = values.get("data")
    if not isinstance(data, Mapping):
        return values
    fields = {field.name for field in dataclasses.fields(DataConfig)}
    if data.keys() < fields and data.keys() >= fields - _LATER_DATA_FIELDS.keys():
        return {**values, "data": {**_LATER_DATA_FIELDS, **data}}
    if data.keys() != _EARLIER_DATA_FIELDS:
        return values
    if data["dataset"] in ("digits", "synthetic"):  # without files, nothing has changed
        return values
    earlier = {"split_by": "position", "orientation": "stored", "decoding": "fast"}
    return {**values, "data": {**data, **earlier, **_LATER_DATA_FIELDS}}
