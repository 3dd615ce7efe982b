"""Derivatives on every backend of Keras: the one place here that speaks to the backends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

_ROWS = 32  # of a Jacobian, that TensorFlow finds side by side: half the time of one by one

# What is differentiated writes nothing: in a `StatelessScope` the moving statistics and random
# states that layers assign stay as they were.


def gradients(
    function: Callable[[list[Any]], Any], inputs: Sequence[Any], variables: Sequence[keras.Variable]
) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """Differentiates a scalar.

    Args:
        function: Takes tensors like `inputs` and returns a scalar; may read `variables`.
        inputs: Tensors.
        variables: Trainable variables.

    Returns:
        The scalar, and its gradients with respect to inputs and variables; zeros where it does
        not depend on one.
    """
    backend = keras.backend.backend()
    find = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}.get(backend)
    if find is None:
        raise ValueError(
            "Derivatives need TensorFlow, JAX or PyTorch under Keras. "
            f"Received: KERAS_BACKEND={backend}"
        )
    inputs = [ops.convert_to_tensor(x) for x in inputs]
    value, found = find(function, inputs, variables)
    arrays = [
        np.zeros(tuple(x.shape), "float32") if gradient is None else ops.convert_to_numpy(gradient)
        for x, gradient in zip((*inputs, *variables), found, strict=True)
    ]
    return float(ops.convert_to_numpy(value)), arrays[: len(inputs)], arrays[len(inputs) :]


def jacobian(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """Returns the derivatives of a vector, `(outputs, *x.shape)`, an output at a time.

    Args:
        function: Takes a tensor like `x` and returns a vector.
        x: Where to differentiate.
    """
    backend = keras.backend.backend()
    rows = {"tensorflow": _tensorflow_rows, "jax": _jax_rows, "torch": _torch_rows}[backend]
    return np.stack([ops.convert_to_numpy(row) for row in rows(function, ops.convert_to_tensor(x))])


@contextlib.contextmanager
def without_gradients() -> Any:
    """A scope in which layers run and nothing is kept to differentiate or written to them."""
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "torch":
            import torch

            stack.enter_context(torch.no_grad())
        stack.enter_context(keras.StatelessScope())
        yield


def _tensorflow(function: Any, inputs: Sequence[Any], variables: Sequence[Any]) -> tuple[Any, Any]:
    import tensorflow as tf

    with keras.StatelessScope(), tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(list(inputs))
    return value, tape.gradient(value, [*inputs, *(v.value for v in variables)])


def _jax(function: Any, inputs: Sequence[Any], variables: Sequence[Any]) -> tuple[Any, Any]:
    import jax

    def pure(inputs: list[Any], values: list[Any]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(inputs)

    values = [v.value for v in variables]
    value, (first, second) = jax.value_and_grad(pure, argnums=(0, 1))(list(inputs), values)
    return value, [*first, *second]


def _torch(function: Any, inputs: Sequence[Any], variables: Sequence[Any]) -> tuple[Any, Any]:
    import torch

    inputs = [x.detach().requires_grad_() for x in inputs]
    with keras.StatelessScope():
        value = function(list(inputs))
    needed = [*inputs, *(v.value for v in variables)]
    return value.detach(), [
        None if found is None else found.detach()
        for found in torch.autograd.grad(value, needed, allow_unused=True)
    ]


def _tensorflow_rows(function: Any, x: Any) -> list[Any]:
    import tensorflow as tf

    @tf.function
    def some(indices: Any) -> Any:
        with keras.StatelessScope(), tf.GradientTape() as tape:
            tape.watch(x)
            values = tf.gather(function(x), indices)
        return tape.jacobian(values, x)

    with keras.StatelessScope():
        outputs = function(x).shape[0]
    return [
        row
        for start in range(0, outputs, _ROWS)
        for row in some(tf.range(start, min(start + _ROWS, outputs)))
    ]


def _jax_rows(function: Any, x: Any) -> list[Any]:
    import jax

    def pure(x: Any) -> Any:
        with keras.StatelessScope():
            return function(x)

    value, pull = jax.vjp(pure, x)
    pull = jax.jit(pull)
    return [pull(unit)[0] for unit in np.eye(value.shape[0], dtype="float32")]


def _torch_rows(function: Any, x: Any) -> list[Any]:
    import torch

    x = x.detach().requires_grad_()
    with keras.StatelessScope():
        value = function(x)
    return [torch.autograd.grad(each, x, retain_graph=True)[0] for each in value]
