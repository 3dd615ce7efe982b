"""Batches for evaluation: every example once, each worker reading a range of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_resnet import PreprocessSpec

from .batches import Share
from .evaluation_plan import EvaluationPlan
from .images import fit, normalize
from .on_host import on_host
from .scaled import decode_and_fit
from .sources import ArraySource, Source, StreamSource
from .stored import stored_examples
from .streams import records_between
from .tracing import without_autograph


@without_autograph
def evaluation_batches(
    source: Source, preprocess: PreprocessSpec, channels: int, share: Share, *, raw: bool = False
) -> Any:
    """Returns a worker's examples once, in order; rows of weight 0 fill its last batches.

    `EvaluationPlan` has the examples of each worker. A worker reads its own only.

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

    plan = EvaluationPlan(len(source), share.batch, share.workers)
    if isinstance(source, ArraySource) and source.images.shape[1:3] == preprocess.size:
        return _in_order(source, preprocess, plan, share, raw=raw)

    def finish(image: Any, label: Any, *_: Any) -> Any:
        if image.dtype == tf.string:
            image = decode_and_fit(image, channels, preprocess, source.decoding)
        else:
            image = fit(image, preprocess)
        return image if raw else normalize(image, preprocess), tf.cast(label, tf.int64), 1.0

    parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    begin, end = plan.range_of(share.worker)
    examples = _filled(_finished(source, begin, end, finish), plan.rows - end + begin)
    batches = examples.batch(share.per_replica, drop_remainder=True, **parallel)
    return batches.prefetch(tf.data.AUTOTUNE)


def _filled(examples: Any, count: int) -> Any:
    """Appends rows of zeros, whose weight is 0, to (image, label, weight)."""
    import tensorflow as tf

    nothing = tuple(tf.zeros(spec.shape, spec.dtype) for spec in examples.element_spec)
    return examples.concatenate(tf.data.Dataset.from_tensors(nothing).repeat(count))


def _finished(source: Source, begin: int, end: int, finish: Callable[..., Any]) -> Any:
    """Yields `finish(stored image, label, ...)` of a range of the examples, and reads no others.

    Of streams without known files, those before the range are read too.
    """
    import tensorflow as tf

    if isinstance(source, StreamSource):
        if source.parted is not None:
            records = records_between(source.parted, begin, end)
        else:
            records = source.open(None).skip(begin).take(end - begin)
        return records.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    numbers = tf.data.Dataset.range(begin, end).map(lambda number: (number[None], number[None]))
    return stored_examples(numbers, source, finish)


def _in_order(
    source: ArraySource,
    preprocess: PreprocessSpec,
    plan: EvaluationPlan,
    share: Share,
    *,
    raw: bool,
) -> Any:
    """Returns evaluation batches of images in memory, one gather per batch."""
    import tensorflow as tf

    labels = on_host(source.labels)
    begin, end = plan.range_of(share.worker)
    part = share.per_replica

    def batch(counter: Any) -> tuple[Any, Any, Any]:
        examples = begin + counter * part + tf.range(part, dtype=tf.int64)
        present = tf.minimum(examples, len(source) - 1)
        picked = source.gather(present)
        return (
            picked if raw else normalize(picked, preprocess),
            tf.gather(labels, present),
            tf.cast(examples < end, tf.float32),
        )

    batches = tf.data.Dataset.range(plan.steps * share.replicas)
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    return batches.map(batch, **parallel).prefetch(tf.data.AUTOTUNE)
