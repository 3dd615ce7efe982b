"""The rule for comparing two computations of the same logits.

Differences are measured in units of the spread of the reference's logits, so the rule is the same
for a fresh net with logits in the thousands and for a trained one. A class that changed counts only
where the reference's margin exceeds twice the permitted difference: below that, either class is
right. Shares of few images are compared with their limit by a test at 5 %.
"""

from __future__ import annotations

import math

import numpy as np

# The spread is at least this share of the largest logit: float32 rounds in proportion to a logit's
# size, which matters where all logits share a large offset. 1e-4 of it is 6e-6 of the logit;
# ResNet-50 with random weights differs by 2e-6 of its largest.
_LEAST_SPREAD = 1 / 16
_SIGNIFICANCE = 0.05
# Two float32 computations may differ by this many times what rounding the input anew changes, up
# to a share of the spread that a wrong net exceeds.
_ROUNDINGS, _MOST_ROUNDING = 4, 5e-3
_LEAST_PROBABILITY = 1e-6


def centred(logits: np.ndarray) -> np.ndarray:
    """Returns logits minus their mean over the classes, which a softmax ignores; float64.

    One output alone is centred over the images.
    """
    x = logits.astype("float64")
    return x - x.mean(axis=0 if x.shape[-1] == 1 else -1, keepdims=True)


def spread_of(logits: np.ndarray) -> float:
    """Returns the spread of logits, the unit of differences.

    It is the standard deviation over the classes, as a root mean square over the images, or 1/16
    of the largest absolute logit if that is more.
    """
    with np.errstate(invalid="ignore"):
        deviation = math.sqrt(np.mean(centred(logits) ** 2))
    return max(deviation, _LEAST_SPREAD * float(np.abs(logits).max()))


def ratio(value: float, unit: float) -> float:
    """Returns `value / unit`; 0 for two zeros, so that equal constants do not differ."""
    if unit == 0:
        return 0.0 if value == 0 else math.inf
    return value / unit


def permitted_by(sensitivity: float) -> float:
    """Returns the difference that a net's own sensitivity to rounding explains."""
    return min(_ROUNDINGS * sensitivity, _MOST_ROUNDING)


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
