"""Optimizers: Keras's, those of the papers, and what differs between variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..config import OptimizerConfig
from .adaptive import AdamW as AdamW
from .adaptive import Lamb as Lamb
from .adaptive import Lion as Lion
from .momentum import SGD as SGD
from .momentum import Lars as Lars
from .muon import Muon as Muon
from .rates import Factor as Factor
from .rates import rate_factors as rate_factors
from .rules import decayed_of, decays


def make_optimizer(
    config: OptimizerConfig,
    learning_rate: Any,
    precision: str,
    factors: Sequence[Factor] | None = None,
) -> keras.optimizers.Optimizer:
    """Returns the optimizer, with loss scaling under `mixed_float16`.

    `TrainingSteps` adds SGD's weight decay (see `l2_factors`), clips gradients and sets the
    learning rate of each step.

    Args:
        config: The optimizer's configuration.
        learning_rate: A number, or a schedule of Keras where Keras's own loop trains.
        precision: As in `RuntimeConfig`.
        factors: The factor of the rate of each variable that the optimizer is built for, as
            `rate_factors` returns them; None for one rate.

    Example:
        >>> optimizer = make_optimizer(OptimizerConfig(name="lamb"), 5e-3, "float32")
        >>> optimizer.build(model.trainable_variables)
    """
    optimizer = _optimizer(config, {"learning_rate": learning_rate, "factors": factors})
    if precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _optimizer(config: OptimizerConfig, common: dict[str, Any]) -> keras.optimizers.Optimizer:
    if config.name == "sgd":
        form, nesterov = config.momentum_form, config.nesterov
        return SGD(momentum=config.momentum, nesterov=nesterov, momentum_form=form, **common)
    common |= {"decay": config.weight_decay, "decayed": decayed_of(config)}
    if config.epsilon is not None:
        common["epsilon"] = config.epsilon
    if config.name == "lars":
        form = config.momentum_form
        return Lars(momentum=config.momentum, momentum_form=form, trust=config.trust, **common)
    for name in ("beta_1", "beta_2"):
        if getattr(config, name) is not None:
            common[name] = getattr(config, name)
    if config.name == "muon":
        return Muon(momentum=config.momentum, nesterov=config.nesterov, **common)
    if config.name == "lion":
        common.pop("epsilon", None)
        return Lion(**common)
    return Lamb(**common) if config.name == "lamb" else AdamW(**common)


def l2_factors(config: OptimizerConfig, variables: list[keras.Variable]) -> list[float]:
    """Returns, for each variable, the factor of the L2 term that SGD adds to its gradient.

    Keras's `weight_decay` shrinks weights separately from the update. The papers' decay is part of
    the gradient, so that it accumulates in the momentum: with momentum 0.9 its effect is ten times
    as strong. The other optimizers decay by themselves.

    Source: He et al. 2015, section 3.4; Goyal et al. 2017, section 3, equation 8.
    """
    if config.name != "sgd":
        return [0.0] * len(variables)
    decayed = decayed_of(config)
    return [config.weight_decay * decays(variable, decayed) for variable in variables]
