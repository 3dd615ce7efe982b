"""Fields of the configuration: each states its default, bounds, help and option in one place.

A field is declared as `momentum: float = setting(0.9, "Momentum of SGD.", Bounds(minimum=0,
below=1))`. Its choices, where it has some, are its `Literal` type. Checks, command-line options and
the documentation's tables are derived from this.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin

from .values import convert, is_optional, one_of, refuse, type_name, without_none

_KEY = "setting"


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The range of a number, or of each number of a list, which may have to be ascending."""

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    ascending: bool = False

    def __contains__(self, number: float) -> bool:
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.above is None or number > self.above)
            and (self.maximum is None or number <= self.maximum)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        if self.maximum is None and self.below is None:
            return f"at least {self.minimum}" if self.above is None else f"above {self.above}"
        low = f"({self.above}" if self.minimum is None else f"[{self.minimum}"
        high = f"{self.below})" if self.maximum is None else f"{self.maximum}]"
        return f"in {low}, {high}"


AT_LEAST_0 = Bounds(minimum=0)
AT_LEAST_1 = Bounds(minimum=1)
ABOVE_0 = Bounds(above=0)
FRACTION = Bounds(minimum=0, below=1)
SHARE = Bounds(above=0, maximum=1)


class Setting(NamedTuple):
    """The metadata of a field.

    Attributes:
        help: What the field does, in a sentence or two.
        bounds: Range of its numbers.
        option: Its option on the command line, such as `--ema`.
        metavar: Name of the option's value; by the type where None.
        free: Whether a resumed run may change it: where, how fast and how safely a run computes,
            not what.
    """

    help: str
    bounds: Bounds | None
    option: str | None
    metavar: str | None
    free: bool


def setting(
    default: Any,
    help: str,
    bounds: Bounds | None = None,
    *,
    option: str | None = None,
    metavar: str | None = None,
    free: bool = False,
) -> Any:
    """Declares a field with a default and its `Setting`."""
    metadata = {_KEY: Setting(help, bounds, option, metavar, free)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Field(NamedTuple):
    """A field, its dotted path from `RunConfig`, and all that is stated about it."""

    path: str
    name: str
    hint: Any
    default: Any
    setting: Setting

    @property
    def type(self) -> Any:
        """The type of values other than None; `str` for choices."""
        hint = without_none(self.hint)
        return str if get_origin(hint) is Literal else hint

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from, or none."""
        hint = without_none(self.hint)
        return get_args(hint) if get_origin(hint) is Literal else ()

    @property
    def rule(self) -> str:
        """The choices or the bounds in words, or ""."""
        bounds = self.setting.bounds
        if self.choices:
            return one_of(self.choices)
        if bounds is None:
            return ""
        if get_origin(self.type) is not tuple:
            return str(bounds)
        return f"{type_name(self.type)} {bounds}{', in ascending order' * bounds.ascending}"

    def check(self, value: Any) -> Any:
        """Returns the value as the field's type.

        Raises:
            ValueError: If it has another type, or is out of bounds; names the path and the rule.
        """
        converted, bounds = convert(self.hint, value, self.path), self.setting.bounds
        if converted is None or bounds is None:
            return converted
        numbers = converted if isinstance(converted, tuple) else (converted,)
        ordered = not bounds.ascending or list(numbers) == sorted(numbers)
        if not ordered or not all(number in bounds for number in numbers):
            refuse(self.path, self.rule, value)
        return converted


class Section:
    """Base of the configuration's dataclasses: each instance checks its own fields.

    Attributes:
        section: Name of the field of `RunConfig` that holds the class; "" for `RunConfig` itself.
    """

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Checks each field's type, choices and bounds."""
        cls: Any = type(self)
        for field in own_fields(cls):
            # A list becomes a tuple, 1 becomes 1.0; a frozen dataclass has no other way to set it.
            object.__setattr__(self, field.name, field.check(getattr(self, field.name)))


@functools.cache
def own_fields(cls: Any) -> tuple[Field, ...]:
    """Returns the fields of a class without those of the sections in it."""
    hints = typing.get_type_hints(cls)
    prefix = f"{cls.section}." if cls.section else ""
    return tuple(
        Field(prefix + each.name, each.name, hints[each.name], each.default, each.metadata[_KEY])
        for each in dataclasses.fields(cls)
        if _KEY in each.metadata
    )


@functools.cache
def all_fields(cls: Any) -> tuple[Field, ...]:
    """Returns the fields of a class, then those of each section in it."""
    hints = typing.get_type_hints(cls).values()
    sections: list[Any] = [
        hint for hint in hints if isinstance(hint, type) and issubclass(hint, Section)
    ]
    return (*own_fields(cls), *(field for each in sections for field in own_fields(each)))


class Row(NamedTuple):
    """A row of the documentation's table of fields, as text."""

    path: str
    type: str
    default: str
    rule: str
    help: str
    option: str


def describe(cls: Any) -> list[Row]:
    """Returns one row for each field of a class and of its sections, for the documentation.

    Example:
        >>> describe(RunConfig)[1].path
        'batch_size'
    """
    return [
        Row(
            path=field.path,
            type=type_name(field.type, article=False) + " or null" * is_optional(field.hint),
            default="{}" if field.default is dataclasses.MISSING else json.dumps(field.default),
            rule=field.rule,
            help=field.setting.help,
            option=field.setting.option or "",
        )
        for field in all_fields(cls)
    ]
