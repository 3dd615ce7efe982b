"""Counts that noise does not touch: graph operations, layers, parameters, bytes of flatbuffers."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import nearest

from ..files import read_json, write_json

_BYTES = 0.01  # share by which a file's size may differ
RECORD = "keras-resnet bench counts --record"


@dataclasses.dataclass(frozen=True)
class Counted:
    """A net whose counts are held.

    Attributes:
        net: In the catalog.
        stacked: Whether equal units of a stage are one loop.
        files: Whether its flatbuffers are made and measured too.
    """

    net: str
    stacked: bool = False
    files: bool = False


NETS: Mapping[str, Counted] = {
    "cifar_resnet20": Counted("cifar_resnet20", files=True),
    "cifar_resnet56": Counted("cifar_resnet56"),
    "cifar_resnet110": Counted("cifar_resnet110"),
    "cifar_resnet110 stacked": Counted("cifar_resnet110", stacked=True),
    "cifar_resnet1202 stacked": Counted("cifar_resnet1202", stacked=True),
    "resnet50": Counted("resnet50"),
    "mlperf_tiny_resnet8": Counted("mlperf_tiny_resnet8", files=True),
}

Counts = Mapping[str, Any]


def run_counts(names: Sequence[str] | None, *, check: Path | None, record: Path | None) -> int:
    """Counts, prints, and compares with what was recorded or records it.

    Args:
        names: Of `NETS`; all where None.
        check: A JSON of recorded counts.
        record: Where to write them; those of nets that are not named stay.

    Returns:
        The exit status of success.

    Raises:
        ValueError: If counts are not those recorded; says which, and how to record new ones.
    """
    if check is not None and record is not None:
        raise ValueError("Give --check or --record, one of the two")
    names = list(NETS) if names is None else list(names)
    for name in names:
        if name not in NETS:
            raise ValueError(f"Unknown net {name!r}. {nearest(name, list(NETS))}")
    recorded = {} if check is None else _read(check)
    found = {}
    for name in names:
        found[name] = count_net(NETS[name])
        told = ", ".join(f"{key} {value:,}" for key, value in _flat(found[name]).items())
        print(f"{name}: {told}", flush=True)
    if check is not None:
        _report(compare(recorded["nets"], found), recorded["versions"])
        print(f"As recorded in {check}")
    if record is not None:
        kept = _read(record)["nets"] if record.is_file() else {}
        write_json(record, {"versions": _versions(), "nets": {**kept, **found}})
        print(f"Recorded in {record}")
    return 0


def count_net(counted: Counted) -> dict[str, Any]:
    """Returns the counts of one net.

    Returns:
        `layers` of Keras, `parameters` (trainable), `training_operations` (of the traced training
        loop, its functions' included) and `inference_operations`; where files are made, for
        `float32` and `int8` the `bytes` and `operators` of the flatbuffer.
    """
    import keras
    import tensorflow as tf

    from keras_resnet import build

    keras.backend.clear_session()
    model = build(counted.net, stacked=counted.stacked, seed=0)
    infer = tf.function(lambda images: model(images, training=False))
    images = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    counts: dict[str, Any] = {
        "layers": len(model.layers),
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "training_operations": _operations(_training_graph(model)),
        "inference_operations": _operations(infer.get_concrete_function(images).graph),
    }
    if counted.files:
        counts |= {precision: _flatbuffer(model, precision) for precision in ("float32", "int8")}
    return counts


def compare(recorded: Mapping[str, Counts], found: Mapping[str, Counts]) -> list[str]:
    """Returns a line for each count that is not as recorded; bytes may differ by 1 %."""
    lines = []
    for net, counts in found.items():
        if net not in recorded:
            lines.append(f"{net}: nothing is recorded of it")
            continue
        before, now = _flat(recorded[net]), _flat(counts)
        for key in sorted(before.keys() | now.keys()):
            old, new = before.get(key, 0), now.get(key, 0)
            if abs(new - old) <= (_BYTES * old if key.endswith(".bytes") else 0):
                continue
            changed = "changed" if key == "parameters" else "rose" if new > old else "fell"
            lines.append(f"{net}: {key} {changed} from {old:,} to {new:,}")
    return lines


def _report(lines: Sequence[str], versions: Mapping[str, str]) -> None:
    if not lines:
        return
    here = _versions()
    other = [
        f"{k} {versions.get(k)} then, {here[k]} now" for k in here if versions.get(k) != here[k]
    ]
    because = f" Other versions were recorded with: {', '.join(other)}." if other else ""
    raise ValueError(
        f"{'; '.join(lines)}.{because} If this is meant, or better than before, record it: {RECORD}"
    )


def _training_graph(model: Any) -> Any:
    """Returns the graph of `TrainingSteps`, traced as a run traces it."""
    import tensorflow as tf

    from ..config import ModelConfig, OptimizerConfig, RunConfig
    from ..optimizers import make_optimizer
    from ..steps import TrainingSteps

    config = RunConfig(ModelConfig(model.name), steps=1)
    optimizer = make_optimizer(OptimizerConfig(), 1e-3, "float32")
    optimizer.build(model.trainable_variables)
    steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
    batch = (
        np.zeros((2, *model.inputs[0].shape[1:]), "float32"),
        np.zeros((2,), "int64"),
    )
    batches = iter(tf.data.Dataset.from_tensors(batch))
    # Not by calling it: the traced graph is wanted, and a step of a deep net would take long.
    return steps._loop.get_concrete_function(batches, tf.constant(1)).graph


def _operations(graph: Any) -> int:
    """Counts the nodes of a graph and of the functions that it calls, each function once."""
    definition = graph.as_graph_def()
    functions = (len(function.node_def) for function in definition.library.function)
    return len(definition.node) + sum(functions)


def _flatbuffer(model: Any, precision: Any) -> dict[str, Any]:
    from keras_resnet import PreprocessSpec
    from keras_resnet.export import export_tflite
    from keras_resnet.export.runtimes import LiteRTRuntime
    from keras_resnet.reparam import deploy

    shape = model.inputs[0].shape[1:]
    pixels = np.random.default_rng(0).integers(0, 256, (8, *shape), dtype="uint8")
    preprocess = PreprocessSpec(shape[:2], mean=(120.0,) * 3, std=(60.0,) * 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.tflite")
        export_tflite(
            deploy(model), path, precision=precision, preprocess=preprocess, calibration=pixels
        )
        return {"bytes": path.stat().st_size, "operators": LiteRTRuntime(path).operators}


def _flat(counts: Counts, prefix: str = "") -> dict[str, int]:
    """Returns `{"int8.operators.CONV_2D": 21}` for nested counts."""
    flat: dict[str, int] = {}
    for key, value in counts.items():
        flat |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": int(value)}
        )
    return flat


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is not there. Record the counts first: {RECORD}")
    read: Mapping[str, Any] = read_json(path)
    if not isinstance(read, Mapping) or not {"versions", "nets"} <= read.keys():
        raise ValueError(f"{path} holds no recorded counts. Write it anew: {RECORD}")
    return read


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")}
