"""Detection of a loss that is no longer finite, and the advice that its error gives."""

from __future__ import annotations

import numpy as np

from .config import RunConfig
from .length import Length


def first_nonfinite(losses: np.ndarray) -> int | None:
    """Returns the index of the first loss that is NaN or infinite, or None."""
    nonfinite = np.flatnonzero(~np.isfinite(losses))
    return int(nonfinite[0]) if len(nonfinite) else None


def divergence_message(
    step: int,
    loss: float,
    *,
    config: RunConfig,
    length: Length,
    learning_rate: float,
    checkpoint: str | None,
) -> str:
    """Returns one line: what happened, what to try, and the last checkpoint.

    Args:
        step: The step whose loss is not finite, from 0.
        loss: The loss of that step.
        config: The run's configuration, to suggest other values.
        length: The length of the run.
        learning_rate: The learning rate at that step.
        checkpoint: Name of the last checkpoint, or None.
    """
    lower = config.schedule.learning_rate / 10
    warmup = min(1000, length.steps // 10)
    last = f"The last checkpoint is {checkpoint}" if checkpoint else "No checkpoint was written"
    return (
        f"The loss became {loss} at step {step} (epoch {length.epoch_of(step)}), at learning rate "
        f"{learning_rate:.3g}. Try, with another --output, a lower one (--learning-rate "
        f"{lower:.3g}), a longer warm-up (--set schedule.warmup_steps={warmup}), clipping (--set "
        f"optimizer.clip_norm=1), or --precision float32. {last}"
    )
