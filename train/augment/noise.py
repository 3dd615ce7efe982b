"""AlexNet's noise: an image's colours are shifted along principal components of ImageNet's."""

from __future__ import annotations

from typing import Any

DEVIATIONS = (0.2175, 0.0188, 0.0045)
"""Square roots of the eigenvalues of the covariance of ImageNet's RGB values, of 1."""

COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
"""The eigenvectors as columns; rows are R, G, B.

Source of both: fb.resnet.torch, `datasets/imagenet.lua` (`pca`).
"""


def color_shifts(strength: float, normal: Any) -> Any:
    """Returns the shift of each image's red, green and blue, in pixel values of 255.

    Args:
        strength: Standard deviation of each component's factor; 0.1 in the paper.
        normal: Standard normal variates, `(batch, 3)`.

    Source: Krizhevsky et al. 2012, section 4.1.
    """
    import tensorflow as tf

    scaled = normal * strength * tf.constant(DEVIATIONS)
    return 255 * tf.matmul(scaled, tf.constant(COMPONENTS), transpose_b=True)
