"""`GradientFlow`: a Keras callback that measures the gradient at each unit while a net trains."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis.chain import Chain
from keras_resnet.analysis.gradients import Gradients, UnitGradient, gradient_flow

_COLUMNS = (
    "step",
    "loss",
    "name",
    "stage",
    "index",
    "output_norm",
    "weight_norm",
    "weights",
)


class GradientFlow(keras.callbacks.Callback):
    """Measures `gradient_flow` on one batch before training and every so many steps.

    Works in `model.fit` on every backend, and in a loop of one's own that calls
    `on_train_begin({"step": steps_done})` and `on_train_batch_end(steps_done - 1)`, also after
    several steps at a time: it then measures at the first call at or behind each multiple of
    `every`. The net is left as it was.

    A run that resumes goes on behind the step of its checkpoint: rows at or behind it, from a
    session that was killed, are measured anew.

    Args:
        images: The batch, as the net takes it, `(batch, height, width, channels)`, normalised.
        labels: Its classes, integers `(batch,)`.
        every: Steps between measurements.
        csv_path: A file to keep the history in, a row for each unit and step, and to go on from.
        log_dir: A directory for TensorBoard; the events go to `gradient_flow` in it, which is
            begun anew by each session from the history.

    Attributes:
        history: What was measured, by step, in order.

    Raises:
        ValueError: If `every` is not a positive integer; when training begins, if the file is none
            of this callback's, or images or labels do not fit the net.
        ImportError: If `log_dir` is given and TensorFlow, which writes for TensorBoard, is missing.
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
            raise ImportError("`log_dir` needs TensorFlow, which writes the files of TensorBoard")
        self.history: dict[int, Gradients] = {}
        self._batch = (images, labels)
        self._every = every
        self._csv = None if csv_path is None else Path(csv_path)
        self._logs = None if log_dir is None else Path(log_dir) / "gradient_flow"
        self._writer: Any = None
        self._chain: Chain | None = None
        self._step = self._epoch_start = 0
        self._counts_itself = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes up the history, and measures where the step is due."""
        told = (logs or {}).get("step")
        # Keras numbers the batches of each epoch from 0; a loop that says its step does not.
        self._counts_itself = told is None
        optimizer = getattr(self.model, "optimizer", None)
        done = 0 if optimizer is None else int(keras.ops.convert_to_numpy(optimizer.iterations))
        self._step = self._epoch_start = done if told is None else int(told)
        if self._csv is not None and self._csv.is_file():
            self.history = read_gradient_flow(self._csv)
        again = self._step in self.history
        self.history = {step: row for step, row in self.history.items() if step < self._step}
        self._chain = Chain(self.model)
        if self._logs is not None:
            self._begin_events(self._logs)
        if again or self._step % self._every == 0:
            self._measure()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the step that the epoch's batches are numbered from."""
        if self._counts_itself:
            self._epoch_start = self._step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Measures where a multiple of `every` was reached or passed."""
        before, self._step = self._step, batch + 1
        if self._counts_itself:
            self._step += self._epoch_start
        if self._step // self._every > before // self._every:
            self._measure()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the files and lets the net's twin go."""
        self._chain = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _measure(self) -> None:
        # On JAX, asking for the model brings its variables up to date.
        if self.model is None or self._chain is None:
            raise RuntimeError("GradientFlow measures between on_train_begin and on_train_end")
        found = gradient_flow(self._chain, *self._batch)
        self.history[self._step] = found
        if self._csv is not None:
            _write(self._csv, self.history)
        if self._writer is not None:
            self._write_events(self._step, found)

    def _begin_events(self, directory: Path) -> None:
        import tensorflow as tf

        for old in directory.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = tf.summary.create_file_writer(str(directory))
        for step, row in self.history.items():
            self._write_events(step, row)

    def _write_events(self, step: int, found: Gradients) -> None:
        import tensorflow as tf

        with self._writer.as_default():
            tf.summary.scalar("gradient_growth", found.growth, step=step)
            for part in found.parts:
                tf.summary.scalar(f"gradient_at_output/{part.name}", part.output_norm, step=step)
                tf.summary.scalar(f"gradient_at_weights/{part.name}", part.weight_norm, step=step)
        self._writer.flush()


def _write(path: Path, history: Mapping[int, Gradients]) -> None:
    """Replaces the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(_rows(history))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _rows(history: Mapping[int, Gradients]) -> Iterator[tuple[object, ...]]:
    for step, found in history.items():
        for part in found.parts:
            yield (
                step,
                found.loss,
                part.name,
                part.stage,
                part.index,
                part.output_norm,
                part.weight_norm,
                part.weights,
            )


def read_gradient_flow(path: str | os.PathLike[str]) -> dict[int, Gradients]:
    """Reads the history that `GradientFlow` keeps in a file.

    Raises:
        ValueError: If it is none of `GradientFlow`'s files.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        try:
            rows = [
                (
                    int(row["step"]),
                    float(row["loss"]),
                    UnitGradient(
                        row["name"],
                        int(row["stage"]),
                        int(row["index"]),
                        float(row["output_norm"]),
                        float(row["weight_norm"]),
                        float(row["weights"]),
                    ),
                )
                for row in csv.DictReader(file)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no file of GradientFlow: {error!r}") from error
    losses = {step: loss for step, loss, _ in rows}
    return {
        step: Gradients(loss, tuple(part for at, _, part in rows if at == step))
        for step, loss in losses.items()
    }
