"""Runs one body over the rows of stacked weights: a loop in the graph, traced once.

The gradient keeps the input of each turn and computes the rest again, turn by turn, so that memory
grows by one tensor a turn. What the body says of its state (moving statistics, random seeds) is
taken from the forward pass alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

# Called with x, a row of what is trained, of the state, and of the constants; returns the next x
# and the next state.
Body = Callable[[Any, list[Any], list[Any], list[Any]], tuple[Any, list[Any]]]


# Turns that TensorFlow may have under way at once: a weight's gradient need not wait for the turn
# before it to end. A step is a tenth faster than with 1; more than 4 takes memory alone.
_OVERLAP = 4


class Rows(NamedTuple):
    """What the turns differ in; the first axis of each tensor counts the turns.

    Attributes:
        trained: Has a gradient.
        state: The body may return other values of it.
        constants: Has neither.
    """

    trained: list[Any]
    state: list[Any]
    constants: list[Any]


class Outcome(NamedTuple):
    """What a loop leaves.

    Attributes:
        x: The last turn's output.
        state: The new state, a row a turn.
        outputs: Every turn's output, `(turns, batch, ...)`, where they were asked for.
    """

    x: Any
    state: list[Any]
    outputs: Any | None


def run(
    body: Body,
    x: Any,
    rows: Rows,
    turns: int,
    *,
    training: bool,
    collect: bool = False,
    unrolled: bool = False,
) -> Outcome:
    """Runs the body over all rows in turn.

    Args:
        body: Keeps shape and dtype of `x`.
        x: What the first turn starts from.
        rows: See `Rows`.
        turns: How many there are.
        training: Whether a gradient will be asked for; without, it can be had, but slowly.
        collect: Whether every turn's output is returned.
        unrolled: Whether the graph is to hold every turn: for what a loop cannot hold.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow" and not unrolled:
        rows = _values(rows)
        if training and not collect:
            return _recomputing_loop(body, x, rows, turns)
        y, state, seen = _while_loop(body, x, rows, turns, keep=collect)
        return Outcome(y, state, seen.stack()[1:] if collect else None)
    if backend == "jax" and not unrolled:
        return _scan(body, x, rows, collect)
    return _in_python(body, x, rows, turns, collect)


def replicas() -> int:
    """Returns the number of replicas of the `tf.distribute` strategy in whose scope this runs."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def _scan(body: Body, x: Any, rows: Rows, collect: bool) -> Outcome:
    import jax

    def turn(x: Any, row: Rows) -> tuple[Any, tuple[list[Any], Any]]:
        y, state = body(x, *row)
        return y, (state, y if collect else None)

    y, (state, outputs) = jax.lax.scan(jax.checkpoint(turn), x, rows)
    return Outcome(y, state, outputs)


def _in_python(body: Body, x: Any, rows: Rows, turns: int, collect: bool) -> Outcome:
    """For PyTorch, whose graph is the program itself."""
    states, outputs = [], []
    # `unstack`, not a row at a time: the gradient of a row is a whole tensor of zeros.
    by_turn = [[ops.unstack(tensor, turns) for tensor in part] for part in rows]
    for turn in range(turns):
        x, state = body(x, *([tensor[turn] for tensor in part] for part in by_turn))
        states.append(state)
        outputs.append(x)
    stacked = [ops.stack(column) for column in zip(*states, strict=True)]
    return Outcome(x, stacked, ops.stack(outputs) if collect else None)


def _values(rows: Rows) -> Rows:
    """Reads variables, which a custom gradient would want to be told of."""
    import tensorflow as tf

    return Rows(*([tf.convert_to_tensor(tensor) for tensor in part] for part in rows))


def _row(tensors: Sequence[Any], turn: Any) -> list[Any]:
    return [tensor[turn] for tensor in tensors]


def _arrays(tensors: Sequence[Any], turns: int) -> list[Any]:
    import tensorflow as tf

    return [tf.TensorArray(t.dtype, turns, element_shape=t.shape[1:]) for t in tensors]


def _while_loop(
    body: Body, x: Any, rows: Rows, turns: int, *, keep: bool
) -> tuple[Any, list[Any], Any]:
    """Returns the last output, the new state and, where kept, what went into each turn."""
    import tensorflow as tf

    shape = x.shape
    # Not cleared after reading: a persistent tape may ask twice.
    seen = tf.TensorArray(
        x.dtype, turns + 1 if keep else 0, element_shape=shape, clear_after_read=False
    )

    def turn(index: Any, x: Any, seen: Any, states: list[Any]) -> tuple[Any, ...]:
        y, state = body(x, *(_row(part, index) for part in rows))
        y = tf.ensure_shape(y, shape)
        states = [array.write(index, new) for array, new in zip(states, state, strict=True)]
        return index + 1, y, seen.write(index + 1, y) if keep else seen, states

    _, y, seen, states = tf.while_loop(
        lambda index, *_: index < turns,
        turn,
        (tf.constant(0), x, seen.write(0, x) if keep else seen, _arrays(rows.state, turns)),
        parallel_iterations=_OVERLAP,
        maximum_iterations=turns,
    )
    return y, [array.stack() for array in states], seen


def _recomputing_loop(body: Body, x: Any, rows: Rows, turns: int) -> Outcome:
    """For TensorFlow, whose own gradient of a loop keeps everything and adds up whole stacks."""
    import tensorflow as tf

    shape = x.shape

    @tf.custom_gradient
    def loop(x: Any, *trained: Any) -> Any:
        given = rows._replace(trained=list(trained))
        y, state, seen = _while_loop(body, x, given, turns, keep=True)

        def gradient(above: Any, *_: Any) -> Any:
            def turn(index: Any, above: Any, gradients: list[Any]) -> tuple[Any, ...]:
                own, *rest = (_row(part, index) for part in given)
                x = seen.read(index)
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch([x, *own])
                    y, _ = body(x, own, *rest)
                below, *found = tape.gradient(
                    y, [x, *own], above, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
                found = [
                    array.write(index, new) for array, new in zip(gradients, found, strict=True)
                ]
                return index - 1, tf.ensure_shape(below, shape), found

            _, below, gradients = tf.while_loop(
                lambda index, *_: index >= 0,
                turn,
                (tf.constant(turns - 1), above, _arrays(trained, turns)),
                parallel_iterations=_OVERLAP,
                maximum_iterations=turns,
            )
            return below, *(array.stack() for array in gradients)

        return (y, *state), gradient

    y, *state = loop(x, *rows.trained)
    return Outcome(y, state, None)
