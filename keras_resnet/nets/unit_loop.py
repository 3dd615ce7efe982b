"""A loop that runs one body over the rows of stacked weights and is traced once.

For the gradient it keeps the input of each iteration and computes the rest again, so that memory
grows by one tensor per iteration. State that the body returns (moving statistics, random seeds) is
taken from the forward pass only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_resnet.nets.tensor import Tensor

# Takes x and one row each of the trained tensors, the state and the constants; returns the next x
# and the next state.
Body = Callable[[Tensor, list[Tensor], list[Tensor], list[Tensor]], tuple[Tensor, list[Tensor]]]

# Iterations that TensorFlow may run at once: the gradient of a weight need not wait for the
# iteration before it to end. A step is 10 % faster than with 1; more than 4 only takes memory.
_PARALLEL = 4


class Rows(NamedTuple):
    """The tensors that differ between iterations, one iteration per index of the first axis.

    Attributes:
        trained: Tensors that have a gradient.
        state: Tensors of which the body may return other values.
        constants: Tensors with neither.
    """

    trained: list[Tensor]
    state: list[Tensor]
    constants: list[Tensor]


class Outcome(NamedTuple):
    """The result of a loop.

    Attributes:
        x: Output of the last iteration.
        state: The new state, one row per iteration.
        outputs: Every iteration's output, `(count, batch, ...)`; None unless collected.
    """

    x: Tensor
    state: list[Tensor]
    outputs: Tensor | None


def run(
    body: Body,
    x: Tensor,
    rows: Rows,
    count: int,
    *,
    training: bool,
    collect: bool = False,
    unrolled: bool = False,
) -> Outcome:
    """Runs the body over all rows in order.

    Args:
        body: Function of one iteration; keeps the shape and dtype of `x`.
        x: Input of the first iteration.
        rows: See `Rows`.
        count: Number of iterations.
        training: Whether a gradient will be computed. With False it can be, but slowly.
        collect: Whether to return every iteration's output.
        unrolled: Whether the graph holds every iteration, for operations that cannot run in a
            loop.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow" and not unrolled:
        rows = _values(rows)
        if training and not collect:
            return _recomputing_loop(body, x, rows, count)
        y, state, inputs = _while_loop(body, x, rows, count, keep=collect)
        return Outcome(y, state, inputs.stack()[1:] if collect else None)
    if backend == "jax" and not unrolled:
        return _scan(body, x, rows, collect)
    return _python_loop(body, x, rows, count, collect)


def replicas() -> int:
    """Returns the number of replicas of the current `tf.distribute` strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def _scan(body: Body, x: Tensor, rows: Rows, collect: bool) -> Outcome:
    import jax

    def iterate(x: Tensor, row: Rows) -> tuple[Tensor, tuple[list[Tensor], Tensor | None]]:
        y, state = body(x, *row)
        return y, (state, y if collect else None)

    y, (state, outputs) = jax.lax.scan(jax.checkpoint(iterate), x, rows)
    return Outcome(y, state, outputs)


def _python_loop(body: Body, x: Tensor, rows: Rows, count: int, collect: bool) -> Outcome:
    """Runs the loop in Python: on PyTorch, and where it must be unrolled."""
    states, outputs = [], []
    # `unstack`, not indexing: the gradient of an indexed row is a whole tensor of zeros.
    unstacked = [[ops.unstack(tensor, count) for tensor in part] for part in rows]
    for index in range(count):
        x, state = body(x, *(_row(part, index) for part in unstacked))
        states.append(state)
        outputs.append(x)
    stacked = [ops.stack(column) for column in zip(*states, strict=True)]
    return Outcome(x, stacked, ops.stack(outputs) if collect else None)


def _values(rows: Rows) -> Rows:
    """Reads variables, which a custom gradient would otherwise require as arguments."""
    import tensorflow as tf

    return Rows(*([tf.convert_to_tensor(tensor) for tensor in part] for part in rows))


def _row(tensors: Sequence[Any], index: Any) -> list[Tensor]:
    return [tensor[index] for tensor in tensors]


def _arrays(tensors: Sequence[Tensor], count: int) -> list[Any]:
    import tensorflow as tf

    return [tf.TensorArray(t.dtype, count, element_shape=t.shape[1:]) for t in tensors]


def _while_loop(
    body: Body, x: Tensor, rows: Rows, count: int, *, keep: bool
) -> tuple[Tensor, list[Tensor], Any]:
    """Returns the last output, the new state and, if `keep`, the inputs and the last output."""
    import tensorflow as tf

    shape = x.shape
    # Not cleared after reading: a persistent tape may read twice.
    inputs = tf.TensorArray(
        x.dtype, count + 1 if keep else 0, element_shape=shape, clear_after_read=False
    )

    def iterate(index: Tensor, x: Tensor, inputs: Any, states: list[Any]) -> tuple[Any, ...]:
        y, state = body(x, *(_row(part, index) for part in rows))
        y = tf.ensure_shape(y, shape)
        states = [array.write(index, new) for array, new in zip(states, state, strict=True)]
        return index + 1, y, inputs.write(index + 1, y) if keep else inputs, states

    _, y, inputs, states = tf.while_loop(
        lambda index, *_: index < count,
        iterate,
        (tf.constant(0), x, inputs.write(0, x) if keep else inputs, _arrays(rows.state, count)),
        parallel_iterations=_PARALLEL,
        maximum_iterations=count,
    )
    return y, [array.stack() for array in states], inputs


def _recomputing_loop(body: Body, x: Tensor, rows: Rows, count: int) -> Outcome:
    """Runs the loop on TensorFlow with a gradient of our own.

    TensorFlow's gradient of a loop keeps every intermediate and adds up whole stacks.
    """
    import tensorflow as tf

    shape = x.shape

    @tf.custom_gradient
    def loop(x: Tensor, *trained: Tensor) -> Any:
        given = rows._replace(trained=list(trained))
        y, state, inputs = _while_loop(body, x, given, count, keep=True)

        def gradient(upstream: Tensor, *_: Tensor) -> list[Tensor]:
            return _backward_loop(body, inputs, given, upstream, count, shape)

        return (y, *state), gradient

    y, *state = loop(x, *rows.trained)
    return Outcome(y, state, None)


def _backward_loop(
    body: Body, inputs: Any, rows: Rows, upstream: Tensor, count: int, shape: Any
) -> list[Tensor]:
    """Returns the gradients with respect to `x` and the trained tensors, last iteration first."""
    import tensorflow as tf

    def iterate(index: Tensor, upstream: Tensor, arrays: list[Any]) -> tuple[Any, ...]:
        trained, *rest = (_row(part, index) for part in rows)
        x = inputs.read(index)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, *trained])
            y, _ = body(x, trained, *rest)
        at_x, *at_trained = tape.gradient(
            y, [x, *trained], upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        arrays = [array.write(index, new) for array, new in zip(arrays, at_trained, strict=True)]
        return index - 1, tf.ensure_shape(at_x, shape), arrays

    _, at_x, arrays = tf.while_loop(
        lambda index, *_: index >= 0,
        iterate,
        (tf.constant(count - 1), upstream, _arrays(rows.trained, count)),
        parallel_iterations=_PARALLEL,
        maximum_iterations=count,
    )
    return [at_x, *(array.stack() for array in arrays)]
