"""Packages for the browser, and files under LiteRT.js and ONNX Runtime Web in Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import sys
import tarfile

import numpy as np
import pytest

import keras_resnet
from keras_resnet.export import browser_packages, export_tflite
from keras_resnet.export.browser import run_in_browser
from keras_resnet.export.browser_packages import (
    LITERTJS,
    ONNXRUNTIME_WEB,
    WASM_UTILS,
    BrowserPackage,
    BrowserPackageError,
    package_folder,
)
from keras_resnet.export.chromium import ChromiumError, chromium, find_chromium
from keras_resnet.export.runtimes import load

posix = pytest.mark.skipif(sys.platform == "win32", reason="a script stands for npm")
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")


@pytest.fixture
def npm(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> BrowserPackage:
    """A package that a script in npm's place hands out, and an empty cache."""
    archive = tmp_path / "made.tgz"
    (tmp_path / "index.js").write_bytes(b"export {};")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "index.js", "package/index.js")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "npm"
    script.write_text(f'#!/bin/sh\ncp {archive} "$4/a.tgz"\n', encoding="utf-8", newline="\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    return BrowserPackage("@some/thing", "1.2.3", digest, ("index.js",))


@posix
def test_a_package_is_fetched_once(
    npm: BrowserPackage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrowserPackageError, match="@some/thing@1.2.3 is not in"):
        package_folder(npm, fetch=False)
    folder = package_folder(npm)
    assert folder == tmp_path / "home/models/keras_resnet/npm/some+thing-1.2.3"
    assert (folder / "index.js").read_bytes() == b"export {};"
    monkeypatch.setenv("PATH", "/none")
    assert package_folder(npm) == folder
    assert [path.name for path in folder.parent.iterdir()] == ["some+thing-1.2.3"]


@posix
def test_a_package_of_another_content_is_refused(
    npm: BrowserPackage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = BrowserPackage(npm.name, npm.version, "AAAA", npm.files)
    with pytest.raises(BrowserPackageError, match=r"@some/thing@1.2.3 has SHA-512 .*, not AAAA"):
        package_folder(other)
    assert list((tmp_path / "home/models/keras_resnet/npm").iterdir()) == []
    (tmp_path / "bin" / "npm").write_text(
        "#!/bin/sh\necho first >&2\necho no network >&2\nexit 1\n", encoding="utf-8", newline="\n"
    )
    with pytest.raises(BrowserPackageError, match=r"npm could not fetch .* \(no network\)"):
        package_folder(npm)
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(BrowserPackageError, match=r"npm, .*, is not installed: install Node\.js"):
        package_folder(npm)


def test_a_given_folder_holds_the_right_version(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BrowserPackageError, match="has no @litertjs/core: give a node_modules"):
        package_folder(LITERTJS, tmp_path)
    folder = tmp_path / "node_modules" / "@litertjs" / "core"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"version": "2.0.0"}), encoding="utf-8")
    with pytest.raises(BrowserPackageError, match=r"2\.0\.0 .*; 2\.5\.3 is needed"):
        package_folder(LITERTJS, tmp_path)


def test_hashes_are_whole() -> None:
    for package in (LITERTJS, WASM_UTILS, ONNXRUNTIME_WEB):
        assert len(base64.b64decode(package.sha512, validate=True)) == 64
    assert browser_packages.LITERTJS.version == "2.5.3"


def test_images_of_another_type(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="must be uint8 or float32. Received: int8"):
        run_in_browser(tmp_path / "a.tflite", np.zeros((1, 8, 8, 3), "int8"))


@needs_chromium
def test_errors_of_the_page_come_with_their_words() -> None:
    with chromium() as page:
        assert page.evaluate("Promise.resolve([1, 'ä'])") == [1, "ä"]
        with pytest.raises(ChromiumError, match="Error: too big"):
            page.evaluate("Promise.reject(new Error('too big'))")
        with pytest.raises(ChromiumError, match="timed out waiting for 1 > 2"):
            page.wait("1 > 2", timeout=0.1)


@needs_chromium
@pytest.mark.tf
@pytest.mark.network
def test_litertjs_takes_our_files(tmp_path: pathlib.Path) -> None:
    """Measured on ResNet-20: float files within 2e-7 of Python, int8 files equal."""
    for package in (LITERTJS, WASM_UTILS):
        try:
            package_folder(package, fetch=False)
        except BrowserPackageError as error:
            pytest.skip(f"{error}: `keras-resnet demo` fetches it once")
    spec = keras_resnet.get_spec("cifar_resnet8").replace(widths=(4, 4, 4))
    model = keras_resnet.build(spec, classes=5, input_shape=(8, 8, 3), seed=0)
    folded = keras_resnet.fold_batch_norm(model)
    preprocess = keras_resnet.PreprocessSpec((8, 8), (120.0,) * 3, (60.0,) * 3)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype="uint8")
    path = tmp_path / "model.tflite"
    export_tflite(folded, path, precision="float32", preprocess=preprocess, activation="softmax")
    values, milliseconds = run_in_browser(path, images)
    np.testing.assert_allclose(values, load(path).run(images), atol=1e-5)
    assert milliseconds > 0
    export_tflite(folded, path, precision="float32", preprocess=preprocess, batch="open")
    with pytest.raises(ChromiumError, match="Error"):  # the fault that `--batch 1` avoids
        run_in_browser(path, images)
