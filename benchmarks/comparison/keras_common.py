"""Shared by all contenders in Keras, ours and the peers': data, compilation, `fit`, inference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from .workload import PhaseTimer, Runner, Workload, random_batch, repeat

Seconds = dict[str, float]


def set_precision(workload: Workload) -> None:
    """Sets Keras's dtype policy for the nets that are built next."""
    import keras

    keras.config.set_dtype_policy(workload.precision)


def repeated_batch(workload: Workload) -> Any:
    """Returns an endless `tf.data.Dataset` of one batch in memory."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(random_batch(workload)).repeat()


def compile_model(
    model: Any, workload: Workload, *, from_logits: bool = True, decay: bool = True
) -> None:
    """Compiles a model as every Keras contender is: SGD with momentum 0.9, accuracy.

    Keras's own weight decay is the cheapest that it offers; a net whose layers have L2 regularizers
    needs none.
    """
    import keras

    model.compile(
        optimizer=keras.optimizers.SGD(1e-3, momentum=0.9, weight_decay=1e-4 if decay else None),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=["accuracy"],
        jit_compile=True if workload.xla else "auto",
    )


def fit_runner(
    net: Callable[[Workload], Any],
    workload: Workload,
    timer: PhaseTimer,
    multiply_adds: Callable[[Any], int | None] = lambda model: None,
    **compilation: bool,
) -> Runner:
    """Builds and compiles a net, takes the first step, and returns the runner of `Model.fit`."""
    set_precision(workload)
    with timer("build"):
        model = net(workload)
        compile_model(model, workload, **compilation)
    batches = repeated_batch(workload)
    with timer("first step"):
        model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    return Runner(_timed_fit(model, batches), multiply_adds(model))


def _timed_fit(model: Any, batches: Any) -> Callable[[int], Seconds]:
    """Returns a function that times `fit` from the end of its first step to the end of its last.

    A user's epochs have thousands of steps; the start and end of an epoch would weigh too much on
    epochs of a few.
    """
    import keras

    class Stopwatch(keras.callbacks.Callback):
        """Notes when the first and the last step of an epoch ended."""

        started = ended = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Waits for the loss of the first and the last step."""
            if batch in (0, self.params["steps"] - 1):
                float(logs["loss"])
                self.ended = time.perf_counter()
                if batch == 0:
                    self.started = self.ended

    watch = Stopwatch()

    def run(steps: int) -> Seconds:
        model.fit(batches, steps_per_epoch=steps + 1, shuffle=False, verbose=0, callbacks=[watch])
        return {"": watch.ended - watch.started}

    return run


def time_inference(model: Any, workload: Workload) -> Callable[[int], None]:
    """Returns a function that runs inference on one batch, and fetches each result.

    Mode `eager` calls the model, `function` calls it in a `tf.function`, `predict` is
    `predict_on_batch`.
    """
    import tensorflow as tf

    images = random_batch(workload)[0]
    if workload.mode == "predict":
        return repeat(lambda: model.predict_on_batch(images))
    tensor = tf.constant(images)

    def call(x: Any) -> Any:
        return model(x, training=False)

    function = call if workload.mode == "eager" else tf.function(call, jit_compile=workload.xla)
    return repeat(lambda: function(tensor).numpy())


def time_batches(dataset: Iterable[Any], workload: Workload) -> Callable[[int], Seconds]:
    """Returns a function that times an input pipeline, which stands still between rounds.

    Each round starts the pipeline, discards half as many batches as are timed, and ends it. A
    pipeline that stayed alive would prepare batches while other contenders are measured.
    """

    def run(batches: int) -> Seconds:
        clock = time.process_time if workload.processor_time else time.perf_counter
        source = iter(dataset)
        for _ in range(batches // 2 + 1):
            next(source)
        started = clock()
        for _ in range(batches):
            next(source)
        return {"": clock() - started}

    return run


def time_save_and_load(
    save: Callable[[], Any], load: Callable[[], Any]
) -> Callable[[int], Seconds]:
    """Returns a function that times saving and loading separately."""

    def run(times: int) -> Seconds:
        seconds = {"save": 0.0, "load": 0.0}
        for _ in range(times):
            for part, work in (("save", save), ("load", load)):
                started = time.perf_counter()
                work()
                seconds[part] += time.perf_counter() - started
        return seconds

    return run
