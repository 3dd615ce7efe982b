"""Predictions that a run's report shows as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec

from .data import Source, raw_images

_CANDIDATES = 1024


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
        Arrays of equal length: `images` (uint8), `true`, `predicted` and `probability`.
    """
    channels = model.inputs[0].shape[-1]
    images, labels = raw_images(source, preprocess, channels, _CANDIDATES)
    logits = np.asarray(model.predict(preprocess.normalize(images), verbose=0))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong])][: count // 2]
    right = np.flatnonzero(predicted == labels)
    evenly = np.linspace(0, len(right) - 1, min(len(right), count - len(wrong))).astype("int64")
    chosen = np.concatenate([wrong, right[evenly]])
    return {
        "images": images[chosen],
        "true": labels[chosen],
        "predicted": predicted[chosen],
        "probability": confidence[chosen],
    }
