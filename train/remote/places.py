"""Which options of which command may name a place in an object store, and what is done there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Places(NamedTuple):
    """The options of a command that may be remote, by their name in the parsed arguments.

    Attributes:
        reads: Runs, weights, images and other files, which are copied to this machine first.
        files: Files to write; one that is there is replaced.
        new: Files or folders to write that must not be there yet.
        folders: Folders to write; what is there is brought here first.
        own: Options that the command opens itself.
    """

    reads: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    @property
    def writes(self) -> tuple[str, ...]:
        """The options that are written to."""
        return (*self.files, *self.new, *self.folders)


# `data.load` opens data sets, and `weights_at_hand` the weights that a run starts from.
_DATA = ("dataset", "data_dir")
_TRAINED = ("data.dataset", "data.data_dir", "model.weights", "loss.teacher")

PLACES: Mapping[str, Places] = {
    "train": Places(reads=("config",), own=("output", *_TRAINED)),
    "launch": Places(own=("words",)),
    "ray": Places(own=("words", "storage")),
    "shards": Places(own=("source", "folder", "data_dir")),
    "evaluate": Places(
        reads=("run", "weights", "labels", "ensemble"), folders=("output",), own=_DATA
    ),
    "export": Places(reads=("run", "examples"), folders=("output",), own=_DATA),
    "predict": Places(
        reads=("paths", "weights", "labels"),
        files=("output",),
        folders=("heatmap",),
        own=("data_dir",),
    ),
    "demo": Places(reads=("source", "labels", "examples"), folders=("output",), own=_DATA),
    "prune": Places(reads=("run",), own=("output", *_DATA)),
    "latency": Places(reads=("files",), folders=("output",)),
    "report": Places(reads=("run",)),
    "runs": Places(reads=("folder",)),
    "compare": Places(reads=("runs",), files=("output",)),
    "quickstart": Places(own=("output",)),
    "convert": Places(reads=("source", "inputs"), new=("to", "certificate")),
    "publish": Places(reads=("run",), new=("folder",)),
    "study": Places(reads=("runs", "nets"), own=_DATA),
    "tune": Places(reads=("config",), own=_TRAINED),
}
