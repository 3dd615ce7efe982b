"""The page's folder: its own files, the classifier, LiteRT.js and examples."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.export.browser_packages import IMPORTS, LITERTJS, write_litertjs
from keras_resnet.version import __version__
from keras_resnet.weights.files.file_system import replace

from .classifier import DemoClassifier

_DESCRIPTION, _CLASSIFIER = "model.json", "classifier.bin"
# The page may load from its own server only, and may not send anything elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{}'; "
    "worker-src 'self' blob:; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob: mediastream:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
_README = f"""This folder is a web page for any web server; a browser does not open it as a file.
With the headers Cross-Origin-Opener-Policy: same-origin and
Cross-Origin-Embedder-Policy: require-corp it uses several threads.
The camera needs https, or localhost.

litertjs/ holds {LITERTJS.name} {LITERTJS.version} (Google LLC, Apache License 2.0), unchanged.
"""


class Example(NamedTuple):
    """A picture that the page offers.

    Attributes:
        name: What it shows, in words.
        suffix: Suffix of its file.
        content: The encoded picture.
    """

    name: str
    suffix: str
    content: bytes


def write_site(
    folder: Path,
    classifier: DemoClassifier,
    *,
    examples: Sequence[Example] = (),
    litertjs: str | os.PathLike[str] | None = None,
) -> None:
    """Writes the page's folder; an earlier page there is replaced.

    It is written under a temporary name beside its place and then renamed.

    Args:
        folder: The folder.
        classifier: The file that the page runs.
        examples: Pictures that the page offers.
        litertjs: A `node_modules` folder that holds LiteRT.js; None for the cache and npm.

    Raises:
        BrowserPackageError: If LiteRT.js is not on this machine and cannot be fetched.
        ValueError: If the folder holds other files.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp", dir=folder.parent))
    try:
        new = staging / "page"
        new.mkdir()
        write_litertjs(new, litertjs)
        _write_page(new, classifier)
        _write_model(new, classifier, _write_examples(new, examples))
        if folder.exists():
            replace(folder, staging / "earlier")
        replace(new, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Checks that a folder is free, empty or holds an earlier page.

    Raises:
        ValueError: If it holds other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"`--output` must be a folder. Received: {str(folder)!r}, a file")
    page = all((folder / name).is_file() for name in (_DESCRIPTION, "app.js"))
    if any(folder.iterdir()) and not page:
        raise ValueError(
            f"{str(folder)!r} holds other files, not a page of this command: choose another "
            "--output"
        )


def _write_page(folder: Path, classifier: DemoClassifier) -> None:
    """Copies the page's own files; the title, import map and policy are filled in."""
    for source in importlib.resources.files(__package__).joinpath("page").iterdir():
        if not source.is_file():
            continue
        content = source.read_bytes()
        if source.name == "index.html":
            imports = json.dumps({"imports": IMPORTS})
            digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
            text = content.decode("utf-8")
            text = text.replace("@POLICY@", _POLICY.format(digest)).replace("@IMPORTMAP@", imports)
            content = text.replace("@TITLE@", html.escape(classifier.title)).encode()
        (folder / source.name).write_bytes(content)
    (folder / "README.txt").write_text(_README, encoding="utf-8", newline="\n")


def _write_model(folder: Path, classifier: DemoClassifier, examples: list[dict[str, str]]) -> None:
    page = classifier.page
    name = f"{Path(classifier.file).stem}.page.tflite"
    (folder / name).write_bytes(page.content)
    shown = None
    if page.head is not None:
        (folder / _CLASSIFIER).write_bytes(page.head.kernel.astype("<f4").tobytes())
        shown = {
            "file": _CLASSIFIER,
            "height": page.head.size[0],
            "width": page.head.size[1],
            "channels": page.head.kernel.shape[1],
        }
    description: dict[str, Any] = {
        "title": classifier.title,
        "file": name,
        "input": dict(classifier.input),
        "output": {"name": classifier.output, "activation": classifier.activation},
        "classes": classifier.classes,
        "labels": classifier.labels,
        "preprocess": classifier.preprocess.to_dict(),
        "map": shown,
        "noMap": page.no_map,
        "samples": examples,
        "facts": [classifier.precision, _size(len(classifier.content))],
        "provenance": (
            f"{classifier.file}, SHA-256 {classifier.sha256[:16]}…, run by LiteRT.js "
            f"{LITERTJS.version}. Page by keras_resnet {__version__}."
        ),
    }
    text = json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / _DESCRIPTION).write_text(text + "\n", encoding="utf-8", newline="\n")


def _write_examples(folder: Path, examples: Sequence[Example]) -> list[dict[str, str]]:
    written = []
    if examples:
        (folder / "examples").mkdir()
    for number, example in enumerate(examples):
        name = f"examples/{number:02}{example.suffix}"
        (folder / name).write_bytes(example.content)
        written.append({"file": name, "name": example.name})
    return written


def png_examples(
    images: np.ndarray, labels: Sequence[int] | None, names: Sequence[str] | None
) -> list[Example]:
    """Returns images of the net's size as examples; with their labels if those are known."""
    import tensorflow as tf

    examples = []
    for number, image in enumerate(images):
        name = f"example {number + 1}"
        if labels is not None and names is not None:
            name = f"{name}, labelled {names[labels[number]]}"
        examples.append(Example(name, ".png", tf.io.encode_png(image).numpy()))
    return examples


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
