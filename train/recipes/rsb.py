"""What the recipes A1, A2 and A3 of "ResNet strikes back" (arXiv:2110.00476) have in common."""

from collections.abc import Mapping
from typing import Any

from keras_resnet import ResNetSpec

from .imagenet import RANDOM_CROPS

SOURCE = "Wightman et al. 2021, ResNet strikes back (arXiv:2110.00476), Table 2"

# timm clips the norm of LAMB's gradient to 1 and decays no biases and norms
# (`timm/optim/lamb.py`, `max_grad_norm`). Figures of its command line that the paper does not have
# are those of public commands that repeat A2 with timm: `--bce-target-thresh 0.2 --warmup-lr 1e-4
# --min-lr 1e-6 --aa rand-m7-mstd0.5-inc1 --crop-pct 0.95`. The table was compared with mmpretrain's
# `configs/resnet/resnet50_8xb256-rsb-a{1,2,3}-*.py`, whose warm-up starts at 1e-4 of the rate.
SETTINGS: Mapping[str, Any] = {
    "batch_size": 2048,
    "data.image_size": 224,
    "data.crop_fraction": 0.95,
    **RANDOM_CROPS,
    "augment.policy": "rand",
    "augment.policy_magnitude": 7.0,
    "augment.policy_spread": 0.5,
    "augment.mixup": 0.1,
    "augment.cutmix": 1.0,
    "optimizer.name": "lamb",
    "optimizer.weight_decay": 0.02,
    "optimizer.decay_all": False,
    "optimizer.clip_norm": 1.0,
    "loss.kind": "bce",
    "loss.target_threshold": 0.2,
    "schedule.kind": "cosine",
    "schedule.learning_rate": 5e-3,
    "schedule.final_rate": 1e-6,
    "schedule.warmup_epochs": 5,
    "schedule.warmup_rate": 1e-4,
}


def drop_branches(spec: ResNetSpec) -> Mapping[str, Any]:
    """Returns stochastic depth 0.05, for nets that have shortcuts."""
    return {} if spec.merge == "none" else {"model.spec.stochastic_depth": 0.05}
