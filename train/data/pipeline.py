"""Batches for training, from a source of images.

The order and the augmentation of training images are functions of the seed and the step. Step k of
a run with batch size B reads positions k*B to k*B + B - 1. With N training images, position p is
example `shuffle(epoch)[p % N]` of epoch `p // N`, and its random numbers are row `p - k*B` of a
draw keyed by (seed, k). A run that resumes at step k starts with position k*B, and any number of
workers and replicas reads the same batches. With R repeats a batch has U = ceil(B / R) different
images: row i is position k*U + i % U, so that the copies of an image are never neighbours.
Record files have an order of their own, by which each worker reads its part of them
(`stream_parts.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..augment import (
    changes_images,
    check_augmentation,
    example_draws,
    image_plan,
    inside_images,
    is_progressive,
    pad_crop_flip,
    training_size,
)
from .batch_changes import changes_batches, make_batch_change
from .batches import Share as Share
from .batches import TrainingPlan as TrainingPlan
from .batches import label_of
from .evaluation_pipeline import evaluation_batches as evaluation_batches
from .hand_over import crops_originals, make_finish, normalized_by_host
from .image_changes import make_image_change, open_image, place_images
from .images import normalize
from .order import make_balanced_order, shuffled
from .service import NUMBER, check_service, served
from .sources import ArraySource, FileSource, RecordSource, Source, StreamSource
from .stored import stored_examples
from .streams import parted_records, windowed_records
from .tracing import without_autograph


@without_autograph
def training_batches(source: Source, plan: TrainingPlan, share: Share) -> Any:
    """Returns the training batches from `plan.start_step` on.

    Args:
        source: The training images.
        plan: The parameters of the batches.
        share: The batch and this process's part of it.

    Returns:
        A `tf.data.Dataset` of (float32 images `(per_replica, height, width, channels)`, int64
        labels `(per_replica,)`), with one element per step and replica of this process. Labels are
        float32 `(per_replica, classes)` where images are mixed or have several labels.

    Raises:
        ValueError: If the augmentation does not fit the images or the batch.
    """
    import tensorflow as tf

    finish = make_finish(plan.preprocess, plan.augment)
    return pixel_batches(source, plan, share).map(
        lambda pixels, labels: (finish(pixels), labels),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


@without_autograph
def pixel_batches(source: Source, plan: TrainingPlan, share: Share) -> Any:
    """Returns the training batches for a device that finishes them.

    Args:
        source: The training images.
        plan: The parameters of the batches.
        share: The batch and this process's part of it.

    Returns:
        A `tf.data.Dataset` of (pixels, labels) as `training_batches` has it, but for the images:
        `make_finish` makes them of the pixels.

    Raises:
        ValueError: If the augmentation does not fit the images or the batch.
    """
    import tensorflow as tf

    check_augmentation(
        plan.augment,
        size=plan.preprocess.size,
        channels=plan.channels,
        batch=share.batch,
        per_replica=share.per_replica,
    )

    if plan.service is not None:
        check_service(source, plan.service)
    if isinstance(source, StreamSource):
        streamed = _streamed(source, plan, share).map(
            _make_example(plan, source), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        dataset = _batched(streamed, plan, share.per_replica)
    elif isinstance(source, ArraySource) and _has_training_size(source, plan):
        dataset = _gathered(source, plan, share)
    else:
        keys = _keys(source, plan, share)
        examples = stored_examples(keys, source, _make_example(plan, source))
        dataset = _batched(examples, plan, share.per_replica)
    if plan.service is not None:
        first, last = (step * share.replicas for step in (plan.start_step, plan.total_steps))
        dataset = served(dataset, plan.service, first, last)
    if changes_batches(plan.augment):
        counter = _counter(plan, share)
        dataset = tf.data.Dataset.zip(counter, dataset).map(
            make_batch_change(plan, share), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _has_training_size(source: ArraySource, plan: TrainingPlan) -> bool:
    at_size = source.images.shape[1:3] == plan.preprocess.size
    return at_size and not crops_originals(plan.augment)


def _counter(plan: TrainingPlan, share: Share) -> Any:
    """Yields `step * replicas + replica` for each step and replica of this process."""
    import tensorflow as tf

    first, last = plan.start_step * share.replicas, plan.total_steps * share.replicas
    return tf.data.Dataset.range(first, last)


def _rows(plan: TrainingPlan, share: Share, step: Any, first: int | Any, count: int) -> Any:
    """Returns the changes of `count` images from row `first` of the global batch of a step."""
    import tensorflow as tf

    draws = example_draws(plan.augment, plan.seed, step, share.batch)
    draws = {name: values[first : first + count] for name, values in draws.items()}
    size: Any = plan.preprocess.size
    if is_progressive(plan.augment) and crops_originals(plan.augment):
        size = training_size(plan.augment, plan.preprocess.size, step, plan.total_steps)
        rows = image_plan(plan.augment, draws, size)
        return {**rows, "size": tf.tile(size[None], (count, 1))}
    return image_plan(plan.augment, draws, size)


def _keys(source: ArraySource | FileSource | RecordSource, plan: TrainingPlan, share: Share) -> Any:
    """Yields example numbers and the rows of random numbers for each step and replica."""
    import tensorflow as tf

    size, part, different = len(source), share.per_replica, plan.different(share.batch)
    groups = None
    if not isinstance(source, RecordSource) and source.balanced:
        groups = make_balanced_order(source.labels, plan.seed)

    def keys(counter: Any) -> tuple[Any, Any]:
        step, replica = counter // share.replicas, counter % share.replicas
        first = (share.worker * share.replicas + replica) * part
        rows = first + tf.range(part, dtype=tf.int64)
        positions = step * different + rows % different
        changes = _rows(plan, share, step, first, part)
        if plan.service is not None:
            changes[NUMBER] = tf.fill([part], counter)
        if groups is not None:
            return groups(positions), changes
        return shuffled(plan.seed, positions // size, positions % size, size), changes

    return _counter(plan, share).map(keys, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _gathered(source: ArraySource, plan: TrainingPlan, share: Share) -> Any:
    """Returns batches of images that have the network's size, one gather per batch."""
    import tensorflow as tf

    label = label_of(source)

    def batch(examples: Any, rows: Any) -> tuple[Any, Any]:
        images = source.gather(examples)
        if normalized_by_host(plan.augment):
            images = normalize(images, plan.preprocess)
        return _padded(images, rows, plan), label(examples)

    def placed(examples: Any, rows: Any) -> tuple[Any, Any, Any]:
        picked = place_images(source.gather(examples), rows["place"], plan)
        return picked, label(examples), rows

    keys = _keys(source, plan, share)
    if not changes_images(plan.augment):
        return keys.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    examples = keys.map(placed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).unbatch()
    change = make_image_change(plan)
    changed = examples.map(
        lambda image, label, row: (change(image, row), label, _later(row)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return _batched(changed, plan, share.per_replica)


def _streamed(source: StreamSource, plan: TrainingPlan, share: Share) -> Any:
    """Yields (encoded image, label, changes) of this process's positions in a stream."""
    import tensorflow as tf

    per_worker = share.batch // share.workers
    own = share.worker * per_worker
    if source.parted is None:
        records = windowed_records(source, plan, share)
    else:
        records = parted_records(source.parted, plan, share)
    steps = tf.data.Dataset.range(plan.start_step, plan.total_steps)
    rows = steps.map(lambda step: _rows(plan, share, step, own, per_worker)).unbatch()
    return tf.data.Dataset.zip(records, rows).map(lambda record, row: (*record, row))


def _make_example(plan: TrainingPlan, source: Source) -> Callable[[Any, Any, Any], Any]:
    """Returns a function that decodes and augments an example of any size."""
    import tensorflow as tf

    change = make_image_change(plan)

    def example(image: Any, label: Any, row: Any) -> Any:
        label = label if label.shape.rank else tf.cast(label, tf.int64)
        return change(open_image(image, row, plan, source), row), label, _later(row)

    return example


def _later(row: Any) -> Any:
    """Returns what of an image's row of `image_plan` is needed once it is in its batch."""
    return {name: row[name] for name in ("place", "box", NUMBER) if name in row}


def _batched(examples: Any, plan: TrainingPlan, part: int) -> Any:
    """Collects (image, label, row) into batches of (pixels, labels)."""
    import tensorflow as tf

    placed = crops_originals(plan.augment) or changes_images(plan.augment)

    def hand_over(images: Any, labels: Any, rows: Any) -> Any:
        pixels = {"images": images} if placed else _padded(images, rows, plan)
        if plan.service is not None:
            pixels[NUMBER] = rows[NUMBER][0]
        if plan.augment.erasing and not normalized_by_host(plan.augment):
            height, width = tf.unstack(tf.shape(images)[1:3])
            top, left, high, wide = tf.unstack(rows["box"][:, None], axis=-1)
            pixels["erased_rows"] = _within(tf.range(height), top, high)
            pixels["erased_columns"] = _within(tf.range(width), left, wide)
        return pixels, labels

    parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    return examples.batch(part, drop_remainder=True, **parallel).map(hand_over, **parallel)


def _within(places: Any, first: Any, count: Any) -> Any:
    return (places >= first) & (places < first + count)


def _padded(images: Any, rows: Any, plan: TrainingPlan) -> dict[str, Any]:
    """Returns pixels of images that are padded, cropped and mirrored in batches."""
    draws, augment = rows["place"], plan.augment
    pixels = {"images": pad_crop_flip(images, draws, augment)}
    inside = inside_images(draws, augment, *plan.preprocess.size)
    if inside is not None and not normalized_by_host(augment):
        pixels["rows"], pixels["columns"] = inside
    return pixels
