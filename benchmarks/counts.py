"""Counts without noise: graph operations, layers, parameters, and bytes of LiteRT files."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet_train.files import read_json, write_json

RECORD = Path(__file__).with_name("counts.json")
_TOLERANCE = 0.01  # relative difference that a file's size may have
_HOW_TO_RECORD = "python -m benchmarks counts --record"


class Net(NamedTuple):
    """A net whose counts are recorded.

    Attributes:
        name: Name in the catalog.
        stacked: Whether equal units of a stage are one loop.
        files: Whether its LiteRT files are counted too.
    """

    name: str
    stacked: bool = False
    files: bool = False


NETS: Mapping[str, Net] = {
    "cifar_resnet20": Net("cifar_resnet20", files=True),
    "cifar_resnet56": Net("cifar_resnet56"),
    "cifar_resnet110": Net("cifar_resnet110"),
    "cifar_resnet110 stacked": Net("cifar_resnet110", stacked=True),
    "cifar_resnet1202 stacked": Net("cifar_resnet1202", stacked=True),
    "resnet50": Net("resnet50"),
    "mlperf_tiny_resnet8": Net("mlperf_tiny_resnet8", files=True),
}

Counts = Mapping[str, Any]


def record_counts(names: Sequence[str], path: Path) -> None:
    """Writes the counts of nets to a file; counts of other nets in it stay.

    Args:
        names: Keys of `NETS`.
        path: A JSON file.
    """
    others = _read(path)["nets"] if path.is_file() else {}
    write_json(path, {"versions": _versions(), "nets": {**others, **_count(names)}})
    print(f"Recorded in {path}")


def check_counts(names: Sequence[str], path: Path) -> None:
    """Compares the counts of nets with a record.

    Args:
        names: Keys of `NETS`.
        path: A JSON file that `record_counts` wrote.

    Raises:
        ValueError: If there is no record, or if counts differ from it.
    """
    recorded = _read(path)
    differences = compare(recorded["nets"], _count(names))
    if not differences:
        print(f"As recorded in {path}")
        return
    then, now = recorded["versions"], _versions()
    changed = [f"{k} {then.get(k)} then, {now[k]} now" for k in now if then.get(k) != now[k]]
    versions = f" Recorded with other versions: {', '.join(changed)}." if changed else ""
    raise ValueError(
        f"{'; '.join(differences)}.{versions} If this is intended or an improvement, record it: "
        f"{_HOW_TO_RECORD}"
    )


def compare(recorded: Mapping[str, Counts], counted: Mapping[str, Counts]) -> list[str]:
    """Returns a line per count that differs from the record; bytes may differ by 1 %."""
    lines = []
    for net, counts in counted.items():
        if net not in recorded:
            lines.append(f"{net}: not recorded")
            continue
        before, now = _flat(recorded[net]), _flat(counts)
        for key in sorted(before.keys() | now.keys()):
            old, new = before.get(key, 0), now.get(key, 0)
            if abs(new - old) <= (_TOLERANCE * old if key.endswith(".bytes") else 0):
                continue
            verb = "changed" if key == "parameters" else "rose" if new > old else "fell"
            lines.append(f"{net}: {key} {verb} from {old:,} to {new:,}")
    return lines


def count_net(net: Net) -> dict[str, Any]:
    """Returns the counts of one net.

    Returns:
        `layers` of Keras, trainable `parameters`, `training_operations` of the traced training loop
        and its functions, and `inference_operations`; where files are counted, for `float32` and
        `int8` the `bytes` and `operators` of the LiteRT file.
    """
    import keras
    import tensorflow as tf

    from keras_resnet import build

    keras.backend.clear_session()
    model = build(net.name, stacked=net.stacked, seed=0)
    infer = tf.function(lambda images: model(images, training=False))
    images = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    counts: dict[str, Any] = {
        "layers": len(model.layers),
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "training_operations": _operations(_training_graph(model)),
        "inference_operations": _operations(infer.get_concrete_function(images).graph),
    }
    if net.files:
        counts |= {precision: _litert(model, precision) for precision in ("float32", "int8")}
    return counts


def _count(names: Sequence[str]) -> dict[str, Counts]:
    counted: dict[str, Counts] = {}
    for name in names:
        counted[name] = count_net(NETS[name])
        values = ", ".join(f"{key} {value:,}" for key, value in _flat(counted[name]).items())
        print(f"{name}: {values}", flush=True)
    return counted


def _training_graph(model: Any) -> Any:
    """Returns the graph of `TrainingSteps` as a run traces it."""
    import tensorflow as tf

    from keras_resnet_train.config import ModelConfig, OptimizerConfig, RunConfig
    from keras_resnet_train.optimizers import make_optimizer
    from keras_resnet_train.steps import TrainingSteps

    config = RunConfig(ModelConfig(model.name), steps=1)
    optimizer = make_optimizer(OptimizerConfig(), 1e-3, "float32")
    optimizer.build(model.trainable_variables)
    steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
    images = np.zeros((2, *model.inputs[0].shape[1:]), "float32")
    batches = iter(tf.data.Dataset.from_tensors((images, np.zeros(2, "int64"))))
    # Traced but not run: a step of a deep net takes long.
    return steps._loop.get_concrete_function(batches, tf.constant(1)).graph


def _operations(graph: Any) -> int:
    """Counts the nodes of a graph and of the functions that it calls, each function once."""
    definition = graph.as_graph_def()
    functions = (len(function.node_def) for function in definition.library.function)
    return len(definition.node) + sum(functions)


def _litert(model: Any, precision: Any) -> dict[str, Any]:
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
    """Returns nested counts as `{"int8.operators.CONV_2D": 21}`."""
    flat: dict[str, int] = {}
    for key, value in counts.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": int(value)}
    return flat


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Record the counts first: {_HOW_TO_RECORD}")
    record: Any = read_json(path)
    if not isinstance(record, Mapping) or not {"versions", "nets"} <= record.keys():
        raise ValueError(f"{path} does not contain counts. Record them: {_HOW_TO_RECORD}")
    return record


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")}
