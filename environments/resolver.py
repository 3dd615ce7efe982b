"""What `pip install` would do to an environment that exists, without making it.

An environment is a list of versions. An empty one is given the metadata of the listed packages, so
that pip takes them for installed; then pip says what it would install.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

PIP = ("-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check")


def read_list(path: Path) -> dict[str, str]:
    """Returns the versions of a list by distribution, under the names that registries compare."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#") and "==" in line)
    return {canonical(name): version.strip() for name, version in pairs}


def canonical(name: str) -> str:
    """Returns a distribution's name as registries compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


def plan(python: str, versions: Path, requirement: str, work: Path) -> dict[str, str]:
    """Returns the versions that `pip install` would install into an environment, by name.

    Args:
        python: An interpreter of the environment's version.
        versions: The list of what is installed.
        requirement: What is to be installed, such as `path[train,export]`.
        work: A folder for a small environment and pip's reports.

    Raises:
        subprocess.CalledProcessError: If pip finds no solution.
    """
    venv = work / "venv"
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    inside = str(next(path for path in venv.glob("*/python*") if path.is_file()))
    listed = read_list(versions)
    metadata = _report(inside, work, "--ignore-installed", "--no-deps", "-r", str(versions))
    packages = next(
        path for path in venv.glob("**/site-packages") if path.is_dir() and (path / "pip").is_dir()
    )
    for item in metadata:
        if canonical(item["name"]) in listed:
            _pretend(item, packages)
    return {item["name"]: item["version"] for item in _report(inside, work, requirement)}


def _report(python: str, work: Path, *words: str) -> list[dict[str, str]]:
    """Returns the metadata of what pip would install."""
    path = work / "report.json"
    subprocess.run([python, *PIP, "--report", str(path), *words], check=True)
    return [item["metadata"] for item in json.loads(path.read_text(encoding="utf-8"))["install"]]


def _pretend(metadata: dict, packages: Path) -> None:
    """Writes the metadata of a package as if it were installed."""
    name = metadata["name"].replace("-", "_")
    folder = packages / f"{name}-{metadata['version']}.dist-info"
    folder.mkdir(exist_ok=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {metadata['name']}",
        f"Version: {metadata['version']}",
        *(f"Requires-Dist: {line}" for line in metadata.get("requires_dist", ())),
        *(f"Provides-Extra: {line}" for line in metadata.get("provides_extra", ())),
    ]
    (folder / "METADATA").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "RECORD").write_text("", encoding="utf-8")
    (folder / "INSTALLER").write_text("pip\n", encoding="utf-8")
