"""Griffe extension: prepare docstrings for the site."""

from __future__ import annotations

import importlib
import re
from typing import Any

import griffe

APPLICATIONS = "keras_resnet.applications"

_EXAMPLE = re.compile(r"^Examples?:\n((?:[ ]{4}.*\n?|[ \t]*\n)+)", re.MULTILINE)
_ONE_LINE = re.compile(r"^Source: ", re.MULTILINE)


def prepare(text: str) -> str:
    """Returns a docstring with its example as a code block and its source in bold.

    In the code, an `Example:` section is indented Python without a fence, because that reads best
    in an editor and in `help()`.
    """
    text = _EXAMPLE.sub(_fence, text)
    return _ONE_LINE.sub("**Source**: ", text)


def _fence(match: re.Match[str]) -> str:
    lines = [line[4:] for line in match[1].rstrip().splitlines()]
    if not any(line.startswith("```") for line in lines):
        language = "pycon" if any(line.startswith(">>>") for line in lines) else "python"
        lines = [f"```{language}", *lines, "```"]
    return "Example:\n" + "".join(f"    {line}\n" if line else "\n" for line in lines) + "\n"


class Docstrings(griffe.Extension):
    """Rewrites every docstring that Griffe reads, and reads those that code assigns."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Prepares the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = prepare(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Takes the applications from the imported module: they are made from a table."""
        if pkg.path != "keras_resnet":
            return
        importlib.import_module(APPLICATIONS)
        made = griffe.inspect(APPLICATIONS)
        public = importlib.import_module("keras_resnet").__all__
        module = pkg["applications"]
        for name, member in made.members.items():
            if name in public and not member.is_alias and member.is_function:
                if member.docstring is not None:
                    member.docstring.value = prepare(member.docstring.value)
                module.set_member(name, member)
                pkg.set_member(name, griffe.Alias(name, f"{APPLICATIONS}.{name}"))
