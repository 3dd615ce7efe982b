"""What a training run would be, without training: `keras-resnet train --dry-run`."""

from __future__ import annotations

import dataclasses
import io
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .config import RunConfig
from .console import Console
from .data.preview import grid
from .files import write_bytes
from .preparation import prepare
from .pretrained import open_pretrained, with_pretrained
from .rundir import RunDirectory
from .trainer import Trainer

_WIDTH, _HEIGHT = 64, 10
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The size of a run, in bytes but for `parameters` and `trained`.

    Attributes:
        parameters: Parameters of the net, with those that are not trained.
        trained: Parameters that are trained.
        state: Weights, gradients, and the variables of the optimizer and of averages.
        activations: Outputs of all layers for one batch, as the gradient keeps them; None for
            stacked nets, whose layers hold several units.
        images: Images in memory.
        disk: Checkpoints that are kept at once, and the finished model.
    """

    parameters: int
    trained: int
    state: int
    activations: int | None
    images: int
    disk: int


def dry_run(
    config: RunConfig, pictures: Path | None = None, output: Path | None = None
) -> Estimate:
    """Prints a run's configuration, steps, schedule and size; trains nothing.

    Data, weights and net are opened and checked as for the run.

    Args:
        config: The run.
        pictures: Directory for `schedule.png` and `augmented.png`; None writes no picture.
        output: Directory of the run, which may be there already; nothing is written to it.

    Returns:
        The estimates.

    Raises:
        ValueError: If configuration, data and weights do not fit.
    """
    console = Console()
    with tempfile.TemporaryDirectory() as empty:
        path = output or Path(empty)
        pretrained = open_pretrained(config, path)
        config = with_pretrained(config, pretrained)
        prepared = prepare(config, RunDirectory(path), console, pretrained=pretrained)
    trainer = prepared.trainer
    console.say(config.to_json().rstrip())
    console.say(_describe(trainer))
    rates = _rates(trainer, _WIDTH)[1]
    console.say(
        f"Learning rate over {trainer.length.steps} steps, {min(rates):.3g} to {max(rates):.3g}:"
    )
    console.say(plot_text(rates))
    estimate = estimate_size(trainer)
    console.say(_sizes(config, estimate))
    if pictures is None:
        console.say("For pictures of the schedule and of augmented images: --dry-run DIRECTORY")
        return estimate
    pictures.mkdir(parents=True, exist_ok=True)
    write_bytes(pictures / "schedule.png", _schedule_png(trainer))
    images, _ = prepared.examples()
    write_bytes(pictures / "augmented.png", _picture_png(grid(images)))
    console.say(f"Pictures: {pictures / 'schedule.png'}, {pictures / 'augmented.png'}")
    return estimate


def plot_text(values: Sequence[float], height: int = _HEIGHT) -> str:
    """Returns a bar chart of characters, one column per value, from zero to the largest value."""
    top = max(values) or 1.0
    eighths = [round(8 * height * value / top) for value in values]
    rows = []
    for row in reversed(range(height)):
        bars = "".join(_BLOCKS[min(8, max(0, each - 8 * row))] for each in eighths)
        label = f"{top * (row + 1) / height:9.3g}" if row in (height - 1, height // 2 - 1) else ""
        rows.append(f"{label:>9} |{bars}".rstrip())
    return "\n".join([*rows, f"{'0':>9} +{'-' * len(values)}"])


def estimate_size(trainer: Trainer) -> Estimate:
    """Returns the size of a run that is prepared and not begun."""
    model, config = trainer.model, trainer.config
    count = sum(math.prod(weight.shape) for weight in model.weights)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    optimizer = sum(math.prod(variable.shape) for variable in trainer.optimizer.variables)
    averages = count if trainer.learner.averages is not None else 0
    width = 4 if config.runtime.precision == "float32" else 2
    activations = None
    if not model.stacked:
        batch = config.batch_size // trainer.strategy.num_replicas_in_sync
        activations = width * batch * sum(_outputs(layer) for layer in model.layers)
    parts = (trainer.data.train, trainer.data.validation, trainer.data.test)
    kept = config.checkpoint.keep + 2  # the best one, and the one that is being written
    return Estimate(
        parameters=count,
        trained=trained,
        state=4 * (count + trained + optimizer + averages),
        activations=activations,
        images=sum(getattr(part, "images", np.empty(0)).nbytes for part in parts if part),
        disk=kept * trainer.checkpoint_bytes + 4 * count,
    )


def _outputs(layer: Any) -> int:
    """Returns the numbers in a layer's output for one image."""
    shape = layer.output.shape[1:] if hasattr(layer, "output") else ()
    return math.prod(side for side in shape if side is not None) if shape else 0


def _describe(trainer: Trainer) -> str:
    data, config = trainer.data, trainer.config
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    images = ", ".join(f"{len(part)} {name}" for name, part in splits.items() if part is not None)
    return (
        f"{trainer.model.spec.name} on {data.name}: {len(data.class_names)} classes, {images} "
        f"images of {trainer.preprocess.size[0]} x {trainer.preprocess.size[1]} x {data.channels}; "
        f"{trainer.length.steps} steps of {config.batch_size} in {trainer.length.epochs} epochs of "
        f"{trainer.length.steps_per_epoch:.5g} steps"
    )


def _sizes(config: RunConfig, estimate: Estimate) -> str:
    activations = (
        f"activations of a replica's batch about {_mib(estimate.activations)}"
        if estimate.activations is not None
        else "activations not estimated (stacked net)"
    )
    if config.runtime.remat != "none":
        activations += f", less with remat={config.runtime.remat}"
    return (
        f"{estimate.parameters:,} parameters, {estimate.trained:,} of them trained. Memory: "
        f"{_mib(estimate.state)} for weights, gradients, optimizer and averages; {activations}; "
        f"{_mib(estimate.images)} of images. Disk: about {_mib(estimate.disk)}"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _rates(trainer: Trainer, count: int) -> tuple[list[int], list[float]]:
    """Returns up to so many steps, spread over the run, and the rate at each."""
    last = trainer.length.steps - 1
    steps = np.unique(np.linspace(0, last, min(count, last + 1)).round().astype("int64")).tolist()
    return steps, [float(trainer.learner.schedule(step)) for step in steps]


def _schedule_png(trainer: Trainer) -> bytes:
    from matplotlib.figure import Figure

    steps, rates = _rates(trainer, 500)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, rates)
    axes.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _picture_png(image: np.ndarray) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    shown = image[..., 0] if image.shape[-1] != 3 else image
    Image.fromarray(shown).save(content, format="png")
    return content.getvalue()
