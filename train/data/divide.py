"""Files of a data set as its splits: by folder, by what a run stored, by fold, or by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..config import DataConfig
from .image_data import SPLITS, ImageData, Split, no_images
from .index import FileIndex
from .listing import Entry, Listing, changed_files, examples
from .membership import fold_of, held_out
from .readable import digest_of, duplicates, read_all
from .request import Request
from .sources import FileSource
from .walk import counted


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a data set before they are divided.

    Attributes:
        splits: The files of each split that the data set has of its own.
        rest: The files without a split, or None.
        class_names: The names of the classes, in the order of the labels.
        notes: What was assumed while the files were found.
    """

    splits: Mapping[Split, FileSource]
    rest: FileSource | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def divided(
    name: str, files: Files, channels: int, config: DataConfig, request: Request
) -> ImageData:
    """Divides files into splits, reads the ones that are asked for, and says what was understood.

    Membership is, in this order: what the run stored, if these are its files; the folder's own
    splits; the whole, where that is asked for; and a hash of each name within its class.

    Args:
        name: Name of the data set.
        files: The files.
        channels: Number of channels to decode.
        config: Fractions, folds, and what to do with unreadable images.
        request: What is asked for.

    Raises:
        ValueError: If a split that alone is asked for is missing, or images are unreadable.
    """
    if config.task == "multilabel" and config.sampling == "balanced":
        raise ValueError(
            "`data.sampling` can be 'balanced' only where each image has one class. "
            "Received: data.task='multilabel'"
        )
    notes: list[str] = list(files.notes)
    changes: tuple[str, ...] = ()
    if config.folds and "test" in files.splits:
        notes.append(
            f"the test split's {len(files.splits['test'])} images left out, as fold "
            f"{config.fold} of {config.folds} is the test split"
        )
        others: dict[Split, FileSource] = dict(files.splits)
        del others["test"]
        files = dataclasses.replace(files, splits=others)
    own = request.stored is not None and _own(files, request.stored, notes, content=request.whole)
    if own:
        sources, changes = _as_stored(files, request, notes)
        notes += changes
    else:
        sources = _chosen(files, config, request, notes)
    if len(request.splits) == 1 and not sources.get(request.splits[0]):
        present = ", ".join(split for split in SPLITS if sources.get(split))
        raise ValueError(f"Data set {name!r} has no {request.splits[0]} split. It has: {present}")
    sizes = {split: len(source) for split, source in sources.items()}
    opened = {split: sources[split] for split in SPLITS if split in sources}
    opened = {split: opened[split] for split in opened if split in request.splits}
    index = None
    if config.on_bad_image != "trust":
        index = _index(config, channels, request)
        opened, more = read_all(
            opened,
            channels,
            skip=config.on_bad_image == "skip",
            index=index,
            say=request.say,
        )
        notes += more
    notes += _shared(opened, request)
    listing = _listing(opened, files.class_names)
    if own and request.stored is not None:
        other = _contents(request.stored, listing)
        changes += other
        notes += other
    train = opened.get("train", no_images(channels))
    if isinstance(train, FileSource) and config.sampling == "balanced":
        train = dataclasses.replace(train, balanced=True)
    return ImageData(
        name=name,
        class_names=files.class_names,
        channels=channels,
        train=train,
        validation=opened.get("validation"),
        test=opened.get("test"),
        notes=(_understood(name, files.class_names, sizes), *notes),
        task=config.task,
        identity=f"files {listing.digest()}",
        listing=listing,
        changes=changes,
        index=None if index is None else index.cached,
    )


def _index(config: DataConfig, channels: int, request: Request) -> FileIndex:
    """Returns what earlier starts have read of the images."""
    import tensorflow as tf

    path = Path(config.dataset)
    settings = {
        "channels": channels,
        "accurate": config.decoding == "accurate",
        "tensorflow": tf.__version__,
    }
    return FileIndex.open(path if path.is_dir() else path.parent, request.index, settings)


