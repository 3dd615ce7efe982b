"""Settings that have no effect beside the others of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .run import RunConfig


class Need(NamedTuple):
    """What a setting needs to have an effect.

    Attributes:
        words: The other setting, in words.
        met: Whether a configuration has it.
    """

    words: str
    met: Callable[[RunConfig], bool]


def _kind(*kinds: str) -> Need:
    return Need(f"schedule.kind {' or '.join(kinds)}", lambda c: c.schedule.kind in kinds)


def _optimizer(*names: str) -> Need:
    return Need(f"optimizer.name {' or '.join(names)}", lambda c: c.optimizer.name in names)


def _crop(*kinds: str) -> Need:
    return Need(f"augment.crop {' or '.join(kinds)}", lambda c: c.augment.crop in kinds)


def _above_0(path: str) -> Need:
    section, name = path.split(".")
    return Need(f"{path} above 0", lambda c: bool(getattr(getattr(c, section), name)))


def _policy(*names: str) -> Need:
    return Need(f"augment.policy {' or '.join(names)}", lambda c: c.augment.policy in names)


_TEACHER = Need("loss.teacher", lambda c: c.loss.teacher is not None)
_WARMUP = Need(
    "a warm-up (schedule.warmup_epochs or warmup_steps)",
    lambda c: c.schedule.warmup_epochs > 0 or c.schedule.warmup_steps > 0,
)
_GROWING = Need("augment.start_size", lambda c: c.augment.start_size is not None)
_QUANTIZED = Need("quantize.scheme int8 (--quantize int8)", lambda c: c.quantize.enabled)
_ADAPTIVE = _optimizer("adamw", "lamb", "lion", "muon")

NEEDS: dict[str, Need] = {
    "augment.pad": _crop("pad"),
    "augment.min_area": _crop("resized"),
    "augment.shorter_side": _crop("scale"),
    "augment.policy_magnitude": _policy("rand", "augmix"),
    "augment.policy_spread": _policy("rand"),
    "augment.policy_levels": _policy("rand"),
    "augment.policy_operations": _policy("rand"),
    "augment.policy_probability": _policy("rand"),
    "augment.erasing_mode": _above_0("augment.erasing"),
    "augment.full_size_at": _GROWING,
    "augment.size_multiple": _GROWING,
    "loss.focal_gamma": Need("loss.kind focal", lambda c: c.loss.kind == "focal"),
    "loss.teacher_net": _TEACHER,
    "loss.teacher_input": _TEACHER,
    "loss.teacher_temperature": _TEACHER,
    "loss.teacher_alpha": _TEACHER,
    "optimizer.momentum": _optimizer("sgd", "lars", "muon"),
    "optimizer.momentum_form": _optimizer("sgd", "lars"),
    "optimizer.nesterov": _optimizer("sgd", "muon"),
    "optimizer.trust": _optimizer("lars"),
    "optimizer.epsilon": _optimizer("adamw", "lamb", "lars", "muon"),
    "optimizer.beta_1": _ADAPTIVE,
    "optimizer.beta_2": _ADAPTIVE,
    "quantize.bits": _QUANTIZED,
    "quantize.calibration": _QUANTIZED,
    "quantize.observe": _QUANTIZED,
    "quantize.momentum": _QUANTIZED,
    "schedule.boundaries": _kind("piecewise"),
    "schedule.boundary_epochs": _kind("piecewise"),
    "schedule.boundary_steps": _kind("piecewise"),
    "schedule.factor": _kind("piecewise", "step"),
    "schedule.every_epochs": _kind("step"),
    "schedule.power": _kind("polynomial"),
    "schedule.final_rate": _kind("cosine", "polynomial"),
    "schedule.cycle_rise": _kind("one_cycle"),
    "schedule.cycle_start_divisor": _kind("one_cycle"),
    "schedule.cycle_end_divisor": _kind("one_cycle"),
    "schedule.cycle_shape": _kind("one_cycle"),
    "schedule.warmup": _WARMUP,
    "schedule.warmup_rate": _WARMUP,
    "schedule.swa_rate": _above_0("schedule.swa_start"),
    "schedule.swa_cycle": _above_0("schedule.swa_start"),
    "schedule.swa_low_rate": _above_0("schedule.swa_start"),
}
"""Settings by dotted path, and what each needs."""


def unused_settings(config: RunConfig, given: Iterable[str]) -> list[str]:
    """Returns a line for each setting that was given and has no effect.

    Args:
        config: The configuration.
        given: Dotted paths of the settings that the user gave.

    Example:
        >>> unused_settings(RunConfig(epochs=1), ["loss.focal_gamma"])
        ['`loss.focal_gamma` has no effect without loss.kind focal']
    """
    return [
        f"`{path}` has no effect without {NEEDS[path].words}"
        for path in given
        if path in NEEDS and not NEEDS[path].met(config)
    ]
