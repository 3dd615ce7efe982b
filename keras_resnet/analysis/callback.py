"""`GradientFlow`: a Keras callback that measures the gradient at each unit during training."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis.chain import Chain
from keras_resnet.analysis.gradients import Gradients, UnitGradient, gradient_flow
from keras_resnet.weights.files.file_system import replace

_COLUMNS = ("step", "loss", *(field.name for field in dataclasses.fields(UnitGradient)))


class GradientFlow(keras.callbacks.Callback):
    """Measures `gradient_flow` on one batch before training and every `every` steps.

    Works in `model.fit` on every backend, and in a custom loop that calls
    `on_train_begin({"step": steps_done})` and `on_train_batch_end(steps_done - 1)`. The loop may
    call it after several steps at a time: the callback measures at the first call at or after each
    multiple of `every`. The network is not changed.

    A resumed run continues after the step of its checkpoint: rows at or after that step, from the
    session that was interrupted, are measured again.

    Args:
        images: Network inputs, `(batch, height, width, channels)`, normalised.
        labels: Class numbers, integers `(batch,)`.
        every: Number of steps between measurements.
        csv_path: File that stores the history, one row per step and unit. An existing history is
            continued.
        log_dir: Directory for TensorBoard. The events are written to its subdirectory
            `gradient_flow`, from the whole history at the start of each session.

    Attributes:
        history: The measurements by step, in order.

    Raises:
        ValueError: If `every` is not a positive integer. When training begins: if `csv_path` was
            not written by this callback, or `images` or `labels` do not fit the network.
        ImportError: If `log_dir` is given and TensorFlow, which writes the events, is missing.

    Example:
        ```python
        flow = keras_resnet.analysis.GradientFlow(images[:32], labels[:32], every=100)
        model.fit(images, labels, callbacks=[flow])
        growth = {step: gradients.growth for step, gradients in flow.history.items()}
        ```
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        every: int = 100,
        csv_path: str | os.PathLike[str] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"`every` must be a positive integer. Received: every={every!r}")
        if log_dir is not None and importlib.util.find_spec("tensorflow") is None:
            raise ImportError("`log_dir` needs TensorFlow, which writes TensorBoard's files")
        self.history: dict[int, Gradients] = {}
        self._batch = (images, labels)
        self._every = every
        self._csv = None if csv_path is None else Path(csv_path)
        self._logs = None if log_dir is None else Path(log_dir) / "gradient_flow"
        self._writer: Any = None
        self._chain: Chain | None = None
        self._step = self._epoch_start = 0
        self._in_fit = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Reads the history, and measures if the step is due."""
        step = (logs or {}).get("step")
        # `fit` numbers the batches of each epoch from 0; a loop that passes its step does not.
        self._in_fit = step is None
        self._step = self._epoch_start = self._steps_done() if step is None else int(step)
        if self._csv is not None and self._csv.is_file():
            self.history = read_gradient_flow(self._csv)
        measured_before = self._step in self.history
        self.history = {step: row for step, row in self.history.items() if step < self._step}
        self._chain = Chain(self.model)
        if self._logs is not None:
            self._open_events(self._logs)
        if measured_before or self._step % self._every == 0:
            self._measure()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers the step at which the epoch's batches start."""
        if self._in_fit:
            self._epoch_start = self._step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Measures if a multiple of `every` was reached or passed."""
        before, self._step = self._step, batch + 1
        if self._in_fit:
            self._step += self._epoch_start
        if self._step // self._every > before // self._every:
            self._measure()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the event file and releases the copy of the network."""
        self._chain = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _steps_done(self) -> int:
        optimizer = getattr(self.model, "optimizer", None)
        return 0 if optimizer is None else int(keras.ops.convert_to_numpy(optimizer.iterations))

    def _measure(self) -> None:
        # On JAX, reading `self.model` brings its variables up to date.
        if self.model is None or self._chain is None:
            raise RuntimeError("GradientFlow measures between on_train_begin and on_train_end")
        measured = gradient_flow(self._chain, *self._batch)
        self.history[self._step] = measured
        if self._csv is not None:
            _write_csv(self._csv, self.history)
        if self._writer is not None:
            self._write_events(self._step, measured)

    def _open_events(self, directory: Path) -> None:
        import tensorflow as tf

        for old in directory.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = tf.summary.create_file_writer(str(directory))
        for step, row in self.history.items():
            self._write_events(step, row)

    def _write_events(self, step: int, measured: Gradients) -> None:
        import tensorflow as tf

        with self._writer.as_default():
            tf.summary.scalar("gradient_growth", measured.growth, step=step)
            for part in measured.parts:
                tf.summary.scalar(f"gradient_at_output/{part.name}", part.output_norm, step=step)
                tf.summary.scalar(f"gradient_at_weights/{part.name}", part.weight_norm, step=step)
        self._writer.flush()


def read_gradient_flow(path: str | os.PathLike[str]) -> dict[int, Gradients]:
    """Reads the history that `GradientFlow` writes to `csv_path`.

    Returns:
        The measurements by step, in order.

    Raises:
        ValueError: If the file was not written by `GradientFlow`.

    Example:
        ```python
        history = keras_resnet.analysis.read_gradient_flow("run/gradient_flow.csv")
        ```
    """
    losses: dict[int, float] = {}
    parts: dict[int, list[UnitGradient]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        try:
            for row in csv.DictReader(file):
                step = int(row["step"])
                losses[step] = float(row["loss"])
                parts.setdefault(step, []).append(
                    UnitGradient(
                        row["name"],
                        int(row["stage"]),
                        int(row["index"]),
                        float(row["output_norm"]),
                        float(row["weight_norm"]),
                        float(row["weights"]),
                    )
                )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{os.fspath(path)!r} was not written by GradientFlow: {error!r}"
            ) from error
    return {step: Gradients(losses[step], tuple(parts[step])) for step in losses}


def _write_csv(path: Path, history: Mapping[int, Gradients]) -> None:
    """Writes the history under a temporary name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for step, row in history.items():
                writer.writerows((step, row.loss, *dataclasses.astuple(part)) for part in row.parts)
        os.chmod(temporary, 0o644)
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
