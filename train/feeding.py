"""The training batches of a run, distributed over its replicas."""

from __future__ import annotations

from typing import Any

from .config import RunConfig
from .console import Console
from .data import Share, TrainingPlan, evaluation_notes, pixel_batches, reading_notes
from .learner import Learner


def feed(
    learner: Learner,
    config: RunConfig,
    strategy: Any,
    console: Console,
    *,
    step: int,
    steps: int,
    classes: int,
) -> Any:
    """Returns the distributed training batches from a step on.

    Args:
        learner: What is trained: images and the net, or features and its classifier.
        config: The run.
        strategy: The `tf.distribute` strategy.
        console: Prints how a stream is read.
        step: The first step, from 0.
        steps: Number of steps of the run.
        classes: Number of classes.
    """
    data, preprocess, _ = learner.trained
    plan = TrainingPlan(
        preprocess,
        config.augment,
        data.channels,
        config.seed,
        step,
        steps,
        classes,
        config.runtime.data_service,
    )
    replicas = strategy.num_replicas_in_sync

    def batches(context: Any) -> Any:
        share = Share.of(context, config.batch_size, replicas)
        notes = reading_notes(data.train, plan, share) + evaluation_notes(data, share.workers)
        for line in notes:
            console.say(f"Note: {line}")
        return pixel_batches(data.train, plan, share)

    return strategy.distribute_datasets_from_function(batches)
