"""Opening a data set by its name, with its preprocessing."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.texts import check_class_names

from ..config import DataConfig, RunConfig
from ..remote.address import remote_url
from ..remote.data import data_at_hand
from .arrange import arranged, relabelled
from .embedded import load_digits, make_synthetic
from .folder import load_folder
from .folder_by_position import load_folder_by_position
from .hub_dataset import is_saved_dataset, load_saved_dataset
from .image_data import SPLITS, ImageData, Split
from .in_memory import at_size, measure_channels
from .listing import Listing
from .request import Request
from .shard_manifest import is_record_shards
from .shard_source import load_record_shards
from .shared_index import Sharing
from .table import TABLES, images_of_table, is_table, load_table, names_table
from .tar_shards import find_shards, load_shards, refuse_compressed
from .tfds_source import find_builder, load_tfds

_Values = tuple[float, ...] | None
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2


def resolve_data(
    config: RunConfig,
    spec: ResNetSpec,
    stored: Listing | None = None,
    say: Callable[[str], None] | None = None,
    base: PreprocessSpec | None = None,
    index: Path | Sharing | None = None,
) -> tuple[ImageData, PreprocessSpec]:
    """Opens the data of a run at the network's size and determines its preprocessing.

    Args:
        config: The run.
        spec: The network.
        stored: The files of each split as the run stored them (`RunDirectory.listing`), to resume
            it with the same membership; None for a new run.
        say: Is called with each note at once, before the work that it is about; the notes are in
            the returned data too.
        base: The preprocessing of the weights that the run starts from. It replaces mean and
            standard deviation of the configuration, and states interpolation and channel order.
        index: The file beside the run that keeps what reading its images has told, so that
            resuming need not read them again; with the workers that read them together, if there
            are several. It is also kept in the cache directory.

    Returns:
        The data, and the preprocessing with the configured or measured mean and standard deviation.

    Raises:
        ValueError: If the data does not fit the network, or has no training images.
    """
    size = config.data.image_size or spec.input_size
    if size < spec.smallest_input:
        raise ValueError(
            f"{spec.name} needs images of at least {spec.smallest_input} x {spec.smallest_input} "
            f"pixels. Received: image_size={size}"
        )
    data = load_data(config.data, spec, stored=stored, index=index, say=say)
    if not len(data.train):
        present = ", ".join(split for split, _ in data.parts())
        raise ValueError(
            f"Data set {data.name!r} has no train split to train on. It has: {present}"
        )
    mean, std = config.data.mean, config.data.std
    if base is None:
        data, mean, std = _fitting(data, mean, std)
    if say is not None:
        for text in data.notes:
            say(text)
    preprocess = dataclasses.replace(
        base or PreprocessSpec((size, size)),
        size=(size, size),
        crop_fraction=config.data.crop_fraction,
    )
    data = at_size(data, preprocess, config.augment, config.data.cache, say)
    if base is not None:
        return data, preprocess
    if mean is None or std is None:
        mean, std = measure_channels(data.train, preprocess, data.channels)
    return data, dataclasses.replace(preprocess, mean=mean, std=std)


def _fitting(data: ImageData, mean: _Values, std: _Values) -> tuple[ImageData, _Values, _Values]:
    """Returns mean and standard deviation for the data's channels, with a note if they change.

    Raises:
        ValueError: If they are of another number of channels.
    """
    if mean is not None and std is not None and data.channels == 1 and len(mean) == len(std) == 3:
        mean, std = _luma(mean), _luma(std)
        text = (
            "`data.mean` and `data.std` are those of three channels, and the images have one: "
            f"their luma, {mean[0]:g} and {std[0]:g}, is used"
        )
        data = dataclasses.replace(data, notes=(*data.notes, text))
    if mean is not None and len(mean) not in (1, data.channels):
        raise ValueError(
            f"`mean` needs one value per channel ({data.channels}). Received: mean={mean}"
        )
    return data, mean, std


def load_data(
    config: DataConfig,
    spec: ResNetSpec,
    *,
    splits: Sequence[Split] = SPLITS,
    class_names: Sequence[str] | None = None,
    stored: Listing | None = None,
    whole: bool = False,
    index: Path | Sharing | None = None,
    say: Callable[[str], None] | None = None,
) -> ImageData:
    """Opens a data set, or only some of its splits.

    To evaluate a run, give its classes and its listing: labels are then indices of the run's
    classes, also where the data has only some of them; membership is the run's; and the notes say
    how the files have changed, and how many are training images of the run.

    Args:
        config: `dataset` is `digits`, `synthetic`, an existing folder, a CSV or Parquet file, a
            folder of tar or record shards or of Hugging Face's `save_to_disk`, or a TFDS name.
        spec: The network. Synthetic images have its size and classes by default, and files are
            decoded to its input channels.
        splits: The splits to open. Images of other splits are not read.
        class_names: The classes that labels shall be indices of; the data's own where None. Class
            folders that are named 0, 1, ... (as in ImageNet-V2) are indices of these.
        stored: The files of each split as a run stored them (`RunDirectory.listing`).
        whole: Whether a folder without folders of splits is, undivided, the split that is asked
            for: all 200 images, not a fifth of them. A folder that `stored` lists is divided as
            the run has it all the same.
        index: A file that keeps what reading the images has told, beside that of the cache.
        say: Is called with the progress of reading images.

    Raises:
        ValueError: If there is no such data set, it does not have `config.classes` classes, or it
            has a class that is not one of `class_names`.

    Example:
        >>> run = open_run(Path("saved_models/digits"))
        >>> data = load_data(
        ...     run.config.data,
        ...     run.spec,
        ...     splits=("test",),
        ...     class_names=run.class_names,
        ...     stored=run.directory.listing,
        ... )
    """
    place = remote_url(config.dataset)
    config = data_at_hand(config, say or print, images_of_table)
    names = None if class_names is None else tuple(class_names)
    data = _opened(config, spec, Request(tuple(splits), names, stored, whole, index, say))
    if place is not None:  # copies are elsewhere on other machines
        data = dataclasses.replace(data, name=place)
    if names is not None:
        return relabelled(data, names)
    check_class_names(data.class_names, repr(config.dataset))
    if config.classes is not None and len(data.class_names) != config.classes:
        raise ValueError(
            f"`classes` must match the data: {config.dataset!r} has {len(data.class_names)} "
            f"classes. Received: classes={config.classes}"
        )
    return data


def is_data_set(path: Path) -> bool:
    """Whether a path holds images with their labels: shards, a table, or a saved data set."""
    found = is_record_shards(path) or is_table(path) or is_saved_dataset(path)
    return found or bool(find_shards(path))


def _opened(config: DataConfig, spec: ResNetSpec, request: Request) -> ImageData:
    """Opens a data set by its name, with its own classes."""
    name, path = config.dataset, Path(config.dataset)
    refuse_compressed(path)
    labelled = is_data_set(path)
    if not path.is_dir() and not labelled and _looks_like_path(name):
        raise _no_path(name)
    if config.task == "multilabel" and not labelled:
        raise ValueError(
            "`data.task` can be 'multilabel' only for a CSV or Parquet file of images and labels, "
            "shards, or a saved data set of Hugging Face. "
            f"Received: data.dataset={name!r}"
        )
    if name == "digits":
        data = load_digits()
    elif name == "synthetic":
        size = config.image_size or spec.input_size
        data = make_synthetic(size, spec.input_channels, config.classes or spec.classes)
    elif is_record_shards(path):
        data = load_record_shards(path, config, spec.input_channels, request)
    elif is_table(path):
        data = load_table(path, config, spec.input_channels, request)
    elif is_saved_dataset(path):
        data = load_saved_dataset(path, config, spec.input_channels, request)
    elif labelled:
        data = load_shards(path, config, spec.input_channels, request)
    elif path.is_dir() and config.split_by == "position":
        data = load_folder_by_position(path, config)
    elif path.is_dir():
        data = load_folder(path, config, spec.input_channels, request)
    else:
        data = load_tfds(config, request.splits)
    if data.listing is not None:  # files, which `divided` has arranged
        return dataclasses.replace(data, path=str(path.resolve()))
    return arranged(data, config)


def check_dataset(config: DataConfig) -> None:
    """Checks that there is a data set of the configuration's name; opens and downloads nothing.

    Raises:
        ValueError: If there is none; names the known ones nearest to it.

    Example:
        >>> check_dataset(DataConfig(dataset="digits"))
    """
    name = config.dataset
    if remote_url(name) or remote_url(config.data_dir):
        return  # `load_data` says what is not there
    refuse_compressed(Path(name))
    if name in ("digits", "synthetic") or Path(name).is_dir():
        return
    if is_table(Path(name)) or find_shards(Path(name)):
        return
    if _looks_like_path(name):
        raise _no_path(name)
    find_builder(config)


def _looks_like_path(name: str) -> bool:
    """Whether a name that is no folder and no file of labels is a path, and no name of TFDS."""
    path = Path(name)
    written = path.is_absolute() or name.startswith((".", "~")) or name.endswith(("/", os.sep))
    inside = len(path.parts) > 1 and path.parent.is_dir()
    return written or inside or path.is_file() or names_table(path) or path.suffix == ".tar"


def _no_path(name: str) -> ValueError:
    path = Path(name)
    if path.is_file():
        return ValueError(
            f"No folder at {name!r}, but a file: images come from a folder, or from a file of "
            f"labels ({', '.join(TABLES)})"
        )
    beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=3)
    near = f". Nearest in {path.parent}: {', '.join(close)}" if close else ""
    return ValueError(f"No folder at {name!r}, and no file{near}")


def _luma(values: Sequence[float]) -> tuple[float, ...]:
    """Returns the luma of three channels' values, as the one value of grey images."""
    return (round(sum(w * value for w, value in zip(_LUMA, values, strict=True)), 4),)
