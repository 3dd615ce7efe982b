"""The classes of ImageNet-1k, in the order of the outputs of its nets."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple


class ImageNetClass(NamedTuple):
    """A class of ImageNet-1k.

    Attributes:
        wordnet: WordNet ID, such as `n01440764`; the name of its folder.
        name: First word of its synset; `crane` and `maillot`, which occur twice, are told apart.
    """

    wordnet: str
    name: str


@functools.cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """Returns the 1,000 classes, ordered by WordNet ID.

    Source: Russakovsky et al. 2015 (arXiv:1409.0575), the classes of ILSVRC 2012; WordNet 3.0,
    copyright 2006 by Princeton University, the words.

    Example:
        >>> imagenet_classes()[0]
        ImageNetClass(wordnet='n01440764', name='tench')
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(ImageNetClass(*line.split(" ", 1)) for line in text.splitlines())
