"""Batches for evaluation: every example once, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_resnet import PreprocessSpec

from .batches import Share, on_host
from .images import fit, normalize
from .scaled import decode_and_fit
from .sources import ArraySource, Source, StreamSource
from .stored import stored_examples


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
            image = decode_and_fit(image, channels, preprocess, source.decoding)
        else:
            image = fit(image, preprocess)
        return image if raw else normalize(image, preprocess), tf.cast(label, tf.int64), weight

    size = len(source)
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    examples = _numbered(source, share.batch, on_this_worker).map(
        lambda number, image, label: finish(image, label, tf.cast(number < size, tf.float32)),
        **parallel,
    )
    batches = examples.batch(share.per_replica, drop_remainder=True, **parallel)
    return batches.prefetch(tf.data.AUTOTUNE)


def _numbered(source: Source, batch: int, chosen: Callable[..., Any]) -> Any:
    """Yields (number, stored image, label) of a worker's examples; any ones fill the last batch.

    Each worker reads its own examples only, but for a stream, of which it decodes only its own.
    """
    import tensorflow as tf

    size = len(source)
    total = -(-size // batch) * batch
    if isinstance(source, StreamSource):
        records = source.open(None)
        records = records.concatenate(records.take(1).repeat(total - size))
        numbered = records.enumerate().map(lambda number, record: (number, *record))
        return numbered.filter(chosen)
    keys = (
        tf.data.Dataset.range(total)
        .filter(chosen)
        .map(lambda number: (tf.minimum(number, size - 1)[None], number[None]))
    )
    examples = stored_examples(keys, source)
    return examples.map(lambda image, label, number: (number, image, label))


def _in_order(source: ArraySource, preprocess: PreprocessSpec, share: Share, *, raw: bool) -> Any:
    """Returns evaluation batches of images in memory, one gather per batch."""
    import tensorflow as tf

    labels = on_host(source.labels)
    size, part = len(source), share.per_replica

    def batch(counter: Any) -> tuple[Any, Any, Any]:
        step, replica = counter // share.replicas, counter % share.replicas
        first = step * share.batch + (share.worker * share.replicas + replica) * part
        examples = first + tf.range(part, dtype=tf.int64)
        picked = source.gather(tf.minimum(examples, size - 1))
        return (
            picked if raw else normalize(picked, preprocess),
            tf.gather(labels, tf.minimum(examples, size - 1)),
            tf.cast(examples < size, tf.float32),
        )

    steps = -(-size // share.batch)
    batches = tf.data.Dataset.range(steps * share.replicas)
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    return batches.map(batch, **parallel).prefetch(tf.data.AUTOTUNE)
