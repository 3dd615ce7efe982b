"""What is asked of a data set: which splits, by whose classes, and with which stored membership."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from .image_data import SPLITS, Split
from .listing import Listing
from .shared_index import Sharing


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of a data set.

    Attributes:
        splits: The splits to open; files of others are not read.
        class_names: The classes that labels are indices of; the data's own where None.
        stored: The files of each split as a run stored them, or None.
        whole: Whether a folder without folders of splits is, undivided, the split that is asked
            for, unless it is the one that the run was trained on.
        index: The file beside a run that keeps what reading its images has told, with the workers
            that share it; or None.
        say: Is called with the progress of reading images, or None.
    """

    splits: tuple[Split, ...] = SPLITS
    class_names: tuple[str, ...] | None = None
    stored: Listing | None = None
    whole: bool = False
    index: Path | Sharing | None = None
    say: Callable[[str], None] | None = None
