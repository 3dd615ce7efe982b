"""The section `optimizer` of a configuration: updates, averages and decay."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from .fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FRACTION, SHARE, Section, setting


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """The optimizer and the averages of the weights."""

    section: ClassVar[str] = "optimizer"

    name: Literal["sgd", "adamw", "lamb", "lars", "lion", "muon"] = setting(
        "sgd",
        "`sgd`, `lars` and `muon` have momentum; `muon` updates kernels, its other variables are "
        "those of `adamw`.",
    )
    momentum: float = setting(0.9, "Momentum of `sgd`, `lars` and `muon`.", FRACTION)
    momentum_form: Literal["keras", "pytorch"] = setting(
        "keras",
        "What the momentum of `sgd` gathers: `keras`, as Caffe, updates: v = m v - rate g, "
        "w = w + v; `pytorch` gradients: v = m v + g, w = w - rate v, whose updates follow a "
        "change of the rate at once (Goyal et al. 2017, Remark 2).",
    )
    nesterov: bool = setting(False, "Nesterov's momentum, for `sgd` and `muon`.")
    beta_1: float | None = setting(
        None,
        "Decay of the mean of gradients of `adamw`, `lamb` and `lion`, and of those variables of "
        "`muon` that are no kernels. By default 0.9.",
        FRACTION,
    )
    beta_2: float | None = setting(
        None,
        "Decay of the mean of their squares; for `lion` of the momentum. By default 0.999; 0.99 "
        "for `lion`.",
        FRACTION,
    )
    epsilon: float | None = setting(
        None,
        "What `adamw`, `lamb`, `muon` and `lars` add to a denominator. By default 1e-7; 1e-6 for "
        "`lamb`, 1e-8 for `lars`.",
        ABOVE_0,
    )
    trust: float = setting(
        0.001, "Trust coefficient of `lars`: its rate per norm of the weights.", ABOVE_0
    )
    weight_decay: float = setting(
        1e-4,
        "For `sgd` the factor of an L2 term added to the gradient, as in the papers; for `lamb` "
        "and `lars` inside the trust ratio; for the others decoupled.",
        AT_LEAST_0,
    )
    decay_all: bool = setting(
        True,
        "Decay all variables. If false, decay kernels only: not biases, the scales and shifts of "
        "norms, or the learned scales and biases of ReZero, SkipInit and Fixup.",
    )
    decay_biases: bool = setting(
        False,
        "Where `decay_all` is false, decay the biases of convolutions and of the classifier all "
        "the same.",
    )
    label_smoothing: float = setting(
        0.0,
        "Share of each label that is spread over all classes.",
        FRACTION,
        option="--label-smoothing",
        metavar="SHARE",
    )
    layer_decay: float = setting(
        1.0,
        "Factor of the learning rate from each stage to the one before it; the classifier has "
        "the whole rate, the last stage this factor of it. 1 for one rate.",
        SHARE,
        option="--layer-decay",
        metavar="FACTOR",
    )
    layer_decay_per: Literal["stage", "unit"] = setting(
        "stage", "Whether `layer_decay` counts stages or residual units."
    )
    head_factor: float = setting(1.0, "Factor of the learning rate of the classifier.", ABOVE_0)
    accumulate: int = setting(
        1,
        "Parts of the batch whose gradients are summed one after another: less memory for the "
        "same step.",
        AT_LEAST_1,
        option="--accumulate",
        metavar="PARTS",
    )
    ema: float = setting(
        0.0,
        "Momentum of a moving average of weights and batch-norm statistics, which is what is "
        "evaluated; 0 for none. In step t it is at most (1 + t) / (10 + t).",
        FRACTION,
        option="--ema",
        metavar="MOMENTUM",
    )
    average_last: int = setting(
        0,
        "Average the weights at the ends of the run's last epochs, this many; 0 for none.",
        AT_LEAST_0,
        option="--average-last",
        metavar="EPOCHS",
    )
    recompute_batch_norm: int = setting(
        0,
        "Training images on which the batch-norm statistics of the final weights are re-estimated; "
        "0 keeps those of training.",
        AT_LEAST_0,
        option="--recompute-batch-norm",
        metavar="IMAGES",
    )
    clip_norm: float = setting(
        0.0, "Largest global norm of the gradient; 0 does not clip.", AT_LEAST_0
    )
