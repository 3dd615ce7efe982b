"""Loss and accuracy of a network whose units are deleted or run in another order.

Source: Veit et al. 2016 (arXiv:1605.06431), section 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.analysis.chain import Chain, as_chain, as_images
from keras_resnet.nets.model import ResNet


@dataclasses.dataclass(frozen=True)
class Lesion:
    """What a network computes without some units, or with its units in another order.

    Attributes:
        loss: Mean cross-entropy, nats.
        accuracy: Top-1 accuracy, 0..1.

    Example:
        >>> keras_resnet.analysis.Lesions(model, images, labels).measure().accuracy
        0.91
    """

    loss: float
    accuracy: float


class Lesions:
    """Measures a network on the same images with units deleted or moved.

    A deleted unit is the identity: its shortcut alone in a residual network, and nothing at all in
    a plain one. Units that change the shape of their input can be neither deleted nor moved.

    Args:
        model: A network made by `build`, with its classifier, or a chain of one.
        images: Normalised images, `(images, height, width, channels)`.
        labels: Class numbers, `(images,)`.
        batch_size: Images that are computed at once.

    Attributes:
        names: Names of the units, in order: `"stage1_unit2"`.
        movable: Positions in `names` of the units that keep the shape, in order.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If images or labels do not fit the model.

    Example:
        >>> lesions = keras_resnet.analysis.Lesions(model, images, labels)
        >>> whole, without = lesions.measure(), lesions.without([lesions.movable[0]])
        >>> without.accuracy - whole.accuracy
    """

    def __init__(
        self, model: ResNet | Chain, images: Any, labels: Any, *, batch_size: int = 256
    ) -> None:
        self._chain = as_chain(model)
        self._images = as_images(self._chain.source, images)
        self._labels = np.asarray(labels)
        classes = self._chain.twin.outputs[0].shape[-1]
        if self._labels.shape != (len(self._images),) or self._labels.dtype.kind not in "iu":
            raise ValueError(
                f"`labels` must be class numbers of shape ({len(self._images)},), one per image. "
                f"Received: {self._labels.dtype} of shape {self._labels.shape}"
            )
        if self._labels.min() < 0 or self._labels.max() >= classes:
            raise ValueError(
                f"`labels` must lie in 0..{classes - 1}, the model's classes. "
                f"Received: values {self._labels.min()}..{self._labels.max()}"
            )
        self._batch = batch_size
        units = self._chain.units
        self.names = tuple(unit.name for unit in units)
        self.stages = tuple(unit.stage for unit in units)
        self.movable = tuple(n for n, unit in enumerate(units) if not unit.changes_shape)

    def measure(self, order: Sequence[int] | None = None) -> Lesion:
        """Returns loss and accuracy with the units in this order.

        Args:
            order: Positions in `names`; those that are left out are deleted. All in order where
                None.
        """
        order = range(len(self.names)) if order is None else order
        loss, right = 0.0, 0
        for start in range(0, len(self._images), self._batch):
            labels = self._labels[start : start + self._batch]
            logits = self._logits(self._images[start : start + self._batch], order)
            top = logits.max(axis=1, keepdims=True)
            norm = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
            loss += float((norm - logits[np.arange(len(labels)), labels]).sum())
            right += int((logits.argmax(axis=1) == labels).sum())
        return Lesion(loss / len(self._images), right / len(self._images))

    def without(self, deleted: Sequence[int]) -> Lesion:
        """Returns loss and accuracy without some units.

        Args:
            deleted: Positions in `names`, each one of `movable`.

        Raises:
            ValueError: If one of them cannot be deleted.
        """
        self._check(deleted)
        return self.measure([n for n in range(len(self.names)) if n not in set(deleted)])

    def each(self) -> Iterator[tuple[str, Lesion]]:
        """Yields the name of each unit that keeps the shape, and what its deletion does."""
        for position in self.movable:
            yield self.names[position], self.without([position])

    def _check(self, positions: Sequence[int]) -> None:
        wrong = [n for n in positions if n not in self.movable]
        if wrong:
            names = ", ".join(self.names[n] for n in self.movable)
            raise ValueError(
                f"Only units that keep the shape can be deleted or moved: {names}. "
                f"Received: {wrong[0]}"
            )

    def _logits(self, images: np.ndarray, order: Sequence[int]) -> np.ndarray:
        x: Any = images
        stem, *units, head = self._chain.segments
        for segment in (stem, *(units[n] for n in order), head):
            (x,) = segment(x, training=False)
        return keras.ops.convert_to_numpy(x).astype("float64")
