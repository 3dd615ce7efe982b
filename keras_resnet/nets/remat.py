"""Rematerialization (gradient checkpointing): activations computed twice instead of kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.named_weights import HoldsUnits
from keras_resnet.nets.segments import HEAD, cut, unit_ends

Grain = Literal["unit", "stage"]
# Of trainable values, other values and the input to the output and the new other values.
_Pure = Callable[[list[Any], list[Any], Any], tuple[Any, list[Any]]]


class Rematerialized:
    """Runs a net so that backpropagation keeps only what enters its units or its stages.

    What lies between is computed again when its gradient is due: less memory for about one forward
    pass more. Outputs, gradients and weights are those of the net, which shares its layers with
    this and is not changed. What a call leaves behind, moving statistics and the counts of random
    draws, is updated once, and the second computation draws what the first drew.

    `Rematerialized(model, "unit")(images)` stands where `model(images, training=True)` did, under
    `tf.GradientTape`, `jax.grad` or PyTorch's autograd. The last stage is run as it is: its maps
    are the smallest, and would be computed again at once.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174),
    section 3 and 4.

    Args:
        model: A net made by `build`.
        grain: `"unit"` keeps each unit's input and takes the least memory; `"stage"` keeps each
            stage's.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If `grain` is unknown, or the net has more than one input or output, as with
            `features`.
    """

    def __init__(self, model: ResNet, grain: Grain = "unit") -> None:
        if grain not in get_args(Grain):
            known = " or ".join(map(repr, get_args(Grain)))
            raise ValueError(f"`grain` must be {known}. Received: grain={grain!r}")
        check_net(model)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(
                "`model` must have one input and one output to be rematerialized: build it without "
                f"`features`. Received: {model.name!r} with {len(model.inputs)} and "
                f"{len(model.outputs)}"
            )
        ends = unit_ends(model)
        if grain == "stage":
            stages = {name.split("_")[0]: end for name, end in ends.items()}  # the last one counts
            # The stem keeps little beside a stage: it is computed again with the first.
            ends = {name: end for name, end in stages.items() if name != "stem"}
        # The last stage keeps the least, takes as long as the others and is needed first: it is run
        # with the head, and once. Of a net of one stage that is the last unit.
        last = list(ends)[-1].split("_")[0]
        starts = [end for name, end in ends.items() if name.split("_")[0] != last]
        if grain == "unit" and len(starts) < 2:
            starts = list(ends.values())[:-1]
        outputs = {f"{grain}{number}": [end] for number, end in enumerate(starts, start=1)}
        *self._again, self._last = cut(model, {**outputs, HEAD: [model.outputs[0]]})

    def __call__(self, images: Any, *, training: bool = True) -> Any:
        """Returns what `model(images, training=training)` does."""
        x = images
        for segment in self._again:
            if any(isinstance(layer, HoldsUnits) for layer in segment.layers):
                x = segment(x, training=training)  # stacked units do so by themselves
            else:
                x = _rematerialize(segment, x, training=training)
        return self._last(x, training=training)


def _rematerialize(segment: keras.Model, x: Any, *, training: bool) -> Any:
    """Runs a segment, keeping its input alone for the gradient."""
    # A copy: PyTorch assigns in place, and what is computed again must start from the old values.
    trainable = [ops.convert_to_tensor(variable.value) for variable in segment.trainable_variables]
    state = [ops.copy(variable.value) for variable in segment.non_trainable_variables]

    def run(trainable: list[Any], state: list[Any], x: Any) -> tuple[Any, list[Any]]:
        return segment.stateless_call(trainable, state, x, training=training)

    # TensorFlow watches the gradient of floats alone.
    x = ops.convert_to_tensor(x, dtype=segment.inputs[0].dtype)
    again = _recompute if keras.backend.backend() == "tensorflow" else keras.remat
    y, updated = again(run)(trainable, state, x)
    for variable, value in zip(segment.non_trainable_variables, updated, strict=True):
        variable.assign(value)
    return y


def _recompute(run: _Pure) -> _Pure:
    """`keras.remat` for TensorFlow, for functions with integers among their values.

    `tf.recompute_grad`, which that is, would watch the states of seed generators.
    """
    import tensorflow as tf

    def call(trainable: list[Any], state: list[Any], x: Any) -> tuple[Any, list[Any]]:
        count = len(trainable)

        # All are arguments: values read from variables are otherwise taken for hidden arguments.
        @tf.custom_gradient
        def flat(x: Any, *values: Any) -> Any:
            weights, state = list(values[:count]), list(values[count:])
            # Outside a graph a tape would hold on to what it sees here.
            blind = [tf.stop_gradient(weight) for weight in weights]
            y, updated = run(blind, state, tf.stop_gradient(x))

            def backward(upstream: Any, *unused: Any) -> list[Any]:
                later = _after(upstream, x)
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch([later, *weights])
                    y, _ = run(weights, state, later)
                gradients = tape.gradient(y, [later, *weights], output_gradients=upstream)
                return [*gradients, *[None] * len(state)]

            return (y, *updated), backward

        y, *after = flat(x, *trainable, *state)
        return y, after

    return call


def _after(upstream: Any, x: Any) -> Any:
    """Returns `x` as a value that is not there before the gradient is.

    Without, TensorFlow sees the same computation twice, does it once and keeps the results. XLA
    does not heed control dependencies, so the input is made to depend on the gradient: by a zero
    that compilers do not foresee, and that is one where the gradient is not finite too.
    """
    import tensorflow as tf

    first = tf.reduce_max(tf.reshape(upstream, [-1])[:1])
    return x + tf.cast(first > float("inf"), x.dtype)
