"""`tf.distribute` strategies by name: one device, the GPUs of a machine, CPU replicas, machines."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any

NAMES = "auto, mirrored, cpu:N, multi-worker or one-device"


def check_name(name: str) -> None:
    """Checks a strategy's name before TensorFlow is loaded.

    Raises:
        ValueError: If the name is unknown.
    """
    if name in ("auto", "mirrored", "multi-worker", "one-device"):
        return
    if not re.fullmatch(r"cpu:[1-9][0-9]?", name):
        raise ValueError(f"`--strategy` must be {NAMES}. Received: {name!r}")


def make_strategy(name: str) -> Any:
    """Makes the strategy; must run before TensorFlow has touched a device.

    `auto` mirrors over the GPUs where there is more than one, and uses the one device otherwise.
    `cpu:N` splits the CPU into N logical devices and mirrors over them: slower than one, but a way
    to try and to test replication anywhere. `multi-worker` reads TF_CONFIG.

    Raises:
        ValueError: If the name is unknown, or what it needs is not there.
    """
    import tensorflow as tf

    check_name(name)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Too late in a process that has used the GPU already; then it stays as it is.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one-device"
    if name == "one-device":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        if not gpus:
            raise ValueError(
                "`--strategy mirrored` mirrors over GPUs, and TensorFlow sees none. "
                "Use one-device, or cpu:2 to try replication on the CPU"
            )
        return tf.distribute.MirroredStrategy()
    if name == "multi-worker":
        _check_tf_config()
        return tf.distribute.MultiWorkerMirroredStrategy()
    return _mirrored_cpus(int(name.removeprefix("cpu:")))


def is_chief() -> bool:
    """Whether this process writes the run's files: worker 0, or the only one."""
    task = _tf_config().get("task", {})
    if task.get("type") == "chief":
        return True
    has_chief = "chief" in _tf_config().get("cluster", {})
    return not has_chief and int(task.get("index", 0)) == 0


def _mirrored_cpus(count: int) -> Any:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        if len(tf.config.get_logical_device_configuration(cpu) or ()) != count:
            tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError as error:
        raise ValueError(
            f"`--strategy cpu:{count}` must split the CPU before TensorFlow uses it; start it in "
            "a process of its own"
        ) from error
    return tf.distribute.MirroredStrategy(
        [f"/cpu:{index}" for index in range(count)],
        # The default fails on CPUs inside loops: "Shape mismatch in the collective instance".
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def _tf_config() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG is no JSON: {error}") from error
    parts = config if isinstance(config, dict) else {"TF_CONFIG": config}
    for name, part in parts.items():
        if name in ("cluster", "task", "TF_CONFIG") and not isinstance(part, dict):
            raise ValueError(f"{name} of TF_CONFIG must be an object. Received: {text}")
    return parts


def _check_tf_config() -> None:
    config = _tf_config()
    if not config.get("cluster", {}).get("worker") or "index" not in config.get("task", {}):
        raise ValueError(
            "`--strategy multi-worker` needs TF_CONFIG with a cluster and this process's task: "
            '{"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}'
        )
