"""`StackedUnits`: the units of a stage that are alike, as one layer that is traced once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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
from keras_resnet.nets.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_resnet")
class StackedUnits(keras.layers.Layer):
    """Units of a stage that differ only in their weights, run in a loop.

    Each weight of a unit becomes a row of one variable, `(units, *shape)`. The body of the loop is
    one unit, traced once, so that the graph of a network does not grow with its depth. Outputs,
    gradients and statistics are those of the units one after the other. In training only the input
    of each unit is kept; the unit is computed again for the gradient.

    Args:
        spec: The network that the units belong to, or its `to_dict()`.
        stage: Number of their stage, from 1.
        first: Number of the first unit in the stage, from 1.
        dims: Space axes of the input.
        seed: Seed of the initial weights and of the random draws. Each layer's own seed is a
            function of it and of the layer's name in the unrolled network. None draws from Keras's
            global seed.
        norms_trainable: Whether batch norms are trained. If False they are frozen as in Keras:
            they run in inference mode.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: `(batch, height, width, channels)`; unchanged.

    Raises:
        ValueError: If no run of equal units begins at `first`.

    Example:
        >>> StackedUnits(get_spec("cifar_resnet110"), stage=1, first=1).name
        'stage1_units1to18'
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
        self.members = _members(self.spec, stage, first)
        kwargs.setdefault("name", stack_name(f"stage{stage}", first, self.members[-1].index))
        super().__init__(**kwargs)
        self.dims = dims
        self.seed = seed
        self.seed_generator: _Seeds | None = None
        self._norms_trainable = norms_trainable

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the unit to trace and the stacked variables."""
        unit = self.make_unit((None,) * self.dims)
        slots = [
            _Slot(self._role(layer), weight, self._add_stack(layer, weight))
            for layer in unit.layers
            for weight in layer.weights
        ]
        drawing = [layer for layer in unit.layers if getattr(layer, "seed_generator", None)]
        if drawing:
            roles = [self._role(layer) for layer in drawing]
            names = [[_name(member, role) for role in roles] for member in self.members]
            self.seed_generator = _Seeds(
                [[_seed_state(name, self.seed) for name in row] for row in names]
            )
        self._traced = _Traced(
            unit,
            learned=[slot for slot in slots if slot.weight.trainable],
            moving=[slot for slot in slots if not slot.weight.trainable],
            slots=slots,
            seeds=[layer.seed_generator.state for layer in drawing],
        )
        self.built = True
        self._freeze_norms()

    def make_unit(self, space: Sequence[int | None]) -> keras.Model:
        """Creates the first of the units as a model of its own.

        Args:
            space: Height and width of its input; None where they vary.

        Returns:
            A model of the images, or of the images and the drop rate, a scalar, if the network has
            stochastic depth.
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

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Returns the last unit's output."""
        outcome = self._run(x, training=bool(training))
        if training:
            for variable, value in zip(self._state(), outcome.state, strict=True):
                variable.assign(value)
        return outcome.x

    def outputs(self, x: Tensor, *, training: bool = False) -> Tensor:
        """Returns every unit's output, `(units, batch, height, width, channels)`.

        The layer's state, such as moving statistics, does not change.
        """
        x = ops.convert_to_tensor(x, dtype=self.compute_dtype)
        return self._run(x, training=training, collect=True).outputs

    def _run(self, x: Tensor, *, training: bool, collect: bool = False) -> unit_loop.Outcome:
        traced = self._traced
        trained = [slot for slot in traced.learned if self._trains(slot)]
        frozen = [slot for slot in traced.learned if not self._trains(slot)]
        rates = self._drop_rates
        # The unit's variables, in the order in which `body` receives their values.
        variables = [slot.weight for slot in (*trained, *frozen, *traced.moving)] + traced.seeds

        def body(
            x: Tensor, weights: list[Tensor], state: list[Tensor], constants: list[Tensor]
        ) -> tuple[Tensor, list[Tensor]]:
            moving = state[1:] if traced.seeds else state
            seeds = [state[0][index] for index in range(len(traced.seeds))]
            values = [*weights, *constants[: len(frozen)], *moving, *seeds]
            with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
                y = traced.unit.call([x, constants[-1]] if rates else x, training=training)
            updated = [scope.get_current_value(slot.weight) for slot in traced.moving]
            if traced.seeds:
                drawn = ops.stack([scope.get_current_value(seed) for seed in traced.seeds])
                updated = [drawn, *updated]
            return y, updated

        constants = [slot.stack.value for slot in frozen]
        if rates:
            constants.append(ops.convert_to_tensor(rates, "float32"))
        return unit_loop.run(
            body,
            x,
            unit_loop.Rows(
                trained=[slot.stack.value for slot in trained],
                state=[variable.value for variable in self._state()],
                constants=constants,
            ),
            len(self.members),
            training=training,
            collect=collect,
            # Replicas cannot average their statistics from inside a loop.
            unrolled=self.spec.norm_sync and unit_loop.replicas() > 1,
        )

    def _trains(self, slot: _Slot) -> bool:
        return self.trainable and slot.stack.trainable

    def _state(self) -> list[keras.Variable]:
        """Returns the variables that a training step changes besides the trained ones."""
        moving = [slot.stack for slot in self._traced.moving]
        return moving if self.seed_generator is None else [self.seed_generator.state, *moving]

    @property
    def _drop_rates(self) -> list[float]:
        """The units' drop rates; empty if none of them drops."""
        rates = [unit.drop_rate for unit in self.members]
        return rates if rates[0] else []

    @property
    def trainable(self) -> bool:
        """Whether the units are trained; setting it sets `norms_trainable` too."""
        return bool(super().trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        self.norms_trainable = bool(value)

    @property
    def norms_trainable(self) -> bool:
        """Whether batch norms are trained; if False, they run in inference mode."""
        return self._norms_trainable

    @norms_trainable.setter
    def norms_trainable(self, value: bool) -> None:
        self._norms_trainable = value
        if self.built:
            self._freeze_norms()

    def _freeze_norms(self) -> None:
        """Freezes or unfreezes the batch norms: the stacks and the traced layers that read them."""
        trained = self.norms_trainable and self.trainable
        for slot in self._traced.slots:
            if slot.weight.name in ("gamma", "beta"):
                slot.stack.trainable = trained
        for layer in self._traced.unit.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = trained

    def unit_names(self) -> list[str]:
        """Returns the names of all layers of all units, including those without weights."""
        layers = self._traced.unit.layers
        roles = [self._role(layer) for layer in layers if layer.name.startswith(self._prefix)]
        return [_name(unit, role) for unit in self.members for role in roles]

    def unit_layers(self) -> Iterator[tuple[str, Any]]:
        """Yields the name of each layer with weights, and a layer of the same shapes."""
        layers = [layer for layer in self._traced.unit.layers if layer.weights]
        for unit in self.members:
            yield from ((_name(unit, self._role(layer)), layer) for layer in layers)

    def read_units(self) -> dict[str, Arrays]:
        """Returns the units' weights by layer name."""
        stored: dict[str, Arrays] = {}
        for role, stacks in self._stacks_by_role().items():
            arrays = [ops.convert_to_numpy(stack.value) for stack in stacks]
            for index, unit in enumerate(self.members):
                stored[_name(unit, role)] = [array[index] for array in arrays]
        return stored

    def write_units(self, stored: Mapping[str, Arrays]) -> None:
        """Sets the weights of those of the units' layers that are named."""
        for role, stacks in self._stacks_by_role().items():
            names = [_name(unit, role) for unit in self.members]
            if stored.keys().isdisjoint(names):
                continue
            for place, stack in enumerate(stacks):
                old = ops.convert_to_numpy(stack.value)
                rows = [
                    stored[name][place] if name in stored else row
                    for name, row in zip(names, old, strict=True)
                ]
                stack.assign(np.stack(rows))

    def save_own_variables(self, store: Any) -> None:
        """Writes the stacks under keys that state the layer and variable they hold."""
        for key, stack in self._stacks_by_key().items():
            store[key] = ops.convert_to_numpy(stack.value)

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote.

        Raises:
            ValueError: If the file holds other units.
        """
        stacks = self._stacks_by_key()
        if set(store.keys()) != set(stacks):
            raise ValueError(
                f"Layer {self.name!r} holds {', '.join(sorted(stacks))}. "
                f"Received: a file with {', '.join(sorted(store.keys())) or 'nothing'}"
            )
        for key, stack in stacks.items():
            stack.assign(store[key])

    def _stacks_by_key(self) -> dict[str, keras.Variable]:
        return {
            variable_key(place, slot.role, slot.weight.name): slot.stack
            for place, slot in enumerate(self._traced.slots)
        }

    def _stacks_by_role(self) -> dict[str, list[keras.Variable]]:
        stacks: dict[str, list[keras.Variable]] = {}
        for slot in self._traced.slots:
            stacks.setdefault(slot.role, []).append(slot.stack)
        return stacks

    @property
    def _prefix(self) -> str:
        return f"{self.members[0].name}_"

    def _role(self, layer: Any) -> str:
        """Returns what follows the unit's name in the name of a layer, such as `conv1`."""
        return str(layer.name.removeprefix(self._prefix))

    def _add_stack(self, layer: Any, weight: keras.Variable) -> keras.Variable:
        """Adds the variable whose rows are the units' values of one weight."""
        return self.add_weight(
            name=f"{self._role(layer)}_{weight.name}",
            shape=(len(self.members), *weight.shape),
            initializer=self._initializer(layer, weight),
            dtype=weight.dtype,
            trainable=weight.trainable,
            autocast=False,  # the unit's own layers cast what they receive
        )

    def _initializer(self, layer: Any, weight: keras.Variable) -> Callable[..., Tensor]:
        """Returns an initializer that gives each unit its initial values of the unrolled net."""
        own: Any = getattr(layer, f"{weight.name}_initializer", None)
        config = {} if own is None else own.get_config()

        def initial(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
            if "seed" not in config:
                # Not `broadcast_to`: on PyTorch its rows share one memory.
                return ops.stack([ops.cast(weight.value, dtype)] * len(self.members))
            names = [_name(unit, self._role(layer)) for unit in self.members]
            kernels = [
                type(own).from_config({**config, "seed": own_seed(name, self.seed)})
                for name in names
            ]
            return ops.stack([kernel(shape[1:], dtype) for kernel in kernels])

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


def _members(spec: ResNetSpec, stage: int, first: int) -> tuple[Unit, ...]:
    """Returns the run of equal units that begins at unit `first` of a stage."""
    for run in runs(spec):
        if (run[0].stage, run[0].index) == (stage, first):
            return run
    raise ValueError(
        f"No run of equal units of {spec.name} begins at unit {first} of stage {stage}"
    )


def _name(unit: Unit, role: str) -> str:
    """Returns the name of a layer in the unrolled network."""
    return f"{unit.name}_{role}"


class _Slot(NamedTuple):
    """One weight of the traced unit, and the stack whose rows are its values.

    Attributes:
        role: What follows the unit's name in the name of the weight's layer, such as `conv1`.
        weight: The traced unit's variable; only its place in the graph is used.
        stack: The layer's variable, `(units, *shape)`.
    """

    role: str
    weight: keras.Variable
    stack: keras.Variable


@dataclasses.dataclass(frozen=True)
class _Traced:
    """The traced unit and the stacks that belong to its variables, in an order fixed by `build`.

    A plain object, so that Keras does not track the unit's layers and variables as the layer's own.

    Attributes:
        unit: The model of one unit.
        learned: Weights that have a gradient.
        moving: Moving statistics.
        slots: Both, in the order of the unit's layers.
        seeds: The states of the unit's layers that draw random numbers.
    """

    unit: keras.Model
    learned: list[_Slot]
    moving: list[_Slot]
    slots: list[_Slot]
    seeds: list[keras.Variable]


def _seed_state(name: str, seed: int | None) -> np.ndarray:
    """Returns the initial state of the generator of the layer `name`."""
    own = own_seed(name, seed)
    generator = keras.random.SeedGenerator(None if own is None else own % 2**31)
    return ops.convert_to_numpy(generator.state.value)


class _Seeds(keras.random.SeedGenerator):
    """The seed generators of many layers in one variable, `(units, layers, 2)`."""

    def __init__(self, states: Any) -> None:
        super().__init__(0)
        dtype = self.state.dtype
        self.state: keras.Variable = keras.Variable(
            np.asarray(states, dtype), dtype=dtype, trainable=False, name="seed_generator_state"
        )
