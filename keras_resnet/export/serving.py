"""A SavedModel under TensorFlow Serving, on 127.0.0.1, where the server is installed."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.export.artifacts import versions_of
from keras_resnet.export.request import ExportRequest
from keras_resnet.export.runtimes import load

PROGRAM = "tensorflow_model_server"
_IMAGES = 8
_SECONDS = 60.0


def check_serving(base: Path, request: ExportRequest) -> tuple[str, str, str]:
    """Asks TensorFlow Serving for the classes of images, or checks the signatures without it.

    Source of the requests: TensorFlow Serving, g3doc/api_rest.md, "Predict API" (row format) and
    "Encoding binary values".

    Args:
        base: Directory of the versions.
        request: Images and preprocessing.

    Returns:
        Status, runtime and detail of a `ClientProof`.

    Raises:
        ValueError: If a signature does not return what the file returns here.
    """
    path = base / str(max(versions_of(base)))
    pixels = request.images[:_IMAGES]
    runtime = load(path)
    expected = runtime.run(runtime.prepare(pixels, request.preprocess))
    if runtime.input.shape[0] is not None:
        return "not run", "", "the batch is fixed, and REST requests have any number of images"
    contents, fitted = None, expected
    preprocess = request.preprocess
    pictures = preprocess is not None and pixels.shape[-1] in (1, 3)
    # `fit` does not have the interpolation "area".
    if preprocess is not None and pictures and preprocess.interpolation != "area":
        contents = [_png(image) for image in pixels]
        # A picture of the net's size is enlarged and cropped too, where the crop is not the whole.
        cropped = preprocess.fit(pixels)
        fitted = runtime.run(runtime.prepare(cropped, request.preprocess))
    if shutil.which(PROGRAM) is None:
        detail = _by_signature(path, contents, fitted)
        return "not run", "", f"{PROGRAM} is not installed; {detail}"
    with _server(base) as address:
        instances: list[Any] = runtime.prepare(pixels, request.preprocess).tolist()
        _compare("serving_default", _ask(address, "serving_default", instances), expected)
        if contents is not None:
            strings = [{"b64": base64.b64encode(content).decode()} for content in contents]
            _compare("serve_bytes", _ask(address, "serve_bytes", strings), fitted)
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False)
    name = (version.stdout.splitlines() or [PROGRAM])[0]
    return "equal", name, f"its REST answers equal the file's on {len(pixels)} images"


def _by_signature(path: Path, contents: list[bytes] | None, expected: np.ndarray) -> str:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    checked = ["serving_default"]
    if contents is not None:
        outputs = loaded.signatures["serve_bytes"](image_bytes=tf.constant(contents))
        _compare("serve_bytes", outputs["logits"].numpy(), expected)
        checked.append("serve_bytes")
    return f"signatures {' and '.join(checked)} return the same on {len(expected)} images"


def _compare(signature: str, outputs: np.ndarray, expected: np.ndarray) -> None:
    spread = float(np.std(expected)) or 1.0
    difference = float(np.abs(outputs - expected).max()) / spread
    # A pixel of a decoded file may differ by 1 of 255 where it is resized.
    if not difference <= (0.05 if signature == "serve_bytes" else 1e-4):
        raise ValueError(
            f"the signature {signature} returns other logits: {difference:.3g} of their spread"
        )


def _png(image: np.ndarray) -> bytes:
    import tensorflow as tf

    return tf.io.encode_png(image).numpy()


def _ask(address: str, signature: str, instances: list[Any]) -> np.ndarray:
    body = json.dumps({"signature_name": signature, "instances": instances}).encode()
    try:
        with urllib.request.urlopen(f"{address}:predict", body, timeout=_SECONDS) as answer:
            predictions = json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        raise ValueError(f"{PROGRAM} answers {error.code}: {error.read().decode()}") from error
    return np.array([prediction["logits"] for prediction in predictions], "float32")


@contextlib.contextmanager
def _server(base: Path) -> Iterator[str]:
    """Starts the server on a free port of 127.0.0.1, and yields the model's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        PROGRAM,
        f"--rest_api_port={port}",
        "--port=0",
        "--rest_api_num_threads=2",
        "--model_name=model",
        f"--model_base_path={base.resolve()}",
    ]
    address = f"http://127.0.0.1:{port}/v1/models/model"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(address, process)
            yield address
        finally:
            process.terminate()


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            with urllib.request.urlopen(address, timeout=5) as answer:
                states = json.load(answer)["model_version_status"]
            if any(state["state"] == "AVAILABLE" for state in states):
                return
        time.sleep(0.2)
    raise ValueError(f"{PROGRAM} did not serve the model within {_SECONDS:g} s")
