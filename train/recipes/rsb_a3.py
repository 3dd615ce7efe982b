r"""ImageNet as in "ResNet strikes back" (arXiv:2110.00476), procedure A3: Table 2.

100 epochs with batches of 2048: LAMB with rate 8e-3 and weight decay 0.02, cosine after 5 epochs of
warm-up. Binary cross-entropy, mixup 0.1 or cutmix 1.0, RandAugment 6 with spread 0.5. Images of 160
pixels in training; evaluation crops 95 percent of 224 pixels.

Expected (Table 1, top-1 accuracy): ResNet-50 78.1 percent.

    keras-resnet train --model resnet50_v1_5 --dataset imagenet2012 --recipe rsb-a3 \
        --strategy mirrored --output saved_models/a3
"""

from .recipe import Recipe
from .rsb import SETTINGS, SOURCE

RECIPE = Recipe(
    name="rsb-a3",
    source=SOURCE,
    expected="ImageNet top-1 accuracy: ResNet-50 78.1 % (Table 1)",
    model="resnet50_v1_5",
    dataset="imagenet2012",
    settings={
        **SETTINGS,
        "epochs": 100,
        "augment.train_size": 160,
        "augment.policy_magnitude": 6.0,
        "schedule.learning_rate": 8e-3,
    },
    rate_follows_batch=True,
)
