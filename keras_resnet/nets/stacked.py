"""`StackedUnits`: the units of a stage that are alike, as one layer that is traced once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.nets import unit_loop
from keras_resnet.nets.geometry import Unit, runs
from keras_resnet.nets.named_weights import Arrays, stack_name, variable_key
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.primitives import Primitives, channel_axis, own_seed
from keras_resnet.nets.residual_unit import residual_unit
from keras_resnet.nets.spec import ResNetSpec

_MOVING = ("moving_mean", "moving_variance")


@keras.saving.register_keras_serializable(package="keras_resnet")
class StackedUnits(keras.layers.Layer):
    """Several units of a stage that differ in their weights alone, in a loop.

    Each weight of the units is a row of one variable, `(units, *shape)`; the loop's body is one
    unit, traced once, so that the graph of a net does not grow with its depth. The function is
    that of the units one by one, and so are its gradients and statistics. In training each unit
    keeps its input alone and is computed again for the gradient.

    Args:
        spec: The net that the units are of, or its `to_dict()`.
        stage: Number of their stage, from 1.
        first: Number of the first of them in the stage, from 1.
        dims: Space axes of the input.
        seed: Seed of the initial weights and of the drops, each a function of it and of the name
            that the unit's layer has in the unrolled net; None draws from Keras's global seed.
        norms_trainable: Whether batch norms are trained; False freezes them as Keras does:
            they run in inference mode.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: `(batch, height, width, channels)`; unchanged.

    Raises:
        ValueError: If no units that are alike begin there.
    """

    def __init__(
        self,
        spec: ResNetSpec | Mapping[str, Any],
        stage: int,
        first: int,
        *,
        dims: int = 2,
        seed: int | None = None,
        norms_trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        self.spec = spec if isinstance(spec, ResNetSpec) else ResNetSpec.from_dict(spec)
        found = [run for run in runs(self.spec) if (run[0].stage, run[0].index) == (stage, first)]
        if not found:
            raise ValueError(
                f"No units of {self.spec.name} that are alike begin at unit {first} of stage "
                f"{stage}"
            )
        self.members = found[0]
        kwargs.setdefault("name", stack_name(f"stage{stage}", first, self.members[-1].index))
        super().__init__(**kwargs)
        self.dims = dims
        self.seed = seed
        self.seed_generator: _Seeds | None = None
        self._norms_trainable = norms_trainable

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one unit to trace, and the stacked variables."""
        model = self.make_unit((None,) * self.dims)
        stacks = {}
        for layer in model.layers:
            for weight in layer.weights:
                stacks[id(weight)] = self.add_weight(
                    name=f"{layer.name.removeprefix(self._prefix)}_{weight.name}",
                    shape=(len(self.members), *weight.shape),
                    initializer=self._initializer(layer, weight),
                    dtype=weight.dtype,
                    trainable=weight.trainable,
                    autocast=False,  # the unit's own layers cast what they are given
                )
        drawing = [layer for layer in model.layers if getattr(layer, "seed_generator", None)]
        if drawing:
            names = [[self._rename(layer, unit) for layer in drawing] for unit in self.members]
            self.seed_generator = _Seeds(
                [[_seed_state(n, self.seed) for n in row] for row in names]
            )
        seeds = [layer.seed_generator.state for layer in drawing]
        self._traced = _Traced(model, stacks, seeds)
        self._train_norms()
        self.built = True

    def make_unit(self, space: Sequence[int | None]) -> keras.Model:
        """Makes the first of the units as a model of its own, for images of this height and width.

        Where the net has stochastic depth the model takes the rate too, a scalar.
        """
        unit = self.members[0]
        channels = unit.in_channels
        shape = (channels, *space) if channel_axis() == 1 else (*space, channels)
        with dtype_policy(self.dtype_policy):
            nn = Primitives(self.spec, self.dims, self.seed)
            x = keras.Input(shape, dtype=self.compute_dtype)
            if not unit.drop_rate:
                return keras.Model(x, residual_unit(x, nn, unit), name=unit.name)
            rate = keras.Input(batch_shape=(), dtype="float32")
            y = residual_unit(x, dataclasses.replace(nn, drop_rate=rate), unit)
            return keras.Model([x, rate], y, name=unit.name)

    def call(self, x: Any, training: bool = False) -> Any:
        """Returns the last unit's output."""
        outcome = self._run(x, training=bool(training))
        if training:
            for variable, value in zip(self._state(), outcome.state, strict=True):
                variable.assign(value)
        return outcome.x

    def outputs(self, x: Any, *, training: bool = False) -> Any:
        """Returns every unit's output, `(units, batch, height, width, channels)`.

        State, such as moving statistics, stays as it is.
        """
        x = ops.convert_to_tensor(x, dtype=self.compute_dtype)
        return self._run(x, training=training, collect=True).outputs

    def _run(self, x: Any, *, training: bool, collect: bool = False) -> unit_loop.Outcome:
        unit, stacks, seeds = self._traced.model, self._traced.stacks, self._traced.seeds
        for layer in unit.layers:
            norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = self.trainable and (self.norms_trainable or not norm)
        others = unit.non_trainable_variables
        moving = [v for v in others if v.name in _MOVING]
        fixed = [v for v in others if v.name not in _MOVING and id(v) in stacks]
        rates = self._drop_rates

        def body(
            x: Any, trained: list[Any], state: list[Any], constants: list[Any]
        ) -> tuple[Any, list[Any]]:
            given = dict(zip(map(id, moving), state[1:] if seeds else state, strict=True))
            given |= {id(v): state[0][index] for index, v in enumerate(seeds)}
            given |= zip(map(id, fixed), constants[: len(fixed)], strict=True)
            y, new = unit.stateless_call(
                trained,
                [given[id(v)] for v in others],
                [x, constants[-1]] if rates else x,
                training=training,
            )
            now = dict(zip(map(id, others), new, strict=True))
            drawn = [ops.stack([now[id(v)] for v in seeds])] if seeds else []
            return y, [*drawn, *(now[id(v)] for v in moving)]

        rows = unit_loop.Rows(
            trained=[stacks[id(v)].value for v in unit.trainable_variables],
            state=[variable.value for variable in self._state()],
            constants=[stacks[id(v)].value for v in fixed]
            + ([ops.convert_to_tensor(rates, "float32")] if rates else []),
        )
        return unit_loop.run(
            body,
            x,
            rows,
            len(self.members),
            training=training,
            collect=collect,
            # Replicas that speak with one another in the body cannot do so from a loop.
            unrolled=self.spec.norm_sync and unit_loop.replicas() > 1,
        )

    def _state(self) -> list[keras.Variable]:
        """Returns what a training step changes beside the trained variables."""
        traced = self._traced
        weights = (weight for layer in traced.model.layers for weight in layer.weights)
        moving = [traced.stacks[id(weight)] for weight in weights if weight.name in _MOVING]
        return moving if self.seed_generator is None else [self.seed_generator.state, *moving]

    @property
    def _drop_rates(self) -> list[float]:
        rates = [unit.drop_rate for unit in self.members]
        return rates if rates[0] else []

    @property
    def trainable(self) -> bool:
        """Whether the units are trained; setting it goes for their norms too."""
        return bool(super().trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        self.norms_trainable = bool(value)

    @property
    def norms_trainable(self) -> bool:
        """Whether batch norms are trained; where not, they run in inference mode."""
        return self._norms_trainable

    @norms_trainable.setter
    def norms_trainable(self, value: bool) -> None:
        self._norms_trainable = value
        self._train_norms()

    def _train_norms(self) -> None:
        for variable in self.weights:
            if variable.name.endswith(("_gamma", "_beta")):
                variable.trainable = self._norms_trainable and self.trainable

    def unit_names(self) -> list[str]:
        """Returns the names of all layers of all units, those without weights too."""
        layers = [x for x in self._traced.model.layers if x.name.startswith(self._prefix)]
        return [self._rename(layer, unit) for unit in self.members for layer in layers]

    def unit_layers(self) -> Iterator[tuple[str, Any]]:
        """Yields names of the units' layers with weights, and a layer of the same form."""
        layers = [layer for layer in self._traced.model.layers if layer.weights]
        for unit in self.members:
            yield from ((self._rename(layer, unit), layer) for layer in layers)

    def read_units(self) -> dict[str, Arrays]:
        """Returns the units' weights by layer name."""
        held = self._traced.stacks
        stored: dict[str, Arrays] = {}
        for layer in self._traced.model.layers:
            stacks = [ops.convert_to_numpy(held[id(weight)].value) for weight in layer.weights]
            for index, unit in enumerate(self.members if stacks else ()):
                stored[self._rename(layer, unit)] = [stack[index] for stack in stacks]
        return stored

    def write_units(self, stored: Mapping[str, Arrays]) -> None:
        """Sets the weights of those of the units' layers that are named."""
        for layer in self._traced.model.layers:
            names = [self._rename(layer, unit) for unit in self.members]
            if stored.keys().isdisjoint(names):
                continue
            for place, weight in enumerate(layer.weights):
                variable = self._traced.stacks[id(weight)]
                had: Any = [None] * len(names)
                if not all(name in stored for name in names):
                    had = ops.convert_to_numpy(variable.value)
                variable.assign(
                    np.stack(
                        [
                            stored[name][place] if name in stored else kept
                            for name, kept in zip(names, had, strict=True)
                        ]
                    )
                )

    def save_own_variables(self, store: Any) -> None:
        """Writes the stacks under names that tell whose rows they are."""
        for key, variable in self._keys():
            store[key] = ops.convert_to_numpy(variable.value)

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote.

        Raises:
            ValueError: If the file is of other units.
        """
        wanted = {key: tuple(variable.shape) for key, variable in self._keys()}
        if set(store.keys()) != set(wanted):
            raise ValueError(
                f"Layer {self.name!r} holds {', '.join(sorted(wanted))}. "
                f"Received: a file with {', '.join(sorted(store.keys())) or 'nothing'}"
            )
        for key, variable in self._keys():
            variable.assign(store[key])

    def _keys(self) -> Iterator[tuple[str, keras.Variable]]:
        place = 0
        for layer in self._traced.model.layers:
            for weight in layer.weights:
                role = layer.name.removeprefix(self._prefix)
                yield variable_key(place, role, weight.name), self._traced.stacks[id(weight)]
                place += 1

    @property
    def _prefix(self) -> str:
        return f"{self.members[0].name}_"

    def _rename(self, layer: Any, unit: Unit) -> str:
        """Returns what a layer of the first unit is called in another one."""
        return f"{unit.name}_{layer.name.removeprefix(self._prefix)}"

    def _initializer(self, layer: Any, weight: keras.Variable) -> Callable[..., Any]:
        """Returns what gives each unit the values that it starts from in the unrolled net."""
        own: Any = getattr(layer, f"{weight.name}_initializer", None)
        config = {} if own is None else own.get_config()

        def initial(shape: tuple[int, ...], dtype: Any = None) -> Any:
            if "seed" not in config:
                # Not `broadcast_to`: on PyTorch its rows are one memory.
                return ops.stack([ops.cast(weight.value, dtype)] * len(self.members))
            seeds = (own_seed(self._rename(layer, unit), self.seed) for unit in self.members)
            return ops.stack(
                [type(own).from_config({**config, "seed": s})(shape[1:], dtype) for s in seeds]
            )

        return initial

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "spec": self.spec.to_dict(),
            "stage": self.members[0].stage,
            "first": self.members[0].index,
            "dims": self.dims,
            "seed": self.seed,
            "norms_trainable": self.norms_trainable,
        }


@dataclasses.dataclass(frozen=True)
class _Traced:
    """The unit that is traced; its variables only stand for rows of the stacks.

    A class of its own, so that Keras does not take these layers and variables for the layer's.

    Attributes:
        model: The unit.
        stacks: The layer's variables, by the identity of the unit's.
        seeds: The states of the unit's layers that draw.
    """

    model: keras.Model
    stacks: dict[int, keras.Variable]
    seeds: list[keras.Variable]


def _seed_state(name: str, seed: int | None) -> Any:
    """Returns the state that the layer's own generator would start from."""
    own = own_seed(name, seed)
    return ops.convert_to_numpy(
        keras.random.SeedGenerator(None if own is None else own % 2**31).state.value
    )


class _Seeds(keras.random.SeedGenerator):
    """The seed generators of many layers in one variable, `(units, layers, 2)`."""

    def __init__(self, states: Any) -> None:
        super().__init__(0)
        dtype = self.state.dtype
        self.state: keras.Variable = keras.Variable(
            np.asarray(states, dtype), dtype=dtype, trainable=False, name="seed_generator_state"
        )
