"""Exported files run in a browser: LiteRT.js and ONNX Runtime Web in headless Chromium."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_resnet.export.browser_packages import (
    IMPORTS,
    ONNXRUNTIME_WEB,
    package_folder,
    write_litertjs,
)
from keras_resnet.export.chromium import chromium
from keras_resnet.export.static_server import served

BrowserRuntime = Literal["litert-js", "onnxruntime-web"]

_PAGE = """<!doctype html><meta charset="utf-8"><title>run</title>
<script type="importmap">{}</script>"""
_COMMON = """
async function loaded(name, type, size) {
  const content = await (await fetch(name)).arrayBuffer();
  const all = type === "float32" ? new Float32Array(content) : new Uint8Array(content);
  return Array.from({length: all.length / size}, (_, i) => all.slice(i * size, (i + 1) * size));
}
function encoded(rows) {
  const bytes = new Uint8Array(Float32Array.from(rows.flatMap((row) => [...row])).buffer);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
"""
_LITERTJS = """
(async () => {
  const {loadLiteRt, loadAndCompile, Tensor} = await import("@litertjs/core");
  await loadLiteRt("litertjs/core/wasm/");
  const model = await loadAndCompile("MODEL", {accelerator: "BACKEND"});
  const shape = SHAPE;
  const rows = [];
  let began = performance.now();
  for (const image of await loaded("images.bin", "TYPE", shape.reduce((a, b) => a * b))) {
    if (rows.length === 1) began = performance.now();
    const tensor = new Tensor(image, shape);
    const [result] = await model.run([tensor]);
    const onHost = result.accelerator === "wasm" ? result : await result.moveTo("wasm");
    rows.push(onHost.toTypedArray().slice());
    onHost.delete();
    if (!tensor.deleted) tensor.delete();
  }
  const milliseconds = (performance.now() - began) / Math.max(1, rows.length - 1);
  return {values: encoded(rows), milliseconds, accelerated: model.isFullyAccelerated};
})()
"""
_ONNX = """
(async () => {
  const ort = await import("./ort/ort.wasm.bundle.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {wasm: new URL("ort/ort-wasm-simd-threaded.wasm", location).href};
  const session = await ort.InferenceSession.create("MODEL");
  const shape = SHAPE;
  const rows = [];
  let began = performance.now();
  for (const image of await loaded("images.bin", "TYPE", shape.reduce((a, b) => a * b))) {
    if (rows.length === 1) began = performance.now();
    const input = new ort.Tensor("TYPE", image, shape);
    const result = await session.run({[session.inputNames[0]]: input});
    rows.push(result[session.outputNames[0]].data);
  }
  const milliseconds = (performance.now() - began) / Math.max(1, rows.length - 1);
  return {values: encoded(rows), milliseconds, accelerated: true};
})()
"""


def run_in_browser(
    path: str | os.PathLike[str],
    images: np.ndarray,
    *,
    runtime: BrowserRuntime | None = None,
    packages: str | os.PathLike[str] | None = None,
    backend: Literal["wasm", "webgpu"] = "wasm",
    flags: tuple[str, ...] = (),
) -> tuple[np.ndarray, float]:
    """Runs a file in headless Chromium, one image at a time.

    Args:
        path: A `.tflite` file for LiteRT.js, or an `.onnx` file for ONNX Runtime Web.
        images: The input, `(images, height, width, channels)`, uint8 or float32 as the file takes
            it.
        runtime: `"litert-js"` or `"onnxruntime-web"`; None chooses by the file's name.
        packages: A `node_modules` folder, in place of the cache and npm.
        backend: LiteRT.js's accelerator.
        flags: Further flags of Chromium.

    Returns:
        The first output, float32 `(images, ...)`, and milliseconds per image without the first.

    Raises:
        BrowserPackageError: If npm or the package is missing.
        ChromiumError: If Chromium is missing, or the runtime refuses the file: the message is its
            own.
        ValueError: If `images` has another type.
    """
    path = Path(path)
    if images.dtype not in (np.uint8, np.float32):
        raise ValueError(f"`images` must be uint8 or float32. Received: {images.dtype}")
    runtime = runtime or ("onnxruntime-web" if path.suffix == ".onnx" else "litert-js")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if runtime == "litert-js":
            write_litertjs(folder, packages)
        else:
            source = package_folder(ONNXRUNTIME_WEB, packages) / "dist"
            shutil.copytree(source, folder / "ort")
        shutil.copyfile(path, folder / f"model{path.suffix}")
        (folder / "images.bin").write_bytes(np.ascontiguousarray(images).tobytes())
        page = _PAGE.format(json.dumps({"imports": IMPORTS}))
        (folder / "index.html").write_text(page, encoding="utf-8", newline="\n")
        script = _COMMON + (_LITERTJS if runtime == "litert-js" else _ONNX)
        for key, value in {
            "MODEL": f"model{path.suffix}",
            "SHAPE": json.dumps([1, *images.shape[1:]]),
            "TYPE": str(images.dtype),
            "BACKEND": backend,
        }.items():
            script = script.replace(key, value)
        with served(folder) as url, chromium(flags=flags) as browser:
            browser.visit(url)
            result: dict[str, Any] = browser.evaluate(script)
    values = np.frombuffer(base64.b64decode(result["values"]), "<f4")
    return values.reshape(len(images), -1).copy(), float(result["milliseconds"])
