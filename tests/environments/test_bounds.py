"""Lower bounds are versions that were tested: those of the oldest environment."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXTRAS = ("train", "export", "onnx", "weights", "tune")
LISTS = sorted((ROOT / "environments").rglob("*.txt"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(path: pathlib.Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonical(name): version for name, version in pairs}


def bounds() -> dict[str, str]:
    """Lower bound by distribution, of the library and of the extras that users install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    found = (re.match(r"([\w-]+)>=([\d.]+)", line) for line in requirements)
    return {canonical(match[1]): match[2] for match in found if match}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_the_oldest_environment_holds_the_lower_bounds() -> None:
    oldest, lower = versions(ROOT / "environments" / "oldest.txt"), bounds()
    assert len(lower) > 12
    beside = {
        name: (bound, oldest.get(name))
        for name, bound in lower.items()
        if numbers(oldest.get(name, ""))[: len(numbers(bound))] != numbers(bound)
    }
    assert beside == {}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_no_environment_is_below_a_bound(path: pathlib.Path) -> None:
    listed = versions(path)
    # The lists of images hold only what the images have.
    below = [
        name
        for name, bound in bounds().items()
        if name in listed and numbers(listed[name]) < numbers(bound)
    ]
    assert len(listed) > 60
    assert below == []
