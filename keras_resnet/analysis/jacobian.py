"""The singular values of a network's Jacobian: how small changes grow on their way through it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import jacobian, without_gradients
from keras_resnet.analysis.chain import Chain, as_chain, as_images
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.tensor import Tensor

MAX_OUTPUTS = 4096
"""Largest number of outputs of a Jacobian; each output takes one backward pass."""


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """The singular values of a Jacobian.

    Attributes:
        values: All singular values, the largest first.
        inputs: Number of input values.
        outputs: Number of output values.

    Example:
        >>> keras_resnet.analysis.Spectrum((2.0, 1.0, 0.5), inputs=3, outputs=3).condition
        4.0
    """

    values: tuple[float, ...]
    inputs: int
    outputs: int

    @property
    def largest(self) -> float:
        """The largest singular value: the largest growth of any direction."""
        return self.values[0]

    @property
    def median(self) -> float:
        """The median singular value; 0 where ReLUs set half of the outputs to zero."""
        return float(np.median(self.values))

    @property
    def rank(self) -> int:
        """Number of singular values that differ from zero at the precision of float32."""
        return len(self._nonzero())

    @property
    def condition(self) -> float:
        """The largest singular value divided by the smallest that is not zero."""
        return float(self.values[0] / self._nonzero()[-1]) if self.rank else float("nan")

    @property
    def log_spread(self) -> float:
        """Standard deviation of the natural logarithm of the values that are not zero.

        0 means dynamical isometry: all directions grow or shrink alike.
        """
        return float(np.log(self._nonzero()).std()) if self.rank else float("nan")

    def _nonzero(self) -> np.ndarray:
        values = np.asarray(self.values)
        noise = values[0] * max(self.inputs, self.outputs) * np.finfo("float32").eps
        return values[values > noise]


def jacobian_singular_values(model: ResNet | Chain, images: Any, *, example: int = 0) -> Spectrum:
    """Computes the singular values of the map from the stem's output to the last unit's output.

    The map is that of one example of a batch. The network runs as in training: norms use the
    statistics of the batch, and the example's own effect on them is part of the derivative. Only
    for small networks: each value of the last unit's output takes one backward pass.

    Args:
        model: A network made by `build`, with its classifier, or a `Chain` of one.
        images: Network inputs, `(batch, height, width, channels)`, normalised.
        example: Index of the example in the batch.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If there is no such example, the last unit has more than `MAX_OUTPUTS` outputs,
            or `images` does not fit the network.

    Source: Saxe et al. 2013 (arXiv:1312.6120), section 3, dynamical isometry; Pennington et al.
    2017 (arXiv:1711.04735); Xiao et al. 2018 (arXiv:1806.05393), for convolutions.

    Example:
        ```python
        spectrum = keras_resnet.analysis.jacobian_singular_values(model, images)
        print(spectrum.largest, spectrum.condition)
        ```
    """
    chain = as_chain(model)
    images = as_images(chain.twin, images)
    if not 0 <= example < len(images):
        raise ValueError(
            f"`example` must be in 0..{len(images) - 1}. Received: example={example!r}"
        )
    with without_gradients():
        start = chain.segments[0](images, training=True)[0]
        outputs = int(np.prod(_run_units(chain, start).shape[1:]))
    if outputs > MAX_OUTPUTS:
        raise ValueError(
            f"The Jacobian is computed for at most {MAX_OUTPUTS:,} outputs: use smaller images or "
            f"a narrower network. Received: {chain.twin.name} with {outputs:,} at the last unit"
        )
    start = ops.convert_to_tensor(ops.convert_to_numpy(start))  # a constant

    def output(x: Tensor) -> Tensor:
        batch = ops.concatenate([start[:example], x, start[example + 1 :]])
        return ops.reshape(_run_units(chain, batch)[example], (-1,))

    derivatives = jacobian(output, ops.convert_to_numpy(start)[example : example + 1])
    matrix = derivatives.reshape(outputs, -1).astype("float64")
    values = np.linalg.svd(matrix, compute_uv=False)
    return Spectrum(tuple(map(float, values)), matrix.shape[1], outputs)


def _run_units(chain: Chain, x: Tensor) -> Tensor:
    for segment in chain.units:
        x = segment(x, training=True)[0]
    return x
