"""From a source to batches: order and augmentation are functions of the seed and the step.

Training counts positions: step k of a run with batch B sees positions k*B .. k*B + B - 1. Position
p stands for example `shuffle(epoch)[p % N]` of epoch `p // N`, and its random numbers are row
`p - k*B` of a draw keyed by (seed, k). So a run resumed at step k starts to count at k, and any
number of workers and replicas sees the same batches.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_resnet import PreprocessSpec

from ..augment import DRAWS, crop_box, pad_crop_flip, random_crop, resize_crop
from ..config import AugmentConfig
from .images import decode, decode_part, fit, normalize
from .sources import ArraySource, FileSource, Source, StreamSource

_ORDER, _DRAWS = 1, 2  # keep the two streams of random numbers apart


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of each global batch this process prepares.

    Attributes:
        batch: Images in a global batch.
        worker: Index of this process.
        workers: Number of processes.
        replicas: Devices of this process; each gets one tensor of `per_replica` images.
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
            replicas: Devices of all processes together.
        """
        pipelines = context.num_input_pipelines
        return cls(batch, context.input_pipeline_id, pipelines, replicas // pipelines)

    @property
    def per_replica(self) -> int:
        """Images on one device."""
        return self.batch // (self.workers * self.replicas)


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What the training batches are a function of."""

    preprocess: PreprocessSpec
    augment: AugmentConfig
    channels: int
    seed: int
    start_step: int
    total_steps: int


def training_batches(source: Source, plan: TrainingPlan, share: Share) -> Any:
    """Returns the training batches from `plan.start_step` on.

    Returns:
        A `tf.data.Dataset` of (float32 images `(per_replica, height, width, channels)`, int64
        labels `(per_replica,)`), one element for each replica of this process in turn.
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
    """Returns every example once, in order; the last batches are filled up with weight 0.

    Args:
        source: The images.
        preprocess: Size and normalisation.
        channels: Of the images.
        share: The batch and this process's part of it.
        raw: Whether to return uint8 images, before normalisation.

    Returns:
        A `tf.data.Dataset` of (images, labels, float32 weights), shaped as training batches are.
    """
    import tensorflow as tf

    if isinstance(source, ArraySource) and source.images.shape[1:3] == preprocess.size:
        return _in_order(source, preprocess, share, raw=raw)
    mine = share.batch // share.workers

    def ours(number: Any, *rest: Any) -> Any:
        return (number // mine) % share.workers == share.worker

    def finish(image: Any, label: Any, weight: Any) -> Any:
        if image.dtype == tf.string:
            image = decode(image, channels)
        image = fit(image, preprocess)
        return image if raw else normalize(image, preprocess), tf.cast(label, tf.int64), weight

    # Each worker picks its examples while they are encoded.
    examples = _numbered(source, share.batch).filter(ours)
    size = len(source)
    examples = examples.map(
        lambda number, image, label: finish(image, label, tf.cast(number < size, tf.float32)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return examples.batch(share.per_replica, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _numbered(source: Source, batch: int) -> Any:
    """Yields (number, image as it is stored, label), the last batch filled up with any example."""
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
    """Evaluation batches of images in memory, gathered a batch at a time."""
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
    """Yields, for each replica of each step, example numbers and random numbers."""
    import tensorflow as tf

    part = share.per_replica

    def keys(counter: Any) -> tuple[Any, Any]:
        step, replica = counter // share.replicas, counter % share.replicas
        first = (share.worker * share.replicas + replica) * part
        positions = step * share.batch + first + tf.range(part, dtype=tf.int64)
        epochs = positions // size
        order = tf.fill([part], tf.constant(_ORDER, tf.int64))
        seeds = tf.stack([order, tf.fill([part], tf.constant(plan.seed, tf.int64)), epochs], axis=1)
        # `tf.random.experimental.index_shuffle` refuses one seed an index, which its document
        # promises, and its 4 rounds put up to 38 % more pairs of examples into one batch again
        # than chance does; 8 rounds are as good as random.
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
    """Reads the epochs' records in order and keeps this process's positions."""
    import tensorflow as tf

    size, mine = len(source), share.batch // share.workers
    start, end = plan.start_step * share.batch, plan.total_steps * share.batch
    first = start // size

    def epoch(number: Any) -> Any:
        # The seed of this function's graph alone: `shuffle` joins it to the one it is given, so
        # the process's would count too, and one of 0 makes TensorFlow compare a symbolic tensor.
        tf.random.set_seed(1)
        key = tf.random.experimental.stateless_fold_in([plan.seed, _ORDER], number)
        # A draw with the key: a part of it alone is the same in each epoch.
        return source.open(tf.random.stateless_uniform((), key, None, None, tf.int64))

    records = (
        tf.data.Dataset.range(first, -(-end // size))
        .flat_map(epoch)
        .skip(start - first * size)  # records are still encoded: this costs reading alone
        .take(end - start)
    )
    if share.workers > 1:
        records = records.batch(mine).shard(share.workers, share.worker).unbatch()
    draws = (
        tf.data.Dataset.range(plan.start_step, plan.total_steps)
        .map(lambda step: _draws(plan.seed, step, share.batch)[share.worker * mine :][:mine])
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
