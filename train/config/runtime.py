"""The sections `runtime` and `checkpoint`: where steps run, and when the state is saved."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from ..strategies import NAMES, check_name
from .fields import AT_LEAST_0, AT_LEAST_1, Section, setting


@dataclasses.dataclass(frozen=True)
class RuntimeConfig(Section):
    """Where and how the steps run."""

    section: ClassVar[str] = "runtime"

    strategy: str = setting(
        "auto",
        f"Devices to train on: {NAMES}.",
        option="--strategy",
        metavar="NAME",
        free=True,
    )
    worker_timeout: int = setting(
        1800,
        "Seconds that a worker waits for others before it ends with status 138; 0 for no limit. "
        "The first step includes the time to build the graph.",
        AT_LEAST_0,
        option="--worker-timeout",
        free=True,
    )
    collective: Literal["auto", "ring", "nccl"] = setting(
        "auto",
        "How replicas add their gradients: `ring` over TCP, `nccl` between GPUs, or what "
        "TensorFlow chooses. With cpu:N, `ring` takes the way that GPUs take; `auto` adds on one "
        "device.",
        option="--collective",
        free=True,
    )
    collective_pack: float = setting(
        0.0,
        "Largest sum of gradients that is added at once, MiB, so that adding begins before all "
        "gradients are there; 0 for TensorFlow's choice.",
        AT_LEAST_0,
        free=True,
    )
    collective_timeout: float = setting(
        0.0,
        "Seconds after which a sum of gradients that has not ended is an error; 0 for no limit. "
        "Each sum then costs a little more.",
        AT_LEAST_0,
        free=True,
    )
    data_service: str | None = setting(
        None,
        "Dispatcher of a tf.data service, `HOST:PORT`, whose workers prepare the training batches; "
        "`local` starts one in this process, to try it. Only for image files.",
        option="--data-service",
        metavar="ADDRESS",
        free=True,
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting(
        "float32", "Precision of the computation.", option="--precision"
    )
    xla: bool = setting(False, "Compile the step with XLA.", option="--xla", free=True)
    steps_per_call: int = setting(
        10,
        "Steps in one call of the graph.",
        AT_LEAST_1,
        option="--steps-per-call",
        free=True,
    )
    remat: Literal["none", "unit", "stage"] = setting(
        "none",
        "For the gradient compute the activations inside each `unit` or each `stage` again instead "
        "of keeping them: less memory, more time. The last stage keeps its own.",
        option="--remat",
        free=True,
    )
    sync_batch_norm: bool = setting(
        False, "Average batch-norm statistics over replicas.", option="--sync-batch-norm"
    )
    deterministic: bool = setting(
        False, "Use only operations that repeat to the last bit.", option="--deterministic"
    )
    track: Literal["none", "wandb", "mlflow"] = setting(
        "none",
        "Send configuration, metrics and results to Weights & Biases or MLflow, which must be "
        "installed.",
        option="--track",
        free=True,
    )
    profile: str | None = setting(
        None,
        "Steps to profile for TensorBoard, such as `10:20`.",
        option="--profile",
        metavar="FIRST:LAST",
        free=True,
    )
    log_gradient_norm: bool = setting(
        False,
        "Write the norm of the gradient, of the global batch and before clipping, to metrics.jsonl "
        "and TensorBoard.",
        option="--log-gradient-norm",
        free=True,
    )

    def __post_init__(self) -> None:
        """Checks the fields, the strategy's name among them."""
        super().__post_init__()
        check_name(self.strategy)
        _ = self.profiled_steps

    @property
    def profiled_steps(self) -> tuple[int, int] | None:
        """First and last step to profile, counted from 0, or None.

        Raises:
            ValueError: If `profile` is not two ascending numbers.
        """
        if self.profile is None:
            return None
        first, colon, last = self.profile.partition(":")
        if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ValueError(
                "`runtime.profile` must be FIRST:LAST, two steps in ascending order. "
                f"Received: runtime.profile={self.profile!r}"
            )
        return int(first), int(last)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Section):
    """When the state of the run is saved; it always is at the end of an epoch."""

    section: ClassVar[str] = "checkpoint"

    every_steps: int = setting(
        1000,
        "Steps between checkpoints; 0 for none.",
        AT_LEAST_0,
        option="--checkpoint-steps",
        free=True,
    )
    every_minutes: float = setting(
        10.0,
        "Minutes between checkpoints; 0 for none.",
        AT_LEAST_0,
        option="--checkpoint-minutes",
        metavar="MINUTES",
        free=True,
    )
    keep: int = setting(2, "Checkpoints to keep beside the best one.", AT_LEAST_1, free=True)
