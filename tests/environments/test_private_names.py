"""Private names of other libraries: all stand in environments/private_names.toml.

A private name may vanish with any release, so a new one is a decision and not an accident.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pathlib
import pkgutil
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LIST = ROOT / "environments" / "private_names.toml"
PACKAGES = {"keras_resnet": ROOT / "keras_resnet", "keras_resnet_train": ROOT / "train"}
# Parts of libraries that are not documented as public.
PRIVATE_MODULES = (
    *("keras.src", "tensorflow.python", "tensorflow.lite.python"),
    *("keras_tuner.engine", "keras_tuner.src"),
)
FOREIGN = ("keras", "tensorflow", "keras_tuner")
PUBLIC = {"_asdict", "_fields", "_fields_", "_replace", "_exit"}  # namedtuples, ctypes, os


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


@functools.cache
def trees() -> list[tuple[str, ast.Module]]:
    return [
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for root in PACKAGES.values()
        for path in sorted(root.rglob("*.py"))
    ]


def own_names(tree: ast.AST) -> set[str]:
    """Private names that a file defines: functions, classes, variables, attributes, imports."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.alias):
            own.add(node.asname or node.name)
    return {name for name in own if is_private(name)}


def foreign_names(tree: ast.AST, own: set[str]) -> set[str]:
    """Private names of other libraries that a file reads."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PRIVATE_MODULES):
            used.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            used.update(a.name for a in node.names if a.name.startswith(PRIVATE_MODULES))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in own or is_super(node.value):
                used.add(node.attr)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in PRIVATE_MODULES:
            used.add(ast.unparse(node))
        elif is_getattr(node) and is_private(node.args[1].value) and node.args[1].value not in own:
            used.add(node.args[1].value)
    return used


def is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super"


def is_getattr(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("getattr", "hasattr", "setattr")
        and isinstance(node.args[1], ast.Constant)
    )


def overridden_names() -> set[tuple[str, str]]:
    """File and name of each private method of this project that overrides another library's."""
    names = set()
    for package in PACKAGES:
        face = importlib.import_module(package)
        for info in pkgutil.walk_packages(face.__path__, f"{package}."):
            if not info.name.endswith("__main__"):
                for cls in vars(importlib.import_module(info.name)).values():
                    if isinstance(cls, type):
                        names |= overrides(cls)
    return names


def overrides(cls: type) -> set[tuple[str, str]]:
    """File and name of each private method of a class and its bases that overrides another's."""
    own = [each for each in cls.__mro__ if each.__module__.split(".")[0] in PACKAGES]
    foreign = [each for each in cls.__mro__ if each.__module__.split(".")[0] in FOREIGN]
    return {
        (file_of(each.__module__), name)
        for each in own
        for name in vars(each)
        if is_private(name) and any(name in vars(other) for other in foreign)
    }


def file_of(module: str) -> str:
    package, *parts = module.split(".")
    return (PACKAGES[package] / "/".join(parts)).with_suffix(".py").relative_to(ROOT).as_posix()


def listed() -> set[tuple[str, str]]:
    """File and name of each entry of the list, over all libraries."""
    content = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return {
        (file, name)
        for library in content.values()
        for name, files in library["names"].items()
        for file in files
    }


@functools.cache
def read_names() -> frozenset[tuple[str, str]]:
    own = set().union(*(own_names(tree) for _, tree in trees()))
    return frozenset((file, name) for file, tree in trees() for name in foreign_names(tree, own))


def test_private_names_that_are_read_are_listed() -> None:
    used = read_names()
    assert used  # the list is not empty, so neither is the reading
    assert used - listed() == set(), f"not in {LIST.name}"


@pytest.mark.tf
def test_the_list_is_what_the_code_reads_and_overrides() -> None:
    pytest.importorskip("keras_tuner", reason="the oracles override its methods")
    assert read_names() | overridden_names() == listed()


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("model._inbound_nodes", {"_inbound_nodes"}),
        ("getattr(layer, '_losses', None)", {"_losses"}),
        ("super()._own()", {"_own"}),
        ("from keras.src.backend import config", {"keras.src.backend.config"}),
        ("import tensorflow.python.eager.context", {"tensorflow.python.eager.context"}),
        ("x = keras.src.backend.config", {"keras.src"}),
        ("row._replace(a=1); model._own; model.__dict__", set()),
    ],
)
def test_what_counts_as_private(code: str, names: set[str]) -> None:
    assert foreign_names(ast.parse(code), {"_own"}) == names
