"""MkDocs hook: pages that are made from files and code of the repository.

A page asks for them with a comment on a line of its own:

    <!-- include README.md -->   a Markdown file of the repository, its links adapted to the site
    <!-- configuration -->       a table of each section of a run's configuration
    <!-- commands -->            the help text of each command and study
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
# Files of the repository that are pages of the site under another name.
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "saved_models/README.md": "reference/run-directory.md",
}
_MARKER = re.compile(r"^<!-- (\w+)(?: (\S+))? -->$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_EXTERNAL = re.compile(r"""<(?:script|img|link)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^>]*>""")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Puts the requested material in place of each marker."""

    def replace(match: re.Match[str]) -> str:
        kind, argument = match[1], match[2]
        if kind == "include":
            return include(argument, page.file.src_uri)
        return {"configuration": configuration, "commands": commands}[kind]()

    return _MARKER.sub(replace, markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Fails where a page loads something from another server: the site has to work offline."""
    site = pathlib.Path(config.site_dir)
    for path in sorted(site.rglob("*.html")):
        for tag in _EXTERNAL.findall(path.read_text(encoding="utf-8")):
            if 'rel="canonical"' not in tag:
                raise ValueError(f"{path.relative_to(site)} loads an external file: {tag}")


def include(name: str, page: str) -> str:
    """Returns a Markdown file of the repository with its links relative to a page of the site."""
    folder = (ROOT / name).parent

    def adapt(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, mark, anchor = target.partition("#")
        source = os.path.relpath(folder / path, ROOT).replace(os.sep, "/")
        if not (ROOT / source).exists():
            raise ValueError(f"{name} links to {target}, which does not exist")
        if source in PAGES:
            source = PAGES[source]
        elif source.startswith("docs/"):
            source = source.removeprefix("docs/")
        else:
            return text  # a file of the repository that is not on the site
        here = os.path.relpath(source, os.path.dirname(page) or ".").replace(os.sep, "/")
        return f"{image}[{text}]({here}{mark}{anchor})"

    return _LINK.sub(adapt, (ROOT / name).read_text(encoding="utf-8"))


def configuration() -> str:
    """Returns the reference of `config.json`: a table for each section of the tree."""
    from keras_resnet_train.config import RunConfig, describe

    sections: dict[str, list[str]] = {}
    for row in describe(RunConfig):
        section = row.path.rpartition(".")[0]
        option = f"`{row.option}`" if row.option else ""
        cells = (f"`{row.path}`", row.type, f"`{row.default}`", row.rule, option, row.help)
        sections.setdefault(section, []).append(f"| {' | '.join(cells)} |")
    header = ["| field | type | default | rule | option | meaning |", "| --- " * 6 + "|"]
    lines = []
    for section, rows in sections.items():
        lines += [f"## `{section}`" if section else "## The run", "", *header, *rows, ""]
    return "\n".join(lines)


def commands() -> str:
    """Returns the help text of every command and of every study."""
    from keras_resnet_train.commands import COMMANDS

    sections = []
    for name, entry in COMMANDS.items():
        sections.append(_help([name]))
        sections += [_help([name, study]) for study in entry.commands or ()]
    return "\n".join(sections)


def _help(words: list[str]) -> str:
    from keras_resnet_train.cli import main

    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    if not said.getvalue().startswith("usage: "):
        raise ValueError(f"`keras-resnet {' '.join(words)} --help` printed no help")
    level = "##" if len(words) == 1 else "###"
    return f"{level} keras-resnet {' '.join(words)}\n\n```text\n{said.getvalue()}```\n"
