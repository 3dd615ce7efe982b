"""Batches for training and evaluation, from a source of images.

The order and the augmentation of training images are functions of the seed and the step. Step k of
a run with batch size B reads positions k*B to k*B + B - 1. With N training images, position p is
example `shuffle(epoch)[p % N]` of epoch `p // N`, and its random numbers are row `p - k*B` of a
draw keyed by (seed, k). A run that resumes at step k starts with position k*B, and any number of
workers and replicas reads the same batches.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_resnet import PreprocessSpec

from ..augment import DRAWS, crop_box, pad_crop_flip, random_crop, resize_crop
from ..config import AugmentConfig
from .images import decode, decode_part, fit, normalize
from .sources import ArraySource, FileSource, Source, StreamSource

_ORDER, _DRAWS = 1, 2  # keys of two independent streams of random numbers


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
    """

    preprocess: PreprocessSpec
    augment: AugmentConfig
    channels: int
    seed: int
    start_step: int
    total_steps: int


def training_batches(source: Source, plan: TrainingPlan, share: Share) -> Any:
    """Returns the training batches from `plan.start_step` on.

    Args:
        source: The training images.
        plan: The parameters of the batches.
        share: The batch and this process's part of it.

    Returns:
        A `tf.data.Dataset` of (float32 images `(per_replica, height, width, channels)`, int64
        labels `(per_replica,)`), with one element per step and replica of this process.
    """
    import tensorflow as tf

    if isinstance(source, StreamSource):
        records = _streamed(source, plan, share)
        dataset = _augmented(records, plan, share.per_replica)
    elif isinstance(source, ArraySource) and _by_batch(source, plan):
        dataset = _gathered(source, plan, share)
    else:
        keys = _keys(len(source), plan, share).unbatch()
        encoded = keys.map(_fetch(source), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        dataset = _augmented(encoded, plan, share.per_replica)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def evaluation_batches(
    source: Source, preprocess: PreprocessSpec, channels: int, share: Share, *, raw: bool = False
) -> Any:
    """Returns every example once, in order; examples of weight 0 fill the last batch.

    Args:
        source: The images.
        preprocess: Size and normalisation.
        channels: Channels per image.
        share: The batch and this process's part of it.
        raw: Whether to return uint8 images, before normalisation.

    Returns:
        A `tf.data.Dataset` of (images, labels, float32 weights), shaped as training batches are.
    """
    import tensorflow as tf

    if isinstance(source, ArraySource) and source.images.shape[1:3] == preprocess.size:
        return _in_order(source, preprocess, share, raw=raw)
    per_worker = share.batch // share.workers

    def on_this_worker(number: Any, *rest: Any) -> Any:
        return (number // per_worker) % share.workers == share.worker

    def finish(image: Any, label: Any, weight: Any) -> Any:
        if image.dtype == tf.string:
            image = decode(image, channels)
        image = fit(image, preprocess)
        return image if raw else normalize(image, preprocess), tf.cast(label, tf.int64), weight

    # Each worker selects its examples before it decodes them.
    examples = _numbered(source, share.batch).filter(on_this_worker)
    size = len(source)
    examples = examples.map(
        lambda number, image, label: finish(image, label, tf.cast(number < size, tf.float32)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return examples.batch(share.per_replica, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _numbered(source: Source, batch: int) -> Any:
    """Yields (number, stored image, label) of every example; any example fills the last batch."""
    import tensorflow as tf

    size = len(source)
    total = -(-size // batch) * batch
    if isinstance(source, StreamSource):
        records = source.open(None)
        records = records.concatenate(records.take(1).repeat(total - size))
        return records.enumerate().map(lambda number, record: (number, *record))
    fetch = _fetch(source)
    return tf.data.Dataset.range(total).map(
        lambda number: (number, *fetch(tf.minimum(number, size - 1), 0.0)[:2])
    )


def _in_order(source: ArraySource, preprocess: PreprocessSpec, share: Share, *, raw: bool) -> Any:
    """Returns evaluation batches of images in memory, one gather per batch."""
    import tensorflow as tf

    images, labels = tf.constant(source.images), tf.constant(source.labels)
    size, part = len(source), share.per_replica

    def batch(counter: Any) -> tuple[Any, Any, Any]:
        step, replica = counter // share.replicas, counter % share.replicas
        first = step * share.batch + (share.worker * share.replicas + replica) * part
        examples = first + tf.range(part, dtype=tf.int64)
        picked = tf.gather(images, tf.minimum(examples, size - 1))
        return (
            picked if raw else normalize(picked, preprocess),
            tf.gather(labels, tf.minimum(examples, size - 1)),
            tf.cast(examples < size, tf.float32),
        )

    steps = -(-size // share.batch)
    batches = tf.data.Dataset.range(steps * share.replicas)
    return batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _by_batch(source: ArraySource, plan: TrainingPlan) -> bool:
    return plan.augment.crop in ("none", "pad") and source.images.shape[1:3] == plan.preprocess.size


def _keys(size: int, plan: TrainingPlan, share: Share) -> Any:
    """Yields example numbers and random numbers for each step and replica."""
    import tensorflow as tf

    part = share.per_replica

    def keys(counter: Any) -> tuple[Any, Any]:
        step, replica = counter // share.replicas, counter % share.replicas
        first = (share.worker * share.replicas + replica) * part
        positions = step * share.batch + first + tf.range(part, dtype=tf.int64)
        epochs = positions // size
        order = tf.fill([part], tf.constant(_ORDER, tf.int64))
        seeds = tf.stack([order, tf.fill([part], tf.constant(plan.seed, tf.int64)), epochs], axis=1)
        # `tf.random.experimental.index_shuffle` rejects one seed per index, contrary to its
        # documentation. With its 4 rounds, up to 38 % more pairs of examples than by chance share
        # a batch in the next epoch; with 8 rounds, no more than by chance.
        examples = tf.raw_ops.RandomIndexShuffle(
            index=positions % size,
            seed=tf.cast(seeds, tf.int32),
            max_index=tf.constant(size - 1, tf.int64),
            rounds=8,
        )
        return examples, _draws(plan.seed, step, share.batch)[first : first + part]

    return tf.data.Dataset.range(
        plan.start_step * share.replicas, plan.total_steps * share.replicas
    ).map(keys, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _draws(seed: int, step: Any, batch: int) -> Any:
    import tensorflow as tf

    key = tf.random.experimental.stateless_fold_in([seed, _DRAWS], step)
    return tf.random.stateless_uniform([batch, DRAWS], key)


def _gathered(source: ArraySource, plan: TrainingPlan, share: Share) -> Any:
    import tensorflow as tf

    images, labels = tf.constant(source.images), tf.constant(source.labels)

    def batch(examples: Any, draws: Any) -> tuple[Any, Any]:
        picked = normalize(tf.gather(images, examples), plan.preprocess)
        return pad_crop_flip(picked, draws, plan.augment), tf.gather(labels, examples)

    keys = _keys(len(source), plan, share)
    return keys.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _fetch(source: ArraySource | FileSource) -> Any:
    import tensorflow as tf

    labels = tf.constant(source.labels)
    if isinstance(source, ArraySource):
        images = tf.constant(source.images)
        return lambda example, draws: (images[example], labels[example], draws)
    paths = tf.constant(source.paths)
    return lambda example, draws: (tf.io.read_file(paths[example]), labels[example], draws)


def _streamed(source: StreamSource, plan: TrainingPlan, share: Share) -> Any:
    """Yields (encoded image, label, random numbers) of this process's positions in a stream."""
    import tensorflow as tf

    size, per_worker = len(source), share.batch // share.workers
    start, end = plan.start_step * share.batch, plan.total_steps * share.batch
    first = start // size

    def epoch(number: Any) -> Any:
        # Sets the seed of this function's graph only. `shuffle` combines it with its own seed, so
        # that the process's seed would change the order; with 0, TensorFlow fails on a symbolic
        # comparison.
        tf.random.set_seed(1)
        key = tf.random.experimental.stateless_fold_in([plan.seed, _ORDER], number)
        # Draws with the whole key: half of the key is the same in each epoch.
        return source.open(tf.random.stateless_uniform((), key, None, None, tf.int64))

    records = (
        tf.data.Dataset.range(first, -(-end // size))
        .flat_map(epoch)
        .skip(start - first * size)  # records are still encoded: this costs reading only
        .take(end - start)
    )
    if share.workers > 1:
        records = records.batch(per_worker).shard(share.workers, share.worker).unbatch()
    mine = slice(share.worker * per_worker, (share.worker + 1) * per_worker)
    draws = (
        tf.data.Dataset.range(plan.start_step, plan.total_steps)
        .map(lambda step: _draws(plan.seed, step, share.batch)[mine])
        .unbatch()
    )
    return tf.data.Dataset.zip(records, draws).map(lambda record, row: (*record, row))


def _augmented(records: Any, plan: TrainingPlan, part: int) -> Any:
    """Decodes, augments and batches examples of any size."""
    import tensorflow as tf

    by_example = plan.augment.crop in ("resized", "scale")

    def example(image: Any, label: Any, draws: Any) -> Any:
        size = plan.preprocess.size
        if image.dtype == tf.string and by_example:
            part = decode_part(
                image, plan.channels, lambda shape: crop_box(shape, draws, plan.augment, size)
            )
            image = resize_crop(part, draws, plan.augment, size)
        elif by_example:
            image = random_crop(image, draws, plan.augment, size)
        else:
            if image.dtype == tf.string:
                image = decode(image, plan.channels)
            image = fit(image, plan.preprocess)
        return normalize(image, plan.preprocess), tf.cast(label, tf.int64), draws

    def finish(images: Any, labels: Any, draws: Any) -> Any:
        return images if by_example else pad_crop_flip(images, draws, plan.augment), labels

    examples = records.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(part, drop_remainder=True).map(finish)
