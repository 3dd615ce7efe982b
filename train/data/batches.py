"""What the pipelines of training and evaluation share: parts of a batch, and how to read images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_resnet import PreprocessSpec

from ..config import AugmentConfig
from .on_host import on_host
from .sources import ArraySource, FileSource


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of each global batch that this process prepares.

    Attributes:
        batch: Images in a global batch.
        worker: Index of this process.
        workers: Number of processes.
        replicas: Replicas in this process; each receives `per_replica` images.
    """

    batch: int
    worker: int = 0
    workers: int = 1
    replicas: int = 1

    @classmethod
    def of(cls, context: Any, batch: int, replicas: int) -> Share:
        """Returns the share of an input pipeline of `distribute_datasets_from_function`.

        Args:
            context: The `tf.distribute.InputContext`.
            batch: Images in a global batch.
            replicas: Replicas of all processes together.
        """
        pipelines = context.num_input_pipelines
        return cls(batch, context.input_pipeline_id, pipelines, replicas // pipelines)

    @property
    def per_replica(self) -> int:
        """Images per replica."""
        return self.batch // (self.workers * self.replicas)


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """The parameters of the training batches.

    Attributes:
        preprocess: Size and normalisation.
        augment: Augmentation.
        channels: Channels per image.
        seed: Seed of order and augmentation.
        start_step: First step.
        total_steps: Number of steps of the run, counted from 0 and not from `start_step`.
        classes: Number of classes, for mixup and cutmix.
        service: Address of a tf.data service that prepares the batches; None for this process.
    """

    preprocess: PreprocessSpec
    augment: AugmentConfig
    channels: int
    seed: int
    start_step: int
    total_steps: int
    classes: int = 0
    service: str | None = None

    def different(self, batch: int) -> int:
        """Returns the number of different images in a global batch."""
        return -(-batch // self.augment.repeats)


def typed(labels: Any, *, several: bool) -> Any:
    """Returns class numbers as int64, rows of several labels as float32."""
    import tensorflow as tf

    return tf.cast(labels, tf.float32 if several else tf.int64)


def fetch(source: ArraySource | FileSource) -> Any:
    """Returns a function of an example and its row to (stored image, label, row), in a graph."""
    label = label_of(source)
    if isinstance(source, ArraySource):
        return lambda example, row: (source.gather(example), label(example), row)
    paths = on_host(source.encoded_paths)
    return lambda example, row: (source.read(paths[example]), label(example), row)


def label_of(source: ArraySource | FileSource) -> Callable[[Any], Any]:
    """Returns a function of example numbers, scalar or `(count,)`, to their labels, in a graph."""
    import tensorflow as tf

    labels = on_host(source.labels)
    return lambda examples: typed(tf.gather(labels, examples), several=source.labels.ndim > 1)