def _own(files: Files, stored: Listing, notes: list[str], *, content: bool) -> bool:
    """Whether the files are those that a run stored, if not all of them or more of them.

    Args:
        files: The files.
        stored: The files of the run.
        notes: Gets a note if files have the run's names and other content.
        content: Whether the same names are not enough, as for other data that is evaluated: none of
            up to 32 files having the run's content, they are not the run's.
    """
    known = {name: entry for entries in stored.splits.values() for name, entry in entries.items()}
    digests = {entry.digest for entries in stored.splits.values() for entry in entries.values()}
    found = {
        name: (source, path)
        for source in _all(files).values()
        for name, path in zip(source.names, source.paths, strict=True)
    }
    common = sorted(known.keys() & found.keys())
    if 2 * len(common) < len(known):
        return False
    if not content or not common or "" in digests:
        return True
    sample = common[:: -(-len(common) // 32)]
    if any(digest_of(*found[name]) in digests for name in sample):
        return True
    notes.append("the images have names of the run's images and other content: taken as other data")
    return False


def _all(files: Files) -> dict[str, FileSource]:
    found: dict[str, FileSource] = {str(split): files.splits[split] for split in files.splits}
    return found if files.rest is None else {**found, "": files.rest}


def _as_stored(
    files: Files, request: Request, notes: list[str]
) -> tuple[dict[Split, FileSource], tuple[str, ...]]:
    """Divides files as a run stored them; returns the splits, and what the run has lost."""
    assert request.stored is not None
    stored = request.stored.splits
    members: dict[Split, list[tuple[FileSource, np.ndarray]]] = {split: [] for split in SPLITS}
    added: list[str] = []
    for physical, source in _all(files).items():
        others = [split for split in SPLITS if split not in files.splits]
        candidates = [split for split in (physical, *others) if split in stored]
        found: dict[str, list[int]] = {split: [] for split in SPLITS}
        for index, name in enumerate(source.names):
            split = next((split for split in candidates if name in stored[split]), None)
            if split is None:
                added.append(name)
            else:
                found[split].append(index)
        for split in SPLITS:
            members[split].append((source, np.asarray(found[split], "int64")))
    sources = {
        split: _joined([source.take(indices) for source, indices in parts])
        for split, parts in members.items()
        if any(len(indices) for _, indices in parts)
    }
    if added:
        notes.append(
            f"{counted(len(added), 'image')} added since the run began left out: {examples(added)}"
        )
    changes: list[str] = []
    for split in request.splits:
        now = _entries(sources[split], files.class_names) if split in sources else {}
        changes += changed_files(stored.get(split, {}), now, split)
    return sources, tuple(changes)


def _contents(stored: Listing, listing: Listing) -> tuple[str, ...]:
    """Returns a sentence for each split in which files have other content than the stored ones."""
    found: list[str] = []
    for split, entries in listing.splits.items():
        known = {n: e for n, e in stored.splits.get(split, {}).items() if n in entries}
        before = {name: Entry(entries[name].label, e.digest) for name, e in known.items()}
        found += changed_files(before, entries, split)
    return tuple(found)


def _chosen(
    files: Files, config: DataConfig, request: Request, notes: list[str]
) -> dict[Split, FileSource]:
    """Divides files by the folder's own splits and by name."""
    sources = dict(files.splits)
    whole = request.whole and len(request.splits) == 1
    if files.rest is not None and whole and not sources:
        notes.append(f"the folder has no splits: all its images are the {request.splits[0]} split")
        return {request.splits[0]: files.rest}
    if files.rest is not None:
        sources["train"] = _joined([*filter(None, [sources.get("train")]), files.rest])
        if config.test_size and not config.folds and "test" not in sources:
            _hold_out(sources, "test", config.test_size)
    if config.folds and "train" in sources:
        train = sources["train"]
        folds = fold_of(train.names, _strata(train), config.folds)
        sources["test"] = train.take(np.flatnonzero(folds == config.fold))
        sources["train"] = train.take(np.flatnonzero(folds != config.fold))
    if config.validation and "validation" not in sources and "train" in sources and not whole:
        _hold_out(sources, "validation", config.validation)
    return sources


def _hold_out(sources: dict[Split, FileSource], split: Split, fraction: float) -> None:
    """Makes a fraction of each class's training images another split."""
    train = sources["train"]
    held = held_out(train.names, _strata(train), fraction, split)
    if not held.any() or held.all():
        field = {"test": "test_size", "validation": "validation"}[split]
        raise ValueError(
            f"`{field}` must leave images on both sides of {len(train)}. Received: {fraction}"
        )
    sources[split] = train.take(np.flatnonzero(held))
    sources["train"] = train.take(np.flatnonzero(~held))


def _strata(source: FileSource) -> np.ndarray:
    """Returns the class of each image; for several labels per image, no classes."""
    return source.labels if source.labels.ndim == 1 else np.zeros(len(source), "int64")


def _joined(sources: list[FileSource]) -> FileSource:
    if len(sources) == 1:
        return sources[0]
    return dataclasses.replace(
        sources[0],
        paths=tuple(path for source in sources for path in source.paths),
        labels=np.concatenate([source.labels for source in sources]),
        names=tuple(name for source in sources for name in source.names),
    )


def _entries(source: FileSource, class_names: tuple[str, ...]) -> dict[str, Entry]:
    digests = source.digests or ("",) * len(source)
    if source.labels.ndim == 1:
        labels = [class_names[label] for label in source.labels]
    else:
        labels = ["\n".join(class_names[i] for i in np.flatnonzero(row)) for row in source.labels]
    return {
        name: Entry(label, digest)
        for name, label, digest in zip(source.names, labels, digests, strict=True)
    }


def _listing(sources: Mapping[Split, FileSource], class_names: tuple[str, ...]) -> Listing:
    return Listing({split: _entries(source, class_names) for split, source in sources.items()})


def _shared(opened: Mapping[Split, FileSource], request: Request) -> list[str]:
    """Returns notes on images that are in two splits, or among the images a run was trained on."""
    notes = []
    for split in ("validation", "test"):
        if "train" in opened and split in opened:
            notes += duplicates(opened["train"], opened[split], split)
    if request.stored is None or "train" in opened:
        return notes
    trained = {e.digest: name for name, e in request.stored.splits.get("train", {}).items()}
    trained.pop("", None)
    for split, source in opened.items():
        found = [n for n, d in zip(source.names, source.digests, strict=False) if d in trained]
        if found:
            notes.append(
                f"{len(found)} of {len(source)} {split} images are training images of the run (the "
                f"same content): {examples(found)}"
            )
    return notes


def _understood(name: str, class_names: tuple[str, ...], sizes: Mapping[Split, int]) -> str:
    images = ", ".join(f"{split} {sizes[split]:,}" for split in SPLITS if sizes.get(split))
    classes = f"{counted(len(class_names), 'class', 'classes')} ({examples(class_names, 5)})"
    return f"{name}: {classes}; images: {images}"
