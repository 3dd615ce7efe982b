"""Images at the network's size in memory, and their mean and standard deviation."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from keras_resnet import PreprocessSpec

from ..config import AugmentConfig
from .batches import Share
from .evaluation_pipeline import evaluation_batches
from .image_data import ImageData
from .images import fit
from .index import cache_directory, kept_array, kept_values
from .memory import fits, notes
from .readable import naming_files
from .sources import ArraySource, FileSource, Source

_BATCH_BYTES = 2 * 2**20
_WORTH_KEEPING = 1000  # images; fewer are resized within a second
_VERSION = 1  # of how images are resized


def at_size(
    data: ImageData,
    preprocess: PreprocessSpec,
    augment: AugmentConfig,
    cache: str,
    say: Callable[[str], None] | None = None,
) -> ImageData:
    """Resizes images to the network's size once and keeps them in memory, if they fit.

    Other images are read and resized each time. So are training images whose augmentation takes
    random crops of the originals.

    Args:
        data: The data set.
        preprocess: The size, crop fraction and interpolation.
        augment: The augmentation of training images.
        cache: As in `DataConfig`.
        say: Is called with the memory that this takes, before it is taken.

    Returns:
        The data set, with a note that states the memory.
    """
    needs_originals = augment.crop in ("resized", "scale")
    chosen = {
        name: source
        for name, source in data.parts()
        if not (name == "train" and needs_originals) and _changes(source, preprocess)
    }
    size = sum(map(len, chosen.values())) * preprocess.size[0] * preprocess.size[1] * data.channels
    if not chosen or not fits(size, cache):
        return data
    taken_notes = notes(size)
    files = [source for source in chosen.values() if isinstance(source, FileSource)]
    if taken_notes and any(len(s) >= _WORTH_KEEPING and s.digests for s in files):
        taken_notes += (
            f"the resized images are kept in {cache_directory()} for later starts (at most 8 GiB)",
        )
    if say is not None:
        for text in taken_notes:
            say(text)

    def resized(source: Source) -> Source:
        taken = any(source is each for each in chosen.values())
        return _resized(source, preprocess, data.channels) if taken else source

    return dataclasses.replace(data.map(resized), notes=(*data.notes, *taken_notes))


def _changes(source: Source, preprocess: PreprocessSpec) -> bool:
    """Whether a source is decoded or resized: files, and arrays of another size."""
    if isinstance(source, ArraySource):
        return source.images.shape[1:3] != preprocess.size
    return isinstance(source, FileSource)


def _resized(source: Source, preprocess: PreprocessSpec, channels: int) -> ArraySource:
    assert isinstance(source, ArraySource | FileSource)
    if isinstance(source, FileSource):

        def make() -> np.ndarray:
            return raw_images(source, preprocess, channels)[0]

        key = _content(source, preprocess, channels) if len(source) >= _WORTH_KEEPING else None
        shape = (len(source), *preprocess.size, channels)
        images = make() if key is None else kept_array(("images", *key), shape, make)
        return ArraySource(images, source.labels, source.balanced)
    images = np.empty((len(source), *preprocess.size, channels), "uint8")
    rows = _rows(preprocess, channels)
    for start in range(0, len(source), rows):
        images[start : start + rows] = fit(source.images[start : start + rows], preprocess).numpy()
    return dataclasses.replace(source, images=images)


def _content(
    source: FileSource, preprocess: PreprocessSpec, channels: int
) -> tuple[object, ...] | None:
    """Returns all that the resized images depend on; None if the files were not read."""
    import tensorflow as tf

    if not source.digests:
        return None
    files = hashlib.sha256("".join(source.digests).encode()).hexdigest()
    how = (preprocess.size, preprocess.crop_fraction, preprocess.interpolation)
    return (_VERSION, tf.__version__, files, how, channels, source.decoding)


def _rows(preprocess: PreprocessSpec, channels: int) -> int:
    """Returns how many images to resize at once, of which TensorFlow prepares several batches."""
    return max(1, min(64, _BATCH_BYTES // (preprocess.size[0] * preprocess.size[1] * channels)))


def raw_images(
    source: Source, preprocess: PreprocessSpec, channels: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images of a split at the network's size.

    Args:
        source: The split.
        preprocess: The size, crop fraction and interpolation.
        channels: Channels per image.
        limit: Maximum number of examples: spread evenly over arrays and files, the first ones of
            streams. All examples where None.

    Returns:
        uint8 images `(examples, height, width, channels)` and int64 labels.

    Raises:
        ValueError: If an image cannot be decoded; names its file.
    """
    count = len(source) if limit is None else min(limit, len(source))
    images = np.empty((count, *preprocess.size, channels), "uint8")
    labels, done = [], 0
    for batch, batch_labels in _raw_batches(source, preprocess, channels, count):
        images[done : done + len(batch)] = batch
        labels.append(batch_labels)
        done += len(batch)
    return images, np.concatenate(labels)


def _raw_batches(
    source: Source, preprocess: PreprocessSpec, channels: int, count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the images and labels of `raw_images` in batches."""
    if isinstance(source, ArraySource | FileSource) and count < len(source):
        source = source.take(np.linspace(0, len(source) - 1, count).astype("int64"))
    size = min(count, _rows(preprocess, channels))
    batches = evaluation_batches(source, preprocess, channels, Share(size), raw=True)
    with naming_files(source):
        needed = itertools.islice(batches.as_numpy_iterator(), -(-count // size))
        for number, (images, labels, _) in enumerate(needed):
            kept = min(size, count - number * size)
            yield images[:kept], labels[:kept]


def measure_channels(
    source: Source, preprocess: PreprocessSpec, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and standard deviation of each channel, in pixel values 0..255.

    Measures all images of an array, and 2,048 of other sources. The values of files are kept in the
    cache directory.
    """
    key = _content(source, preprocess, channels) if isinstance(source, FileSource) else None
    if key is None:
        mean, std = _measured(source, preprocess, channels)
    else:
        mean, std = kept_values(("mean", *key), lambda: _measured(source, preprocess, channels))
    return tuple(map(float, mean)), tuple(map(float, std))


def _measured(
    source: Source, preprocess: PreprocessSpec, channels: int
) -> tuple[list[float], list[float]]:
    batches: Iterable[np.ndarray]
    if isinstance(source, ArraySource) and source.images.shape[1:3] == preprocess.size:
        # `bincount` makes its input eight times as large, so it gets a few images at a time.
        rows = max(1, 2**22 // max(1, source.images[0, ..., 0].size))
        starts = range(0, len(source), rows)
        batches = (source.images[start : start + rows] for start in starts)
    else:
        count = len(source) if isinstance(source, ArraySource) else min(2048, len(source))
        found = _raw_batches(source, preprocess, channels, count)
        batches = (images for images, _ in found)
    # Sums over the histogram of a channel are sums of whole numbers, and so exact.
    counts = np.zeros((channels, 256), "int64")
    for images in batches:
        for c in range(channels):
            counts[c] += np.bincount(images[..., c].ravel(), minlength=256)
    values, pixels = np.arange(256), counts[0].sum()
    mean = counts @ values / pixels
    std = np.sqrt(np.maximum(counts @ values**2 / pixels - mean**2, 1e-6))
    return mean.round(4).tolist(), std.round(4).tolist()
