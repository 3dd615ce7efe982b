"""ONNX files under ONNX Runtime."""

from __future__ import annotations

import collections
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.export.runtime import (
    Opened,
    Runtime,
    joined,
    only_one,
    read_outputs,
)
from keras_resnet.export.trial import TYPES

# Operators that pass an output on.
_PASSING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "DequantizeLinear")


class OnnxRuntime(Runtime):
    """An `.onnx` file under ONNX Runtime, on the CPU, by default with all its cores."""

    def _open(self, path: Path, threads: int | None, foreign: bool) -> Opened:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 4  # fatal errors only
        try:
            # By its path, as weights above 2 GB are in files beside it.
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions are private
            raise ValueError(f"{str(path)!r} is not a valid ONNX file: {error}") from error
        sources = {each.name: each for each in self._session.get_inputs()}
        outputs = [each.name for each in self._session.get_outputs()]
        source = sources[only_one(path, "input", list(sources))]
        self._outputs = read_outputs(path, outputs, self._features)
        if source.type not in TYPES:
            raise ValueError(
                f"The input of {str(path)!r} must be one of {', '.join(TYPES)}. "
                f"Received: {source.name!r}, {source.type}"
            )
        given = [size if isinstance(size, int) and size > 0 else None for size in source.shape]
        return Opened(source.name, given, TYPES[source.type], self._outputs)

    @property
    def version(self) -> str:
        """Name and version of the runtime."""
        import onnxruntime

        return f"ONNX Runtime {onnxruntime.__version__}"

    @functools.cached_property
    def _nodes(self) -> list[Any]:
        import onnx

        model = onnx.load(os.fspath(self._path), load_external_data=False)
        return list(model.graph.node)

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the file; those that are not ONNX's own as `domain::name`."""
        counts = collections.Counter(
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for node in self._nodes
        )
        return dict(counts.most_common())

    @property
    def last_operator(self) -> str | None:
        """The operator that computes the output, in lower case; None without the package `onnx`."""
        try:
            producers = {name: node for node in self._nodes for name in node.output}
        except ModuleNotFoundError:
            return None
        node = producers.get(self._outputs[0])
        while node is not None and node.op_type in _PASSING:
            node = producers.get(node.input[0])
        return None if node is None else node.op_type.lower()

    @property
    def properties(self) -> dict[str, str]:
        """The file's `metadata_props`."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 outputs `(batch, classes)` of prepared images."""
        found = self._session.run(self._outputs, {self.input.name: batch})
        return joined([np.asarray(each) for each in found], self._features)
