"""`tf.distribute` strategies by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any

NAMES = "auto, mirrored, cpu:N, multi-worker or one-device"


def check_name(name: str) -> None:
    """Checks the name of a strategy without loading TensorFlow.

    Raises:
        ValueError: If the name is unknown.
    """
    if name in ("auto", "mirrored", "multi-worker", "one-device"):
        return
    if not re.fullmatch(r"cpu:[1-9][0-9]?", name):
        raise ValueError(f"`--strategy` must be {NAMES}. Received: {name!r}")


def make_strategy(name: str) -> Any:
    """Returns a strategy; call it before TensorFlow uses a device.

    Args:
        name: `one-device`; `mirrored`, over the GPUs of this machine; `auto`, which is `mirrored`
            if there are several GPUs and `one-device` otherwise; `cpu:N`, which splits the CPU
            into N logical devices and mirrors over them (slower than one device; for tests of
            replication); or `multi-worker`, which reads TF_CONFIG.

    Raises:
        ValueError: If the name is unknown, there is no GPU to mirror over, the CPU cannot be split
            any more, or TF_CONFIG is missing or malformed.
    """
    import tensorflow as tf

    check_name(name)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # A process that has used the GPU already cannot change it.
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
        _check_cluster()
        return tf.distribute.MultiWorkerMirroredStrategy()
    return _mirrored_cpus(int(name.removeprefix("cpu:")))


def check_strategy(strategy: Any, *, batch_size: int, xla: bool) -> None:
    """Checks that a run can be divided among the replicas of a strategy.

    Args:
        strategy: The strategy.
        batch_size: Images in a global batch.
        xla: Whether XLA compiles the step.

    Raises:
        ValueError: If the batch does not divide, or XLA would compile for several CPU replicas.
    """
    import tensorflow as tf

    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        low = batch_size // replicas * replicas
        nearest = ", ".join(str(n) for n in (low, low + replicas) if n)
        raise ValueError(
            f"`--batch-size` is the global batch and must divide by the {replicas} replicas. "
            f"Received: {batch_size}; nearest: {nearest}"
        )
    if xla and replicas > 1 and not tf.config.list_physical_devices("GPU"):
        raise ValueError("XLA cannot compile for CPU replicas: drop --xla or use one-device")


def is_chief(name: str) -> bool:
    """Whether this process writes the run's files: the chief of several workers, or the only one.

    Args:
        name: Name of the strategy.
    """
    if name != "multi-worker":
        return True
    task = tf_config().get("task", {})
    if task.get("type") == "chief":
        return True
    has_chief = "chief" in tf_config().get("cluster", {})
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
            f"`--strategy cpu:{count}` must split the CPU before TensorFlow uses it: start it in "
            "a new process"
        ) from error
    return tf.distribute.MirroredStrategy(
        [f"/cpu:{index}" for index in range(count)],
        # The default fails inside loops on CPUs: "Shape mismatch in the collective instance".
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def tf_config() -> dict[str, Any]:
    """Returns the content of the environment variable TF_CONFIG.

    Raises:
        ValueError: If it is malformed.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG is not JSON: {error}") from error
    parts = config if isinstance(config, dict) else {"TF_CONFIG": config}
    for name, part in parts.items():
        if name in ("cluster", "task", "TF_CONFIG") and not isinstance(part, dict):
            raise ValueError(f"{name} of TF_CONFIG must be an object. Received: {text}")
    return parts


def _check_cluster() -> None:
    config = tf_config()
    if not config.get("cluster", {}).get("worker") or "index" not in config.get("task", {}):
        raise ValueError(
            "`--strategy multi-worker` needs TF_CONFIG with a cluster and this process's task: "
            '{"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}'
        )
