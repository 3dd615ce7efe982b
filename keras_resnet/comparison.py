"""The rule for comparing two float32 computations of the same logits.

Differences are measured in units of the spread of the reference's logits, so the rule is the same
for a fresh net with logits in the thousands and for a trained one, for exported files and for the
certificates of weights.
"""

from __future__ import annotations

import math

import numpy as np

# Largest difference between two float32 computations, in units of the spread.
EXACT = 1e-4
# The spread is at least this share of the largest logit: float32 rounds in proportion to a logit's
# size, which matters where all logits share a large offset. 1e-4 of it is 6e-6 of the logit;
# ResNet-50 with random weights differs by 2e-6 of its largest.
_LEAST_SPREAD = 1 / 16
# Two float32 computations may differ by this many times what rounding the input anew changes, up
# to a share of the spread that a wrong net exceeds.
ROUNDINGS, _MOST_ROUNDING = 4, 5e-3


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
    return min(ROUNDINGS * sensitivity, _MOST_ROUNDING)


def largest(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the largest absolute difference; NaN if a value is NaN."""
    with np.errstate(invalid="ignore"):  # of infinity minus infinity
        return float(np.abs(one.astype("float64") - other).max())


def rounded_anew(inputs: np.ndarray) -> np.ndarray:
    """Returns inputs with a relative change of at most 2^-22, as by another order of rounding."""
    relative = np.random.default_rng(0).uniform(-1, 1, inputs.shape) * 2.0**-22
    return (inputs * (1 + relative)).astype("float32")
