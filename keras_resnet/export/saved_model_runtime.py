"""SavedModel directories under TensorFlow."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Mapping
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

_DEFAULT = "serving_default"
# Nodes that do not compute.
_PLUMBING = frozenset(
    ("Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp", "StatefulPartitionedCall")
)


class SavedModelRuntime(Runtime):
    """A SavedModel directory under `tf.saved_model.load`.

    Threads are those of the whole process.

    Raises:
        ValueError: If it is not a SavedModel, or not a classifier of images.
        RuntimeError: If `threads` is given and TensorFlow has begun to compute.
    """

    def _open(self, path: Path, threads: int | None, foreign: bool) -> Opened:
        import tensorflow as tf

        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        try:
            # Kept, because the signature alone does not keep the variables alive.
            self._loaded = tf.saved_model.load(os.fspath(path))
            signatures = dict(self._loaded.signatures)
        except Exception as error:  # of a damaged one, TensorFlow raises errors of many types
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{str(path)!r} is not a SavedModel: {line}") from error
        if _DEFAULT not in signatures and not (foreign and len(signatures) == 1):
            names = ", ".join(sorted(map(str, signatures))) or "none"
            raise ValueError(
                f"{str(path)!r} is not a SavedModel with a '{_DEFAULT}' signature. It has: {names}"
            )
        self._function = signatures.get(_DEFAULT) or next(iter(signatures.values()))
        sources = self._function.structured_input_signature[1]
        name = only_one(path, "input", list(sources))
        outputs = list(self._function.structured_outputs)
        self._outputs = read_outputs(path, outputs, self._features)
        spec = sources[name]
        rank = () if spec.shape.rank is None else tuple(spec.shape.as_list())
        return Opened(name, rank, spec.dtype.name, self._outputs)

    @property
    def version(self) -> str:
        """Name and version of TensorFlow."""
        import tensorflow as tf

        return f"TensorFlow {tf.__version__}"

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the graph and of the functions that it calls, without constants."""
        graph = self._function.graph.as_graph_def()
        functions = {function.signature.name: function for function in graph.library.function}
        return dict(_count_operators(graph.node, functions).most_common())

    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 outputs `(batch, classes)` of prepared images."""
        import tensorflow as tf

        found = self._function(**{self.input.name: tf.constant(batch)})
        return joined([found[name].numpy() for name in self._outputs], self._features)


def _count_operators(
    nodes: Iterable[Any], functions: Mapping[str, Any]
) -> collections.Counter[str]:
    """Counts the operators of nodes of a TensorFlow graph, following calls of functions."""
    counts: collections.Counter[str] = collections.Counter()
    for node in nodes:
        called = node.attr["f"].func.name if "f" in node.attr else ""
        if called in functions:
            counts += _count_operators(functions[called].node_def, functions)
        elif node.op not in _PLUMBING:
            counts[node.op] += 1
    return counts
