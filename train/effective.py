"""Settings that the length of a run or the number of its images cuts short."""

from __future__ import annotations

from collections.abc import Iterator

from .config import RunConfig
from .length import Length
from .phases import head_steps
from .schedules import swa_epoch


def changed_settings(config: RunConfig, length: Length, images: int) -> list[str]:
    """Returns one line for each setting that does not have its full effect in a run.

    Args:
        config: The run.
        length: Its length.
        images: Number of training images.

    Example:
        >>> config = RunConfig(epochs=3, early_stop=5)
        >>> changed_settings(config, length_of(config, 1280), 1280)
        ['`early_stop=5` cannot end a run of 3 epochs early']
    """
    return [
        *_of_length(config, length, images),
        *_of_phases(config, length),
        *_of_schedule(config, length),
        *_of_images(config, length, images),
    ]


def _of_length(config: RunConfig, length: Length, images: int) -> Iterator[str]:
    epochs, done = config.epochs, length.steps * config.batch_size / images
    if config.batch_size > images:
        yield (
            f"a batch of {config.batch_size} is larger than the {images} training images: each "
            f"step takes each image about {config.batch_size / images:.2g} times, and an epoch is "
            "one step"
        )
    if epochs is not None and abs(done - epochs) > 0.1 * epochs:
        yield (
            f"`epochs={epochs:g}` is {epochs * images / config.batch_size:.3g} steps of "
            f"{config.batch_size} images and becomes {length.steps}"
        )
    profiled = config.runtime.profiled_steps
    if profiled is not None and profiled[0] < length.steps <= profiled[1]:
        yield (
            f"`runtime.profile={config.runtime.profile}` ends at step {length.steps - 1}, the last "
            "of the run"
        )


def _of_phases(config: RunConfig, length: Length) -> Iterator[str]:
    head = head_steps(config, length)
    if config.head_epochs and not head:
        yield f"`head_epochs={config.head_epochs:g}` is less than half a step and has no effect"
    first = round(head / length.steps_per_epoch)
    if config.early_stop and config.early_stop >= length.epochs - first:
        after = f" after {first} of the classifier alone" if first else ""
        yield (
            f"`early_stop={config.early_stop}` cannot end a run of {length.epochs - first} "
            f"epochs{after} early"
        )
    last = config.optimizer.average_last
    if last > length.epochs:
        yield (
            f"`optimizer.average_last={last}` is longer than the run: the weights of all "
            f"{length.epochs} epochs are averaged"
        )
    schedule = config.schedule
    if schedule.swa_start and schedule.swa_cycle:
        start = swa_epoch(schedule, length.steps, length.steps_per_epoch)
        rest = (length.epochs - start) % schedule.swa_cycle
        if rest:
            yield (
                f"`schedule.swa_cycle={schedule.swa_cycle}`: the last {rest} epoch(s) are no whole "
                "cycle and enter no average"
            )


def _of_schedule(config: RunConfig, length: Length) -> Iterator[str]:
    schedule, per_epoch = config.schedule, length.steps_per_epoch
    steps = length.steps - head_steps(config, length)
    if schedule.warmup_epochs and not round(schedule.warmup_epochs * per_epoch):
        yield (
            f"`schedule.warmup_epochs={schedule.warmup_epochs:g}` is less than half a step and has "
            "no effect"
        )
    if schedule.kind == "step" and round(schedule.every_epochs * per_epoch) >= steps:
        yield (
            f"`schedule.every_epochs={schedule.every_epochs:g}` is not shorter than the run of "
            f"{steps / per_epoch:.4g} epochs: the rate does not change"
        )
    if schedule.kind == "piecewise":
        late = [each for each in schedule.boundaries if round(each * steps) >= steps]
        if late:
            yield (
                f"`schedule.boundaries`: {', '.join(map(str, late))} of a run of {steps} step(s) "
                "is its end, where the rate no longer matters"
            )


def _of_images(config: RunConfig, length: Length, images: int) -> Iterator[str]:
    optimizer, augment = config.optimizer, config.augment
    if optimizer.recompute_batch_norm > images:
        yield (
            f"`optimizer.recompute_batch_norm={optimizer.recompute_batch_norm}` takes all "
            f"{images} training images, as there are no more"
        )
    if augment.repeats > 1:
        yield (
            f"`augment.repeats={augment.repeats}`: an epoch has 1 / {augment.repeats} of the "
            f"training images, each {augment.repeats} times; the run of {length.epochs} epochs "
            f"takes each image {length.steps * config.batch_size / images:.3g} times, in "
            f"{length.steps * config.batch_size / images / augment.repeats:.3g} batches"
        )


def check_settings(config: RunConfig, length: Length, *, validation: bool) -> None:
    """Checks settings against the length of the run and its splits.

    Args:
        config: The run.
        length: Its length.
        validation: Whether there are validation images.

    Raises:
        ValueError: If early stopping has nothing to measure, or the profile is after the end.
    """
    if config.early_stop and not validation:
        raise ValueError("`--early-stop` needs validation images: give --validation 0.1")
    profiled = config.runtime.profiled_steps
    if profiled is not None and profiled[0] >= length.steps:
        raise ValueError(
            f"`--profile` must begin within the run of {length.steps} steps, counted from 0. "
            f"Received: {config.runtime.profile}"
        )
