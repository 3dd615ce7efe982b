"""The candidates of a space around a base: from a tuner's values to fields of a run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from keras_resnet import ResNetSpec

from ..config import RunConfig
from ..rundir import spec_of
from .space import Axis, Choice, Factor, Space, scaled

Values = Mapping[str, Any]


class Candidates:
    """The candidates of a space around a base.

    Args:
        space: The axes.
        base: The run at the centre.

    Raises:
        ValueError: If the space does not fit the base's net.
    """

    def __init__(self, space: Space, base: RunConfig) -> None:
        self.space = space
        self.base = base
        self._spec = spec_of(base)
        if any(axis.name == "branch" for axis in space.axes) and self._spec.branch not in (
            "basic",
            "bottleneck",
        ):
            raise ValueError(
                f"--space {space.name} varies nets of basic or bottleneck branches. "
                f"Received: {self._spec.name}, whose branch is {self._spec.branch!r}; "
                "--space width and --space recipe take it"
            )
        self.axes = tuple(self._bound())

    def hyperparameters(self) -> Any:
        """Returns the space as KerasTuner's hyperparameters; the defaults are the base."""
        import keras_tuner

        space = keras_tuner.HyperParameters()
        for axis in self.axes:
            default = self._own(axis)
            if isinstance(axis, Factor):
                low, high = rounded(default * axis.low), rounded(default * axis.high)
                space.Float(axis.name, low, high, sampling="log", default=default)
                continue
            with contextlib.ExitStack() as scope:
                if axis.when is not None:
                    name, allowed = axis.when
                    scope.enter_context(space.conditional_scope(name, list(allowed)))
                if isinstance(default, bool):
                    space.Boolean(axis.name, default=default)
                else:
                    space.Choice(axis.name, list(axis.values), default=default)
        return space

    def smallest(self) -> Iterator[dict[str, Any]]:
        """Yields the values of the smallest net, then those that differ from it on one axis.

        Which is smallest depends on the measure: Fixup, for one, has no parameters of norms.
        """
        first = {axis.name: axis.values[0] for axis in self.axes if isinstance(axis, Choice)}
        yield first
        for axis in self.axes:
            if isinstance(axis, Choice) and axis.field.startswith("model.spec."):
                for value in axis.values[1:]:
                    yield {**first, axis.name: value}

    def changes(self, values: Values) -> dict[str, Any]:
        """Returns the dotted fields of `RunConfig` in which a candidate differs from the base."""
        values = {name: rounded(value) for name, value in values.items()}
        changes: dict[str, Any] = {}
        for axis in self.axes:
            if isinstance(axis, Choice) and axis.when is not None and not applies(axis, values):
                if axis.off is not None:
                    changes[axis.field] = axis.off
            elif axis.name in values and axis.field:
                changes[axis.field] = values[axis.name]
        if "depth" in values or "width" in values:
            fields = scaled(self._spec, values.get("depth", 1.0), values.get("width", 1.0))
            changes |= {f"model.spec.{name}": value for name, value in fields.items()}
        changes |= self._implied(values)
        schedule = self.base.schedule
        if "learning_rate" in values and schedule.warmup_rate:  # the warm-up keeps its shape
            ratio = values["learning_rate"] / schedule.learning_rate
            changes["schedule.warmup_rate"] = schedule.warmup_rate * ratio
        return changes

    def difference(self, values: Values) -> str:
        """Returns the values in which a candidate differs from the base, as text."""
        values = {name: rounded(value) for name, value in values.items()}
        shown = [
            f"{axis.name}={values[axis.name]}"
            for axis in self.axes
            if axis.name in values
            and values[axis.name] != rounded(self._own(axis))
            and applies(axis, values)
        ]
        return ", ".join(shown) or "the base"

    def _bound(self) -> Iterator[Axis]:
        """Yields the axes that fit the base, including its own value, without duplicate nets."""
        for axis in self.space.axes:
            own = self._own(axis)
            if isinstance(axis, Factor):
                if own:
                    yield axis
                continue
            if axis.stems and self._spec.stem not in axis.stems:
                continue
            values = axis.values
            if own not in values:
                numbers = isinstance(own, float | int) and not isinstance(own, bool)
                values = tuple(sorted((*values, own))) if numbers else (*values, own)
            if not axis.field:
                values = self._distinct(axis.name, values)
            if len(values) > 1:
                yield dataclasses.replace(axis, values=values)

    def _distinct(self, name: str, values: tuple[float, ...]) -> tuple[float, ...]:
        """Removes factors that round to the net of another factor or of the base."""
        nets: dict[str, float] = {}
        for value in (1.0, *values):
            factors = {"depth": 1.0, "width": 1.0, name: value}
            nets.setdefault(str(scaled(self._spec, **factors)), value)
        return tuple(sorted(nets.values()))

    def _own(self, axis: Axis) -> Any:
        """Returns the base's value on an axis."""
        if not axis.field:
            return 1.0
        if axis.field.startswith("model.spec."):
            return getattr(self._spec, axis.field.removeprefix("model.spec."))
        value: Any = self.base
        for part in axis.field.split("."):
            value = getattr(value, part)
        return value

    def _implied(self, values: Values) -> dict[str, Any]:
        """Returns the fields that must change with an axis for the net to be valid."""
        fields: dict[str, Any] = {}
        spec: ResNetSpec = self._spec
        if values.get("branch") == "basic" and spec.branch == "bottleneck":
            fields |= {"groups": 1, "base_width": 64}
        if values.get("order") == "post" and not spec.stem_activation:
            fields["stem_activation"] = True
        if values.get("merge", spec.merge) != "add":
            if spec.norm == "fixup":
                fields["norm"] = "batch"
        elif values.get("norm") == "fixup":
            fields["conv_bias"] = False
        return {f"model.spec.{name}": value for name, value in fields.items()}


def applies(axis: Axis, values: Values) -> bool:
    """Whether an axis has an effect, given the values of the others."""
    if isinstance(axis, Factor) or axis.when is None:
        return True
    name, allowed = axis.when
    return name not in values or values[name] in allowed


def rounded(value: Any) -> Any:
    """Rounds a number to three digits, which are readable and exact in float32 text."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
