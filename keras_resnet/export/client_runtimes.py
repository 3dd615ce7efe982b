"""The clients' own runtimes, each run in a process of its own by `client_process.py`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_resnet.export import client_process
from keras_resnet.export.browser import run_in_browser
from keras_resnet.export.browser_packages import (
    LITERTJS,
    WASM_UTILS,
    BrowserPackageError,
    package_folder,
)
from keras_resnet.export.chromium import ChromiumError, find_chromium
from keras_resnet.export.client_process import Ran

SECONDS = 30.0
_TIMEOUT = 1800.0  # seconds; a conversion of a large net takes minutes


def version_of(package: str) -> str | None:
    """Returns the version of a client's package; None if it is not installed.

    LiteRT.js is installed where Chromium and the package in npm's cache are: nothing is fetched.
    """
    if package == LITERTJS.name:
        try:
            for each in (LITERTJS, WASM_UTILS):
                package_folder(each, fetch=False)
        except BrowserPackageError:
            return None
        return LITERTJS.version if find_chromium() else None
    try:
        return importlib.metadata.version(package) if package else None
    except importlib.metadata.PackageNotFoundError:
        return None


def run_client(
    client: str,
    path: Path,
    images: np.ndarray,
    *,
    threads: int | None = None,
    seconds: float = SECONDS,
) -> Ran:
    """Runs a file of a client under the client's own runtime.

    Args:
        client: Name of a client whose package is installed.
        path: The file or directory.
        images: Images as the file takes them, `(images, height, width, channels)`.
        threads: Number of threads, where the runtime can be told; None for its own choice.
        seconds: After so long no further image is run: tflite-micro's kernels take seconds for an
            image of a large net.

    Raises:
        ValueError: If the runtime refuses the file, or crashes.
    """
    if client == "litert-js":
        return _in_browser(path, images)
    with tempfile.TemporaryDirectory() as folder:
        inputs, result = Path(folder, "images.npy"), Path(folder, "result")
        np.save(inputs, images)
        arguments = [client, path, inputs, result, threads or 0, seconds]
        # -P: without the folder of this package, whose modules have common names, in the path.
        command = [sys.executable, "-P", "-W", "ignore", client_process.__file__]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        try:
            done = subprocess.run(
                [*command, *map(str, arguments)],
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                check=False,
                timeout=_TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"{client} did not end within {_TIMEOUT:g} s") from error
        if done.returncode or not result.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            said = lines[-1] if lines else ""
            reason = said if done.returncode > 0 else f"it crashed ({done.returncode}). {said}"
            raise ValueError(f"{client} refuses {path.name}: {reason}")
        said = json.loads(result.read_text(encoding="utf-8"))
        outputs = Path(f"{result}.npy")
        return Ran(outputs=np.load(outputs) if outputs.is_file() else None, **said)


def _in_browser(path: Path, images: np.ndarray) -> Ran:
    """Runs a file by LiteRT.js in headless Chromium, which is a process of its own."""
    try:
        outputs, milliseconds = run_in_browser(path, images, runtime="litert-js")
    except (BrowserPackageError, ChromiumError) as error:
        raise ValueError(f"litert-js refuses {path.name}: {error}") from error
    return Ran(outputs.reshape(len(images), -1), "WebAssembly, Chromium", milliseconds=milliseconds)
