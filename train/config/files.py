"""The configuration as JSON, changes by dotted path, and what tells two configurations apart."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from keras_resnet.nets.catalog import nearest
from keras_resnet.weights.files.json_object import MAX_BYTES

from ..files import read_json
from .fields import Section, all_fields
from .run import RunConfig, with_earlier_data_defaults
from .values import convert

T = TypeVar("T")


def load_config(path: Path) -> RunConfig:
    """Reads a configuration that `RunConfig.to_json` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, has an unknown key, or a wrong value.
    """
    if not path.is_file():
        if path.exists():  # a pipe or a device, of which reading might never end
            raise ValueError(f"The configuration must be a regular file. Received: {path}")
        raise FileNotFoundError(f"No configuration file at {path}")
    values = read_json(path, MAX_BYTES)
    return from_dict(RunConfig, with_earlier_data_defaults(values), str(path))


def as_begun(config: RunConfig, path: Path, given: Collection[str]) -> tuple[RunConfig, list[str]]:
    """Returns a configuration that means what a run of an earlier version means.

    A field that the run's file does not have is of a later version. Such a field gets the value
    that the run was trained with, unless the user gives one.

    Args:
        config: The configuration that today's version makes of the user's command.
        path: The run's `config.json`.
        given: Dotted paths of the fields that the user gives.

    Returns:
        The configuration, and the fields that changed, as `data.split_by='position'`.

    Raises:
        ValueError: If the file is damaged.
    """
    stored = load_config(path)
    values = read_json(path, MAX_BYTES)
    present = {name for name, _ in _leaves(values)} | values.keys()
    before, now = (
        dict(_leaves(dataclasses.asdict(stored))),
        dict(_leaves(dataclasses.asdict(config))),
    )
    lacking = [
        field.path
        for field in all_fields(RunConfig)
        if field.path not in present and field.path not in given and field.path in before
    ]
    changes = {name: before[name] for name in lacking if before[name] != now.get(name)}
    kept = [f"{name}={value!r}" for name, value in changes.items()]
    return with_changes(config, changes), kept


def from_dict(cls: type[T], values: Any, where: str) -> T:
    """Returns a dataclass with the JSON values of `dataclasses.asdict`.

    Args:
        cls: The dataclass; its fields may be dataclasses too.
        values: The values. Fields that are missing take their defaults.
        where: Name of the file, for errors.

    Raises:
        ValueError: Naming `where`, the field's path, the rule and the value.
    """
    try:
        return _build(cls, values, "")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def with_changes(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """Returns a copy with other values at dotted paths: `{"optimizer.momentum": 0.95}`.

    Raises:
        ValueError: If a field is unknown or a value is wrong.
    """
    values = dataclasses.asdict(config)
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        node: Any = values
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (leaf not in node and parents != ["model", "spec"]):
            names = [field.path for field in all_fields(RunConfig)]
            raise ValueError(f"The configuration has no field {path!r}. {nearest(path, names)}")
        node[leaf] = value
    return _build(RunConfig, values, "")


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Returns the fields that keep `new` from resuming `old`, with both values."""
    free = {field.path for field in all_fields(RunConfig) if field.setting.free}
    before, after = dict(_leaves(dataclasses.asdict(old))), dict(_leaves(dataclasses.asdict(new)))
    return [
        f"{name}: {before.get(name)!r} then, {after.get(name)!r} now"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name not in free
    ]


def _build(cls: type[T], values: Any, path: str) -> T:
    what = f"`{path}`" if path else "The configuration"
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be an object. Received: {values!r}")
    names = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{what} has no key {unknown[0]!r}. Keys: {', '.join(names)}")
    hints = typing.get_type_hints(cls)
    built = {}
    for name, value in values.items():
        inner = f"{path}.{name}" if path else name
        if dataclasses.is_dataclass(hints[name]):
            value = _build(typing.cast(Any, hints[name]), value, inner)
        elif not issubclass(cls, Section):  # a section checks its own fields
            value = convert(hints[name], value, inner)
        built[name] = value
    return cls(**built)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
