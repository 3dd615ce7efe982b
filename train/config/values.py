"""JSON values as the types of the configuration's fields, and the names of those types."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, get_args, get_origin

# Type -> its name in an error and in the documentation.
_NAMES = {
    int: ("an integer", "integer"),
    float: ("a number", "number"),
    str: ("a string", "string"),
    bool: ("true or false", "boolean"),
}

_INTEGERS = 2**63  # below this, as NumPy and TensorFlow store them
_LARGEST = 3.4e38  # of a float32, in which numbers are computed


def convert(hint: Any, value: Any, path: str) -> Any:
    """Returns a JSON value as a type: a list as a tuple, an integer as a float where one is needed.

    Args:
        hint: The type: a number, a string, a bool, a `Literal`, a tuple, a mapping, or one of these
            or None.
        value: The value.
        path: Dotted path of the field, for errors.

    Raises:
        ValueError: If the value has another type, is no choice, is infinite or NaN, or is too large
            for a float32 or an integer of 64 bits.
    """
    if value is None and is_optional(hint):
        return None
    hint = without_none(hint)
    origin = get_origin(hint)
    if origin is Literal and value not in get_args(hint):
        refuse(path, one_of(get_args(hint)), value)
    if origin is tuple:
        item, *others = get_args(hint)
        if not isinstance(value, list | tuple) or (
            others != [...] and len(value) != 1 + len(others)
        ):
            refuse(path, type_name(hint), value)
        return tuple(convert(item, each, f"{path}[{index}]") for index, each in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            refuse(path, type_name(hint), value)
        return dict(value)
    if hint is float and type(value) is int:
        value = float(value) if abs(value) <= _LARGEST else math.inf
    if hint in _NAMES:
        if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
            refuse(path, type_name(hint), value)
        if hint is float and not abs(value) <= _LARGEST:  # NaN too
            refuse(path, "a finite number of float32, at most 3.4e38", value)
        if hint is int and not -_INTEGERS <= value < _INTEGERS:
            refuse(path, "an integer of 64 bits", value)
    return value


def type_name(hint: Any, *, article: bool = True) -> str:
    """Returns the name of a type: `a list of 2 numbers`."""
    if get_origin(hint) is tuple:
        item, *others = get_args(hint)
        count = "" if others == [...] else f"{1 + len(others)} "
        return f"{'a ' if article else ''}list of {count}{_NAMES[item][1]}s"
    return _NAMES.get(hint, ("an object", "object"))[not article]


def is_optional(hint: Any) -> bool:
    """Whether a type may be None."""
    return get_origin(hint) in (typing.Union, types.UnionType) and type(None) in get_args(hint)


def without_none(hint: Any) -> Any:
    """Returns a type without the possible None."""
    if not is_optional(hint):
        return hint
    return next(each for each in get_args(hint) if each is not type(None))


def one_of(choices: tuple[str, ...]) -> str:
    """Returns the rule of a choice."""
    return f"one of {', '.join(map(repr, choices))}"


def refuse(path: str, rule: str, value: Any) -> NoReturn:
    """Raises the error of a wrong value.

    Raises:
        ValueError: Naming the field's path, the rule and the value.
    """
    raise ValueError(f"`{path}` must be {rule}. Received: {path}={value!r}")
