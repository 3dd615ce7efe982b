"""Rematerialization (gradient checkpointing): activations are computed twice instead of kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.named_weights import HoldsUnits
from keras_resnet.nets.segments import HEAD, cut, unit_ends
from keras_resnet.nets.tensor import Tensor

Grain = Literal["unit", "stage"]
# Takes trainable values, other values and the input; returns the output and the new other values.
_Stateless = Callable[[list[Tensor], list[Tensor], Tensor], tuple[Tensor, list[Tensor]]]


class Rematerialized:
    """A network that keeps only the inputs of its units or stages for backpropagation.

    All other activations are computed again when their gradient is due. That saves memory for
    about one more forward pass. Outputs, gradients and weights are those of the network, which
    shares its layers with this object and does not change. State (moving statistics, the counts of
    random draws) is updated once per call, and the second computation repeats the random draws of
    the first.

    A call `Rematerialized(model, "unit")(images)` replaces `model(images, training=True)`, under
    `tf.GradientTape`, `jax.grad` or PyTorch's autograd. The last stage is not rematerialized: its
    feature maps are the smallest, and its gradient is the first that is due.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174),
    sections 3 and 4.

    Args:
        model: A net made by `build`.
        grain: `"unit"` keeps the input of each unit and needs the least memory; `"stage"` keeps
            the input of each stage.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If `grain` is unknown, or the model has more than one input or output, as with
            `features`.

    Example:
        >>> model = build("cifar_resnet110")
        >>> logits = Rematerialized(model, "unit")(images, training=True)
    """

    def __init__(self, model: ResNet, grain: Grain = "unit") -> None:
        if grain not in get_args(Grain):
            choices = " or ".join(map(repr, get_args(Grain)))
            raise ValueError(f"`grain` must be {choices}. Received: grain={grain!r}")
        check_net(model)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(
                "`model` must have one input and one output to be rematerialized: build it without "
                f"`features`. Received: {model.name!r} with {len(model.inputs)} and "
                f"{len(model.outputs)}"
            )
        outputs = {
            f"{grain}{number}": [end]
            for number, end in enumerate(_segment_ends(model, grain), start=1)
        }
        *self._segments, self._last = cut(model, {**outputs, HEAD: [model.outputs[0]]})

    def __call__(self, images: Tensor, *, training: bool = True) -> Tensor:
        """Returns the output of `model(images, training=training)`."""
        x = images
        for segment in self._segments:
            if any(isinstance(layer, HoldsUnits) for layer in segment.layers):
                x = segment(x, training=training)  # stacked units rematerialize themselves
            else:
                x = _rematerialize(segment, x, training=training)
        return self._last(x, training=training)


def _segment_ends(model: ResNet, grain: Grain) -> list[Tensor]:
    """Returns the tensors that end the rematerialized segments."""
    ends = unit_ends(model)
    last_stage = _stage(list(ends)[-1])
    if grain == "stage":
        # Later units of a stage replace earlier ones. The stem keeps little beside a stage: it is
        # computed again with the first.
        stages = {_stage(name): end for name, end in ends.items()}
        return [end for stage, end in stages.items() if stage not in ("stem", last_stage)]
    before_last_stage = [end for name, end in ends.items() if _stage(name) != last_stage]
    # In a network of one stage only the last unit is not rematerialized.
    return before_last_stage if len(before_last_stage) > 1 else list(ends.values())[:-1]


def _stage(unit: str) -> str:
    return unit.split("_")[0]


def _rematerialize(segment: keras.Model, x: Tensor, *, training: bool) -> Tensor:
    """Runs a segment and keeps only its input for the gradient."""
    # Copies: PyTorch assigns in place, and the second computation must start from the old values.
    trainable = [ops.convert_to_tensor(variable.value) for variable in segment.trainable_variables]
    state = [ops.copy(variable.value) for variable in segment.non_trainable_variables]

    def run(trainable: list[Tensor], state: list[Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return segment.stateless_call(trainable, state, x, training=training)

    # TensorFlow watches the gradient of floats only.
    x = ops.convert_to_tensor(x, dtype=segment.inputs[0].dtype)
    remat = _tensorflow_remat if keras.backend.backend() == "tensorflow" else keras.remat
    y, updated = remat(run)(trainable, state, x)
    for variable, value in zip(segment.non_trainable_variables, updated, strict=True):
        variable.assign(value)
    return y


def _tensorflow_remat(run: _Stateless) -> _Stateless:
    """Returns `keras.remat(run)` for TensorFlow and functions with integers among their values.

    `keras.remat` is `tf.recompute_grad` there, which would watch the states of seed generators.
    """
    import tensorflow as tf

    def call(
        trainable: list[Tensor], state: list[Tensor], x: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        count = len(trainable)

        # All values are arguments: TensorFlow takes captured values for hidden arguments.
        @tf.custom_gradient
        def flat(x: Tensor, *values: Tensor) -> Any:
            weights, state = list(values[:count]), list(values[count:])
            # In eager mode a tape would keep what it sees here.
            unwatched = [tf.stop_gradient(weight) for weight in weights]
            y, updated = run(unwatched, state, tf.stop_gradient(x))

            def backward(upstream: Tensor, *unused: Tensor) -> list[Tensor | None]:
                later = _after(upstream, x)
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch([later, *weights])
                    y, _ = run(weights, state, later)
                gradients = tape.gradient(y, [later, *weights], output_gradients=upstream)
                return [*gradients, *[None] * len(state)]

            return (y, *updated), backward

        y, *updated = flat(x, *trainable, *state)
        return y, updated

    return call


def _after(upstream: Tensor, x: Tensor) -> Tensor:
    """Returns `x` as a value that depends on the upstream gradient.

    Otherwise TensorFlow finds the same computation twice, runs it once and keeps the results. XLA
    ignores control dependencies, so a zero that depends on the gradient is added. Compilers cannot
    foresee that it is zero, and it is zero for gradients that are not finite too.
    """
    import tensorflow as tf

    first = tf.reduce_max(tf.reshape(upstream, [-1])[:1])
    return x + tf.cast(first > float("inf"), x.dtype)
