"""`tf.distribute` strategies by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any, Literal

from .rendezvous import ended_by_signals, meet
from .slurm import is_slurm_step, slurm_config

# TensorFlow connects workers that are all there within a few seconds.
_SECONDS_TO_CONNECT = 180

Collective = Literal["auto", "ring", "nccl"]
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


def make_strategy(name: str, worker_timeout: float = 0.0, collective: Collective = "auto") -> Any:
    """Returns a strategy; call it before TensorFlow uses a device.

    Args:
        name: `one-device`; `mirrored`, over the GPUs of this machine; `auto`, which is `mirrored`
            if there are several GPUs and `one-device` otherwise; `cpu:N`, which splits the CPU
            into N logical devices and mirrors over them (slower than one device; for tests of
            replication); or `multi-worker`, which reads TF_CONFIG.
        worker_timeout: Seconds that a worker waits for the others to start; 0 for no limit.
        collective: How replicas add their gradients: `ring` over TCP, `nccl` between GPUs, or
            `auto`, which is TensorFlow's choice; replicas of one CPU then add on one device.

    Raises:
        PeerLostError: If the other workers do not start in time.
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
        return tf.distribute.MirroredStrategy()  # `sum_options` has the way of adding
    if name == "multi-worker":
        return _connected_workers(worker_timeout, collective, gpus=len(gpus))
    return _mirrored_cpus(int(name.removeprefix("cpu:")), collective)


def sum_options(collective: Collective, pack: float, timeout: float) -> Any:
    """Returns how gradients are added, for `ReplicaContext.all_reduce`.

    Args:
        collective: As for `make_strategy`.
        pack: Largest sum that is added at once, MiB; 0 for TensorFlow's choice.
        timeout: Seconds that a sum may take; 0 for no limit.

    Example:
        >>> sum_options("ring", pack=50, timeout=120).bytes_per_pack
        52428800
    """
    import tensorflow as tf

    experimental = tf.distribute.experimental
    return experimental.CommunicationOptions(
        bytes_per_pack=round(pack * 2**20),
        timeout_seconds=timeout or None,
        implementation=experimental.CommunicationImplementation[collective.upper()],
    )


def check_strategy(
    strategy: Any, *, batch_size: int, xla: bool, deterministic: bool = False
) -> None:
    """Checks that a run can be divided among the replicas of a strategy.

    Args:
        strategy: The strategy.
        batch_size: Images in a global batch.
        xla: Whether XLA compiles the step.
        deterministic: Whether only operations that repeat to the last bit are allowed.

    Raises:
        ValueError: If the batch does not divide, or XLA would compile for several replicas or for
            deterministic operations.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        low = batch_size // replicas * replicas
        nearest = ", ".join(str(n) for n in (low, low + replicas) if n)
        raise ValueError(
            f"`--batch-size` is the global batch and must divide by the {replicas} replicas. "
            f"Received: {batch_size}; nearest: {nearest}"
        )
    if xla and replicas > 1:
        # With several GPUs the first step may never end: keras-team/keras issue 20763.
        raise ValueError(
            f"XLA cannot compile a step of {replicas} replicas: drop --xla, or use --strategy "
            "one-device"
        )
    if xla and deterministic:
        # As Keras has it: `model_supports_jit` in keras/src/trainers/trainer.py.
        raise ValueError(
            "XLA does not have all operations in a deterministic form: drop --xla or "
            "--deterministic"
        )


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


def task_index() -> int:
    """Returns the place of this worker among all of TF_CONFIG, the chief's being 0."""
    config = tf_config()
    task, chiefs = config["task"], len(config["cluster"].get("chief", ()))
    return int(task["index"]) + (chiefs if task.get("type") != "chief" else 0)


def _connected_workers(worker_timeout: float, collective: Collective, *, gpus: int) -> Any:
    import tensorflow as tf

    check_cluster()
    if collective == "nccl" and not gpus:
        raise ValueError("`--collective nccl` adds gradients of GPUs, and TensorFlow sees none")
    options = sum_options(collective, 0, 0)
    config = tf_config()
    os.environ["TF_CONFIG"] = json.dumps(config)  # TensorFlow reads no other variable
    meet(config, worker_timeout)
    with ended_by_signals(_SECONDS_TO_CONNECT):
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _mirrored_cpus(count: int, collective: Collective) -> Any:
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
    devices = [f"/cpu:{index}" for index in range(count)]
    if collective == "nccl":
        raise ValueError(f"`--collective nccl` adds gradients of GPUs, not of cpu:{count}")
    if collective == "ring":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.MirroredStrategy(
        devices,
        # Deterministic in its order, and without threads that wait for each other.
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def tf_config() -> dict[str, Any]:
    """Returns the content of the environment variable TF_CONFIG, or what SLURM's stand for.

    Raises:
        ValueError: If it is malformed.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    if not os.environ.get("TF_CONFIG") and is_slurm_step(os.environ):
        return slurm_config(os.environ)
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG is not JSON: {error}") from error
    parts = config if isinstance(config, dict) else {"TF_CONFIG": config}
    for name, part in parts.items():
        if name in ("cluster", "task", "TF_CONFIG") and not isinstance(part, dict):
            raise ValueError(f"{name} of TF_CONFIG must be an object. Received: {text}")
    return parts


def check_cluster() -> None:
    """Checks that TF_CONFIG names the workers and this one.

    Raises:
        ValueError: If it does not.
    """
    config = tf_config()
    if not config.get("cluster", {}).get("worker") or "index" not in config.get("task", {}):
        raise ValueError(
            "`--strategy multi-worker` needs TF_CONFIG with a cluster and this process's task, or "
            "the variables of srun, or `keras-resnet launch` (docs/guides/distributed.md): "
            '{"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}'
        )
