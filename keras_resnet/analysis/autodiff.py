"""Gradients and Jacobians on every Keras backend; the only backend code of the analyses.

The functions that are differentiated run in a `keras.StatelessScope`: moving statistics and random
states that layers assign in it are not written back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
from keras import ops

from keras_resnet.nets.tensor import Tensor

# Rows of a Jacobian that TensorFlow computes at a time; twice as fast as one by one.
_ROWS = 32

_Loss = Callable[[list[Tensor]], Tensor]


def gradients(
    function: _Loss, inputs: Sequence[Tensor], variables: Sequence[keras.Variable]
) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """Differentiates a scalar function.

    Args:
        function: Takes a list of tensors shaped as `inputs` and returns a scalar. It may read
            `variables`.
        inputs: Tensors or arrays to differentiate with respect to.
        variables: Trainable variables to differentiate with respect to.

    Returns:
        The scalar, the gradients with respect to `inputs`, and those with respect to `variables`.
        A gradient is zero where the scalar does not depend on the input.

    Raises:
        ValueError: If the backend is not TensorFlow, JAX or PyTorch.
    """
    backend = keras.backend.backend()
    if backend not in _GRADIENTS:
        raise ValueError(
            "Derivatives need TensorFlow, JAX or PyTorch under Keras. "
            f"Received: KERAS_BACKEND={backend}"
        )
    inputs = [ops.convert_to_tensor(x) for x in inputs]
    value, computed = _GRADIENTS[backend](function, inputs, variables)
    arrays = [
        np.zeros(tuple(x.shape), "float32") if gradient is None else ops.convert_to_numpy(gradient)
        for x, gradient in zip((*inputs, *variables), computed, strict=True)
    ]
    return float(ops.convert_to_numpy(value)), arrays[: len(inputs)], arrays[len(inputs) :]


def jacobian(function: Callable[[Tensor], Tensor], x: np.ndarray) -> np.ndarray:
    """Computes the Jacobian of a vector-valued function with one backward pass per output.

    Args:
        function: Takes a tensor shaped as `x` and returns a vector.
        x: The point at which to differentiate.

    Returns:
        The derivatives, `(outputs, *x.shape)`.
    """
    rows = _JACOBIANS[keras.backend.backend()](function, ops.convert_to_tensor(x))
    return np.stack([ops.convert_to_numpy(row) for row in rows])


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Runs layers without recording gradients and without updating their variables."""
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "torch":
            import torch

            stack.enter_context(torch.no_grad())
        stack.enter_context(keras.StatelessScope())
        yield


def _tensorflow_gradients(
    function: _Loss, inputs: Sequence[Tensor], variables: Sequence[keras.Variable]
) -> tuple[Tensor, list[Tensor | None]]:
    import tensorflow as tf

    with keras.StatelessScope(), tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(list(inputs))
    return value, tape.gradient(value, [*inputs, *(v.value for v in variables)])


def _jax_gradients(
    function: _Loss, inputs: Sequence[Tensor], variables: Sequence[keras.Variable]
) -> tuple[Tensor, list[Tensor | None]]:
    import jax

    def stateless(inputs: list[Tensor], values: list[Tensor]) -> Tensor:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(inputs)

    values = [v.value for v in variables]
    value, (at_inputs, at_variables) = jax.value_and_grad(stateless, argnums=(0, 1))(
        list(inputs), values
    )
    return value, [*at_inputs, *at_variables]


def _torch_gradients(
    function: _Loss, inputs: Sequence[Tensor], variables: Sequence[keras.Variable]
) -> tuple[Tensor, list[Tensor | None]]:
    import torch

    inputs = [x.detach().requires_grad_() for x in inputs]
    with keras.StatelessScope():
        value = function(list(inputs))
    sources = [*inputs, *(v.value for v in variables)]
    computed = torch.autograd.grad(value, sources, allow_unused=True)
    return value.detach(), [None if each is None else each.detach() for each in computed]


def _tensorflow_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    import tensorflow as tf

    @tf.function
    def rows(indices: Tensor) -> Tensor:
        with keras.StatelessScope(), tf.GradientTape() as tape:
            tape.watch(x)
            values = tf.gather(function(x), indices)
        return tape.jacobian(values, x)

    with keras.StatelessScope():
        outputs = function(x).shape[0]
    starts = range(0, outputs, _ROWS)
    return [row for start in starts for row in rows(tf.range(start, min(start + _ROWS, outputs)))]


def _jax_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    import jax

    def stateless(x: Tensor) -> Tensor:
        with keras.StatelessScope():
            return function(x)

    value, pullback = jax.vjp(stateless, x)
    pullback = jax.jit(pullback)
    return [pullback(unit)[0] for unit in np.eye(value.shape[0], dtype="float32")]


def _torch_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    import torch

    x = x.detach().requires_grad_()
    with keras.StatelessScope():
        value = function(x)
    return [torch.autograd.grad(each, x, retain_graph=True)[0] for each in value]


_GRADIENTS = {
    "tensorflow": _tensorflow_gradients,
    "jax": _jax_gradients,
    "torch": _torch_gradients,
}
_JACOBIANS = {"tensorflow": _tensorflow_rows, "jax": _jax_rows, "torch": _torch_rows}
