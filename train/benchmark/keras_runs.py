"""What all contenders in Keras share, ours and the peers': feed, compilation, `fit`, inference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from .job import Job, batch_of


def set_precision(job: Job) -> None:
    """Sets Keras's policy for the nets that are built next."""
    import keras

    keras.config.set_dtype_policy(job.precision)


def feed(job: Job) -> Any:
    """Returns an endless `tf.data.Dataset` of one batch that lies in memory."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch_of(job)).repeat()


def compile_as_all(model: Any, job: Job, *, from_logits: bool, decays: bool = True) -> None:
    """Compiles a model as every Keras contender is: SGD with momentum 0.9, accuracy.

    Keras's own weight decay is the cheapest that it offers; a net whose layers bring L2
    regularizers takes none beside them.
    """
    import keras

    model.compile(
        optimizer=keras.optimizers.SGD(1e-3, momentum=0.9, weight_decay=1e-4 if decays else None),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=["accuracy"],
        jit_compile=True if job.xla else "auto",
    )


def fit_turns(model: Any, batches: Any) -> Callable[[int], dict[str, float]]:
    """Returns turns of `Model.fit` from whose time the start of an epoch is left out.

    A user's epochs are thousands of steps; what `fit` spends before the first one and after the
    last would weigh on turns of a few.
    """
    import keras

    class Stopwatch(keras.callbacks.Callback):
        """Notes when the first and the last step of an epoch ended."""

        ended: tuple[float, float] = (0.0, 0.0)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Waits for the step's loss where it is one of the two."""
            if batch in (0, self.params["steps"] - 1):
                float(logs["loss"])
                now = time.perf_counter()
                self.ended = (now if batch == 0 else self.ended[0], now)

    watch = Stopwatch()

    def turn(count: int) -> dict[str, float]:
        model.fit(batches, steps_per_epoch=count + 1, shuffle=False, verbose=0, callbacks=[watch])
        return {"": watch.ended[1] - watch.ended[0]}

    return turn


def inference_turns(model: Any, job: Job) -> Callable[[int], None]:
    """Returns turns of inference on one batch, by the job's route.

    `eager` calls the model, `function` calls it in a `tf.function`, `predict` is
    `predict_on_batch`. Each call's result is fetched, as a user would.
    """
    import tensorflow as tf

    images = batch_of(job)[0]
    if job.route == "predict":

        def turn(count: int) -> None:
            for _ in range(count):
                model.predict_on_batch(images)

        return turn
    tensor = tf.constant(images)

    def call(x: Any) -> Any:
        return model(x, training=False)

    run = call if job.route == "eager" else tf.function(call, jit_compile=job.xla)

    def calls(count: int) -> None:
        for _ in range(count):
            run(tensor).numpy()

    return calls


def steady(batches: Iterable[Any]) -> Callable[[int], dict[str, float]]:
    """Returns turns of an input pipeline, which stands still between them.

    Each turn starts it anew, lets it get going for half as many batches as are timed, and drops it:
    what one prepares while others have their turn would be a gift to it and a burden to them.
    """

    def turn(count: int) -> dict[str, float]:
        source = iter(batches)
        for _ in range(count // 2 + 1):
            next(source)
        started = time.perf_counter()
        for _ in range(count):
            next(source)
        return {"": time.perf_counter() - started}

    return turn


def save_and_load(
    save: Callable[[], Any], load: Callable[[], Any]
) -> Callable[[int], dict[str, float]]:
    """Returns turns that time saving and loading apart."""

    def turn(count: int) -> dict[str, float]:
        seconds = {"save": 0.0, "load": 0.0}
        for _ in range(count):
            for part, work in (("save", save), ("load", load)):
                started = time.perf_counter()
                work()
                seconds[part] += time.perf_counter() - started
        return seconds

    return turn
