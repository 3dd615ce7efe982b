r"""ImageNet as in "Revisiting ResNets" (Bello et al. 2021, arXiv:2103.07579), section 4, appendix.

350 epochs with batches of 4096: SGD with momentum 0.9 in TensorFlow's form, rate 1.6 (0.1 per 256
images) after 5 epochs of linear warm-up, cosine to zero. Weight decay 4e-5 on kernels, label
smoothing 0.1, RandAugment of two operations, dropout 0.25 before the classifier, a moving average
of 0.9999. Stochastic depth 0.1 from 200 layers on. The same numbers are in
`official/vision/configs/experiments/image_classification/imagenet_resnetrs50_i160.yaml` of
tensorflow/models, with magnitude 10 for 50 layers and 15 beyond its own scale for deeper nets;
here it is 10 for all. Dropout of 0.4, which the paper's deepest nets have, is
`--set model.spec.head_dropout=0.4`.

Expected (appendix, Table of ResNet-RS, top-1 accuracy): ResNet-RS-50 at 160 pixels 78.8 percent.

    keras-resnet train --model resnetrs50 --dataset imagenet2012 --recipe resnet-rs \
        --strategy mirrored --output saved_models/rs50
"""

from collections.abc import Mapping
from typing import Any

from keras_resnet import ResNetSpec

from .imagenet import RANDOM_CROPS
from .recipe import Recipe


def _by_net(spec: ResNetSpec) -> Mapping[str, Any]:
    drops = {"model.spec.stochastic_depth": 0.1} if spec.layers >= 200 else {}
    return {"model.spec.head_dropout": 0.25, **drops}


RECIPE = Recipe(
    name="resnet-rs",
    source="Bello et al. 2021 (arXiv:2103.07579), section 4; tensorflow/models, "
    "imagenet_resnetrs50_i160.yaml",
    expected="ImageNet top-1 accuracy: ResNet-RS-50 at 160 pixels 78.8 %",
    model="resnetrs50",
    dataset="imagenet2012",
    settings={
        "batch_size": 4096,
        "epochs": 350,
        "data.crop_fraction": 0.875,
        **RANDOM_CROPS,
        "augment.policy": "rand",
        "augment.policy_magnitude": 10.0,
        "augment.policy_spread": 0.0,
        "optimizer.weight_decay": 4e-5,
        "optimizer.decay_all": False,
        "optimizer.label_smoothing": 0.1,
        "optimizer.ema": 0.9999,
        "schedule.kind": "cosine",
        "schedule.learning_rate": 1.6,
        "schedule.warmup_epochs": 5,
    },
    adapt=_by_net,
    rate_follows_batch=True,
)
