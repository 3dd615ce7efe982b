"""The documentation says what the code says: names, examples, options, targets and links."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pathlib
import re
import shlex
import types
from collections.abc import Iterator
from typing import Any

import keras
import pytest

import keras_resnet

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PROSE = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
SUBMODULES = (
    "analysis",
    "export",
    "finetune",
    "imagenet_utils",
    "preprocessing",
    "quantize",
    "reparam",
    "weights",
)
TRAINING = ("session.run_training", "config.RunConfig")

tf_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the command line needs TensorFlow"
)


@functools.cache
def _hook() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "hooks" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _public() -> Iterator[tuple[str, Any]]:
    """Yields the dotted path and the value of everything public in the library."""
    for name in keras_resnet.__all__:
        yield f"keras_resnet.{name}", getattr(keras_resnet, name)
    for name in SUBMODULES:
        module = importlib.import_module(f"keras_resnet.{name}")
        for member in _names(module):
            yield f"keras_resnet.{name}.{member}", getattr(module, member)


def _names(module: types.ModuleType) -> list[str]:
    declared = getattr(module, "__all__", None)
    if declared is not None:
        return list(declared)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and inspect.isroutine(value) | inspect.isclass(value)
        and value.__module__ == module.__name__
    ]


def _documented() -> set[str]:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md"))
    return set(re.findall(r"^::: (\S+)", pages, re.MULTILINE))


def test_everything_public_is_in_the_reference() -> None:
    documented = _documented()
    values = [
        getattr(importlib.import_module(module), name)
        for module, _, name in (path.rpartition(".") for path in documented)
    ]
    missing = [
        path
        for path, value in _public()
        if not isinstance(value, types.ModuleType)
        and path not in documented
        # The same object under another path, such as `weights.from_pretrained`.
        and not (callable(value) and any(value is each for each in values))
    ]
    assert missing == []
    assert documented >= {f"keras_resnet_train.{name}" for name in TRAINING}


def test_everything_public_has_an_example() -> None:
    def lacks(value: Any) -> bool:
        return "Example:" not in (inspect.getdoc(value) or "")

    objects = [(path, value) for path, value in _public() if callable(value)]
    for name in TRAINING:
        module, _, member = f"keras_resnet_train.{name}".rpartition(".")
        objects.append((f"{module}.{member}", getattr(importlib.import_module(module), member)))
    assert sorted({path for path, value in objects if lacks(value)}) == []


def test_the_configuration_page_describes_every_field() -> None:
    from keras_resnet_train.config import RunConfig, all_fields

    page = _hook().configuration()
    for field in all_fields(RunConfig):
        row = re.search(rf"^\| `{re.escape(field.path)}` \| (.*) \|$", page, re.MULTILINE)
        assert row, field.path
        kind, default, _, _, meaning = row[1].split(" | ")
        assert kind, field.path
        assert default, field.path
        assert meaning.endswith("."), field.path


def _commands(text: str) -> Iterator[str]:
    """Yields the command lines of code blocks, continuation lines joined."""
    blocks = re.findall(r"^```(?:bash|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^ {4}\S.*(?:\n {4}.*)*", text, re.MULTILINE)
    for line in re.sub(r"\\\n\s*", " ", "\n".join(blocks)).splitlines():
        if re.match(r" *(keras-resnet|make) ", line):
            yield line.partition("  #")[0].strip()


@functools.cache
def _help(command: tuple[str, ...]) -> str:
    return _hook()._help(list(command))


@tf_only
@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_exist(path: pathlib.Path) -> None:
    from keras_resnet_train.commands import STUDIES

    for line in _commands(path.read_text(encoding="utf-8")):
        words = shlex.split(line)
        if words[0] == "make":
            names = [word for word in words[1:] if "=" not in word]
            assert set(names) <= _targets(), line
            continue
        command = tuple(words[1:2])
        if command == ("study",):
            assert words[2] in STUDIES, line
            command = ("study", words[2])
        known = set(re.findall(r"--[a-z0-9-]+", _help(command)))
        if command in (("launch",), ("ray",)):  # behind `--` stands the command of the workers
            known |= set(re.findall(r"--[a-z0-9-]+", _help(("train",))))
        used = set(re.findall(r"(?<=\s)--[a-z0-9-]+", line))
        assert used <= known, (line, used - known)


def _targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_the_hosted_workflow_calls_targets_of_the_makefile() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    lines = re.findall(r"^ +- run: (.*)$", workflow, re.MULTILINE)
    assert lines
    for line in lines:
        command, *targets = line.split("=")[0].split()
        assert command in ("make", "pip", "keras-resnet")
        if command != "make":
            continue
        assert {target for target in targets if target.islower()} <= _targets(), line


def test_the_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {keras_resnet.__version__}\n" in citation


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_code_exist(path: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8")
    for dotted in sorted(set(re.findall(r"(?<![\w/])keras_resnet(?:\.[A-Za-z_]\w*)+", text))):
        if dotted.endswith((".py", ".md")):
            continue
        value: Any = keras_resnet
        for name in dotted.split(".")[1:]:
            if not hasattr(value, name):
                importlib.import_module(f"{value.__name__}.{name}")
            value = getattr(value, name)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target
    folders = r"(?:keras_resnet|train|tests|benchmarks|examples|docs)"
    for name in re.findall(rf"`({folders}/[\w/.-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


def test_the_architecture_lists_the_modules() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", text))
    bases = (ROOT, ROOT / "keras_resnet", ROOT / "train", ROOT / "train" / "data")
    assert [
        name for name in sorted(named) if not any((base / name).exists() for base in bases)
    ] == []
    small = {"__init__", "__main__", "version", "tensor", "precision"}
    for folder in ("keras_resnet", "keras_resnet/nets", "keras_resnet/weights", "train"):
        inner = folder.removeprefix("keras_resnet").removeprefix("train").strip("/")
        for path in sorted((ROOT / folder).iterdir()):
            if path.name.startswith(("_", ".")) or path.stem in small | {"py"}:
                continue
            name = f"{inner}/{path.name}".strip("/") + ("/" if path.is_dir() else "")
            if inner or path.name not in ("nets", "weights"):
                assert name in named, f"ARCHITECTURE.md does not mention {folder}/{path.name}"
