"""The singular values of what a net does to a small change on its way through all units."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import jacobian, without_gradients
from keras_resnet.analysis.chain import Chain, as_images
from keras_resnet.nets.model import ResNet

MAX_OUTPUTS = 4096
"""Outputs up to which a Jacobian is computed: each takes a pass backward."""


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """The singular values of a Jacobian.

    Attributes:
        values: All of them, the largest first.
        inputs: Size of the vector that is changed.
        outputs: Size of the vector that follows it.
    """

    values: tuple[float, ...]
    inputs: int
    outputs: int

    @property
    def largest(self) -> float:
        """How much the direction grows that grows most."""
        return self.values[0]

    @property
    def median(self) -> float:
        """Half of the directions grow less; 0 where rectifiers shut off half of the outputs."""
        return float(np.median(self.values))

    @property
    def rank(self) -> int:
        """Singular values that float32 can tell from zero."""
        return len(self._kept())

    @property
    def condition(self) -> float:
        """The largest singular value over the smallest that is not zero."""
        return float(self.values[0] / self._kept()[-1]) if self.rank else float("nan")

    @property
    def log_spread(self) -> float:
        """Standard deviation of the natural logarithms of those that are not zero.

        0 is dynamical isometry: all directions grow or shrink alike.
        """
        return float(np.log(self._kept()).std()) if self.rank else float("nan")

    def _kept(self) -> np.ndarray:
        values = np.asarray(self.values)
        noise = values[0] * max(self.inputs, self.outputs) * np.finfo("float32").eps
        return values[values > noise]


def jacobian_singular_values(model: ResNet | Chain, images: Any, *, example: int = 0) -> Spectrum:
    """Measures how one example's last unit output depends on the stem's output.

    The net runs as in training, norms with the statistics of this batch; the other examples stay
    fixed, and that the example itself moves the statistics is part of the derivative. For small
    nets: each number of the last unit's output takes a pass backward.

    Args:
        model: A net made by `build`, with its classifier, or a `Chain` of one.
        images: A batch as the net takes it, `(batch, height, width, channels)`, normalised.
        example: Which of them.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If there is no such example, the last unit has more than `MAX_OUTPUTS` outputs,
            or images do not fit the net.

    Source: Saxe et al. 2013 (arXiv:1312.6120), section 3, dynamical isometry; Pennington et al.
    2017 (arXiv:1711.04735); Xiao et al. 2018 (arXiv:1806.05393), for convolutions.
    """
    chain = model if isinstance(model, Chain) else Chain(model)
    chain.refresh()
    images = as_images(chain.twin, images)
    if not 0 <= example < len(images):
        raise ValueError(
            f"`example` must be in 0..{len(images) - 1}. Received: example={example!r}"
        )
    with without_gradients():
        start = chain.segments[0](images, training=True)[0]
        outputs = int(np.prod(_run(chain, start).shape[1:]))
    if outputs > MAX_OUTPUTS:
        raise ValueError(
            f"The Jacobian is computed for at most {MAX_OUTPUTS:,} outputs: take smaller images "
            f"or a narrower net. Received: {chain.twin.name} with {outputs:,} at the last unit"
        )
    start = ops.convert_to_tensor(ops.convert_to_numpy(start))  # a constant

    def output(x: Any) -> Any:
        batch = ops.concatenate([start[:example], x, start[example + 1 :]])
        return ops.reshape(_run(chain, batch)[example], (-1,))

    found = jacobian(output, ops.convert_to_numpy(start)[example : example + 1])
    matrix = found.reshape(outputs, -1).astype("float64")
    values = np.linalg.svd(matrix, compute_uv=False)
    return Spectrum(tuple(map(float, values)), matrix.shape[1], outputs)


def _run(chain: Chain, x: Any) -> Any:
    for segment in chain.units:
        x = segment(x, training=True)[0]
    return x
