r"""ImageNet as in "Revisiting ResNets" (Bello et al. 2021, arXiv:2103.07579), section 4.2.

350 epochs with batches of 4096: SGD with momentum 0.9 in Keras's form, rate 1.6 (0.1 per 256
images) after 5 epochs of linear warm-up, cosine to zero. Weight decay 4e-5 on kernels, label
smoothing 0.1, RandAugment of two operations on its authors' scales, dropout before the classifier,
a moving average of 0.9999. Three figures depend on the net, by the size of its images:

- RandAugment's magnitude is 10 below 192 pixels and 15 from there on; 15 continues the scales
  beyond their level 10.
- The dropout is 0.25 below 320 pixels and 0.4 from there on.
- Stochastic depth is 0.1 from 200 layers on, and 0 for others.

Sources: `official/vision/configs/experiments/image_classification/imagenet_resnetrs*.yaml` of
tensorflow/models, and the authors' configurations of 50 to 420 layers with the same figures,
tensorflow/tpu, `models/official/resnet/resnet_rs/configs`. From `resnet_model.py` beside these: the
last gamma of each branch is zero, and the classifier starts with a standard deviation of 0.01.
The size is that of the net in the catalog; with another `--image-size`, set
`augment.policy_magnitude` and `model.spec.head_dropout` too. What differs: the script in
tensorflow/tpu lowers the rate in steps, has Nesterov's momentum and decays biases; section 4.2 and
tensorflow/models have the cosine. Both have batch norm's momentum 0, so that only the moving
average smooths the statistics. Cutout, one of RandAugment's 16 operations there, is left out.

Expected (`resnet_rs/README.md`, top-1 accuracy): ResNet-RS-50 at 160 pixels 78.8 percent, -101 at
192 81.2, -152 at 256 83.0, -200 at 256 83.4, -270 at 256 83.8, -420 at 320 84.4.

    keras-resnet train --model resnetrs50 --dataset imagenet2012 --recipe resnet-rs \
        --strategy mirrored --output saved_models/rs50
"""

from collections.abc import Mapping
from typing import Any

from keras_resnet import ResNetSpec

from .imagenet import RANDOM_CROPS
from .recipe import Recipe


def _by_net(spec: ResNetSpec) -> Mapping[str, Any]:
    size = spec.input_size
    settings: dict[str, Any] = {
        "augment.policy_magnitude": 10.0 if size < 192 else 15.0,
        "model.spec.head_dropout": 0.25 if size < 320 else 0.4,
    }
    if spec.merge != "none":
        settings["model.spec.zero_init_residual"] = True
        if spec.layers >= 200:
            settings["model.spec.stochastic_depth"] = 0.1
    return settings


RECIPE = Recipe(
    name="resnet-rs",
    source="Bello et al. 2021 (arXiv:2103.07579), section 4.2; tensorflow/models, "
    "imagenet_resnetrs*.yaml; tensorflow/tpu, resnet_rs/configs",
    expected="ImageNet top-1 accuracy: ResNet-RS-50 at 160 pixels 78.8 %, -420 at 320 84.4 % "
    "(tensorflow/tpu, resnet_rs/README.md)",
    model="resnetrs50",
    dataset="imagenet2012",
    settings={
        "batch_size": 4096,
        "epochs": 350,
        "model.head_std": 0.01,
        "data.crop_fraction": 0.875,
        **RANDOM_CROPS,
        "augment.policy": "rand",
        "augment.policy_levels": "original",
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
