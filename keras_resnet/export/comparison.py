"""Statistics of compared logits: margins, signal-to-noise ratio, and shares of few images.

The unit of differences is that of `keras_resnet.comparison`. A class that changed counts only where
the reference's margin exceeds twice the permitted difference: below that, either class is right.
Shares of few images are compared with their limit by a test at 5 %.
"""

from __future__ import annotations

import math

import numpy as np

from keras_resnet.comparison import centred as centred
from keras_resnet.comparison import permitted_by as permitted_by
from keras_resnet.comparison import ratio as ratio
from keras_resnet.comparison import spread_of as spread_of

_SIGNIFICANCE = 0.05
_LEAST_PROBABILITY = 1e-6


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, float64."""
    x = np.exp(logits.astype("float64") - logits.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities of labels that do not exclude one another, float64."""
    return 0.5 * (1 + np.tanh(logits.astype("float64") / 2))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logits of such probabilities, between those of 1e-6 and of 1 - 1e-6."""
    x = np.clip(probabilities.astype("float64"), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.log(x) - np.log1p(-x)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithms of probabilities, which are logits again, down to 1e-6."""
    return np.log(np.maximum(probabilities.astype("float64"), _LEAST_PROBABILITY))


def signal_to_noise(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Returns the signal-to-noise ratio of outputs, dB; infinite where they are equal.

    The signal is the root mean square of the centred expected outputs, the noise that of the
    difference.
    """
    with np.errstate(invalid="ignore"):
        noise = math.sqrt(np.mean((outputs.astype("float64") - expected) ** 2))
        signal = math.sqrt(np.mean(centred(expected) ** 2))
    if noise == 0:
        return math.inf
    return 20 * math.log10(signal / noise) if signal > 0 else -math.inf


def changed_margins(outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns the reference's margins of the images whose top-1 class changed, largest first.

    The margin is the expected logit of the expected class minus that of the class that came out.
    """
    ours, theirs = outputs.argmax(1), expected.argmax(1)
    rows = np.flatnonzero(ours != theirs)
    margins = expected[rows, theirs[rows]].astype("float64") - expected[rows, ours[rows]]
    return np.sort(margins)[::-1]


def changed_labels(
    outputs: np.ndarray, expected: np.ndarray, threshold: float
) -> tuple[float, np.ndarray, int]:
    """Compares the labels that nets of several labels per image give: outputs above a threshold.

    Labels that neither gives do not count: nearly all of many labels are such.

    Returns:
        The share of the labels that either gives which both give, the reference's distances from
        the threshold where only one does, largest first, and the number that either gives.
    """
    ours, theirs = outputs > threshold, expected > threshold
    either = int(np.sum(ours | theirs))
    margins = np.abs(expected[ours != theirs].astype("float64") - threshold)
    agreement = 1 - len(margins) / either if either else 1.0
    return agreement, np.sort(margins)[::-1], either


def exceeds_by_more_than_chance(count: int, total: int, share: float) -> bool:
    """Whether `count` of `total` is more than a share that chance explains (binomial test, 5 %)."""
    if count <= share * total:
        return False
    return _binomial_tail(count, total, share) < _SIGNIFICANCE


def loses_by_more_than_chance(lost: int, gained: int) -> bool:
    """Whether more images were lost than gained by more than chance (sign test, 5 %)."""
    return _binomial_tail(lost, lost + gained, 0.5) < _SIGNIFICANCE


def _binomial_tail(count: int, total: int, share: float) -> float:
    """Returns the probability of `count` or more successes in `total` trials."""
    if share <= 0:
        return 0.0 if count > 0 else 1.0
    if share >= 1:
        return 1.0
    log_share, log_rest = math.log(share), math.log1p(-share)
    return sum(
        math.exp(
            math.lgamma(total + 1)
            - math.lgamma(k + 1)
            - math.lgamma(total - k + 1)
            + k * log_share
            + (total - k) * log_rest
        )
        for k in range(count, total + 1)
    )
