"""Training batches that the workers of a tf.data service prepare, in the order of the run.

The service hands out the numbers of the batches, so that each is prepared once, by any worker. The
batches then come in any order. Each carries its number, and the consumer puts them in order, so
that a run sees the same batches, to the bit, as without the service, also after it is resumed.

What the service gives up: a worker that is lost takes its batches along. The run then ends with an
error and can be resumed; it never goes on without them.

Source: tf.data service, `ShardingPolicy.DYNAMIC` ("at-most-once visitation").
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from .decoding import Decoding
from .sources import FileSource, Source

LOCAL = "local"
"""The address that stands for a dispatcher and a worker in this process."""

NUMBER = "number"
"""The name of a batch's number among its pixels: `step * replicas + replica`."""

LARGEST_GAP = 64
"""Later batches that are kept while one is missing."""

_SECONDS_TO_CONNECT = 20.0


def check_service(source: Source, address: str) -> None:
    """Checks that a service can prepare the images of a source, and answers.

    Args:
        source: The training images.
        address: `host:port` of the dispatcher, or `local`.

    Raises:
        ValueError: If it cannot, or nothing listens there.
    """
    if not isinstance(source, FileSource) or source.container is not None:
        raise ValueError(
            "`--data-service` prepares image files that its workers can open by their paths. "
            "Received: images in memory (--set data.cache=none keeps files), records or a container"
        )
    if address == LOCAL:
        return
    if source.decoding != Decoding(oriented=False, accurate=False):
        raise ValueError(
            "`--data-service` with workers of other processes can use TensorFlow's decoders only: "
            "give --set data.orientation=stored --set data.decoding=fast, and turn the files "
            f"beforehand. Received: {source.decoding}"
        )
    host, colon, port = address.removeprefix("grpc://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ValueError(
            f"`--data-service` must be HOST:PORT of a dispatcher, or {LOCAL!r}. "
            f"Received: {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"`--data-service`: no dispatcher answers at {host}:{port} ({error})"
        ) from error


def served(batches: Any, address: str, first: int, last: int) -> Any:
    """Returns the same batches in the same order, prepared by a service.

    Args:
        batches: A dataset of (pixels, labels) that begins with a range of the batches' numbers;
            the pixels hold the number under `NUMBER`.
        address: The dispatcher, or `local`.
        first: The first number.
        last: The number after the last one.
    """
    import tensorflow as tf

    target = _local()[0].target if address == LOCAL else f"grpc://{address.split('//')[-1]}"
    # Options of the service's workers: they do not pass with the dataset otherwise.
    options = tf.data.Options()
    options.deterministic = True
    distributed = batches.with_options(options).apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=target,
            compression=None if address == LOCAL else "AUTO",
        )
    )
    pixels, labels = distributed.element_spec
    kept = {name: spec for name, spec in pixels.items() if name != NUMBER}
    return tf.data.Dataset.from_generator(
        lambda: _without_number(in_order(distributed, first, last)),
        output_signature=(kept, labels),
    )


def in_order(batches: Iterable[Any], first: int, last: int) -> Iterator[Any]:
    """Yields batches by their numbers, from `first` to `last - 1`, each once.

    Raises:
        RuntimeError: If one is missing, or comes twice.

    Example:
        >>> [int(pixels["number"]) for pixels, _ in in_order(batches, 0, 3)]  # came as 1, 0, 2
        [0, 1, 2]
    """
    waiting: dict[int, Any] = {}
    for batch in batches:
        number = int(batch[0][NUMBER])
        if number in waiting or not first <= number < last:
            raise RuntimeError(f"The tf.data service gave batch {number} twice, or unasked")
        waiting[number] = batch
        while first in waiting:
            yield waiting.pop(first)
            first += 1
        if len(waiting) > LARGEST_GAP:
            break
    if first < last:
        raise RuntimeError(
            f"Batch {first} did not come from the tf.data service, and {len(waiting)} later ones "
            "did: one of its workers was lost, or is far slower than the others. Give the same "
            "command again to resume from the last checkpoint"
        )


def _without_number(batches: Iterable[Any]) -> Iterator[Any]:
    for pixels, labels in batches:
        yield {name: value for name, value in pixels.items() if name != NUMBER}, labels


@functools.cache
def _local() -> tuple[Any, Any]:
    """Starts a dispatcher and a worker in this process, once."""
    import tensorflow as tf

    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    return dispatcher, service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
