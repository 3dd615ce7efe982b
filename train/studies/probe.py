"""The child process of `cost`: measures one net.

Prints one JSON object per line as soon as each part is known, so that the parent keeps them if it
stops the process at its limit.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np

from ..measurement import peak_bytes


def main() -> None:
    """Measures the net of the first argument, a `cost.CostQuery` as JSON."""
    import tensorflow as tf

    from keras_resnet import build, get_spec

    from ..config import ModelConfig, RunConfig
    from ..optimizers import make_optimizer
    from ..steps import TrainingSteps

    query = json.loads(sys.argv[1])
    spec = get_spec(query["model"]).replace(**query["spec"])
    shape = (query["size"], query["size"], query["channels"])
    before = peak_bytes()
    started = time.perf_counter()
    model = build(
        spec, classes=query["classes"], input_shape=shape, stacked=query["stacked"], seed=0
    )
    _print(build_seconds=time.perf_counter() - started)
    if query["inference"]:
        _print(**_inference(model, shape))
    config = RunConfig(ModelConfig(query["model"]), batch_size=query["batch_size"], steps=1)
    started = time.perf_counter()
    optimizer = make_optimizer(config.optimizer, 1e-3, "float32")
    optimizer.build(model.trainable_variables)
    steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
    batches = iter(_batches(query, shape))
    steps(batches, 1)
    _print(first_step_seconds=time.perf_counter() - started)
    times = []
    for _ in range(query["steps"]):
        started = time.perf_counter()
        steps(batches, 1)
        times.append(time.perf_counter() - started)
    peak = peak_bytes()
    _print(step_seconds=statistics.median(times), peak_bytes=peak, training_bytes=peak - before)


def _batches(query: dict[str, Any], shape: tuple[int, ...]) -> Any:
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.normal(size=(query["batch_size"], *shape)).astype("float32")
    labels = rng.integers(0, query["classes"], query["batch_size"])
    return tf.data.Dataset.from_tensors((images, labels)).repeat()


def _inference(model: Any, shape: tuple[int, ...]) -> dict[str, float]:
    """Times one image through the deployed net: batch norm folded, RepVGG fused."""
    import tensorflow as tf

    from keras_resnet.analysis import count
    from keras_resnet.reparam import deploy

    deployed = deploy(model)
    run = tf.function(lambda images: deployed(images, training=False))
    image = tf.zeros((1, *shape))
    run(image)
    times = []
    for _ in range(30):
        started = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - started)
    counts = count(deployed)
    return {
        "inference_seconds": statistics.median(times),
        "deployed_multiply_adds": counts.multiply_adds,
        "deployed_parameters": counts.parameters + counts.state,
    }


def _print(**values: float) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
