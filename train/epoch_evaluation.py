"""The evaluation at the end of an epoch, and the weights that a run ends with."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from .averaging import WeightAverages
from .best_weights import BestWeights
from .checkpoint import Checkpoints
from .evaluation.classify import Evaluator
from .learner import Learner
from .snapshot import Progress


class EpochEvaluation:
    """Evaluates the weights that a user would get, and keeps the best ones.

    Args:
        learner: The net.
        strategy: The `tf.distribute` strategy.
        checkpoints: Where the best weights are written.
        write: Whether this process writes.
        submit: Takes the work of writing; see `BestWeights`.
        selects_best: Whether there are validation images. Without, each epoch reports on the test
            split, which chooses nothing.

    Attributes:
        best: The best weights so far.
    """

    def __init__(
        self,
        learner: Learner,
        strategy: Any,
        checkpoints: Checkpoints,
        *,
        write: bool,
        submit: Callable[[Callable[[], object]], None],
        selects_best: bool,
    ) -> None:
        self._learner, self._strategy = learner, strategy
        self.selects_best = selects_best
        self.best = BestWeights(learner.model, checkpoints, write=write, submit=submit)

    @functools.cached_property
    def evaluators(self) -> dict[str, Evaluator]:
        """The evaluators of the splits that the data has."""
        data, preprocess, model = self._learner.trained
        return {
            split: Evaluator(model, source, preprocess, strategy=self._strategy)
            for split, source in (("validation", data.validation), ("test", data.test))
            if source is not None
        }

    def averages(self, step: int) -> WeightAverages | None:
        """Returns the averages of the weights after `step` steps; None if there are none yet."""
        averages = self._learner.averages
        return None if averages is None or not averages.holds(step) else averages

    def evaluate(self, progress: Progress, epoch: int) -> dict[str, float]:
        """Evaluates, with averaged weights where the recipe averages.

        Args:
            progress: The state of the training loop; gets the figures of the best epoch.
            epoch: The epoch that has ended.

        Returns:
            The figures for the row of the epoch; none without images to evaluate on.
        """
        evaluator = self.evaluators.get("validation") or self.evaluators.get("test")
        if evaluator is None:
            return {}
        with self._evaluation_weights(progress.step):
            measured = evaluator()
            if self.selects_best:
                self.best.update(progress, epoch, measured.score, measured.loss)
        split = "val" if self.selects_best else "test"
        return {f"{split}_{name}": value for name, value in measured.figures.items()}

    def assign_final(self, step: int) -> None:
        """Assigns the best weights to the model, or averaged ones, or leaves the last."""
        with self._strategy.scope():
            averages = self.averages(step)
            if not self.best.assign() and averages is not None:
                averages.assign(self._learner.model)

    def _evaluation_weights(self, step: int) -> contextlib.AbstractContextManager[None]:
        """Puts the averaged weights in the model for a while, where the recipe averages."""
        averages = self.averages(step)
        model = self._learner.model
        return contextlib.nullcontext() if averages is None else averages.assigned(model)
