"""Predictions that a run's report shows as pictures."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec

from .data import Source, raw_images

_CANDIDATES = 1024
_BATCH = 32
_PAIRS, _PER_PAIR = 20, 3


def pick_samples(
    model: Any, source: Source, preprocess: PreprocessSpec, count: int = 24
) -> dict[str, np.ndarray]:
    """Returns predictions of a split: up to half wrong ones, the most confident first, then right.

    Args:
        model: Takes normalised images and returns logits.
        source: The split.
        preprocess: The preprocessing.
        count: Number of predictions; fewer if the split is smaller.

    Returns:
        Arrays of equal length: `images` (uint8), `true`, `predicted` and `probability`. Under the
        same names with `confused_` in front, up to three images of each of the 20 most frequent
        mistakes. Nothing where an image may have several labels.
    """
    channels = model.inputs[0].shape[-1]
    images, labels = raw_images(source, preprocess, channels, _CANDIDATES)
    if labels.ndim > 1:
        return {}
    logits = _logits(model, images, preprocess)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong])]
    confused = _of_pairs(wrong, labels[wrong], predicted[wrong])
    wrong = wrong[: count // 2]
    right = np.flatnonzero(predicted == labels)
    evenly = np.linspace(0, len(right) - 1, min(len(right), count - len(wrong))).astype("int64")
    columns = {
        "images": images,
        "true": labels,
        "predicted": predicted,
        "probability": confidence,
    }
    chosen = np.concatenate([wrong, right[evenly]])
    return {
        **{name: values[chosen] for name, values in columns.items()},
        **{f"confused_{name}": values[confused] for name, values in columns.items()},
    }


def _logits(model: Any, images: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    """Returns logits of uint8 images; `predict` would take longer to prepare than to compute."""
    import tensorflow as tf

    shape = tf.TensorSpec((None, *images.shape[1:]))
    run = tf.function(partial(model, training=False), input_signature=[shape], autograph=False)
    starts = range(0, len(images), _BATCH)
    return np.concatenate(
        [run(preprocess.normalize(images[start : start + _BATCH])) for start in starts]
    )


def _of_pairs(numbers: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the first examples of each of the most frequent pairs of classes."""
    if not len(numbers):
        return numbers
    pairs = np.stack([true, predicted], axis=1)
    _, which, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    most = np.argsort(-counts, kind="stable")[:_PAIRS]
    chosen = [numbers[which == pair][:_PER_PAIR] for pair in most]
    return np.concatenate(chosen)
