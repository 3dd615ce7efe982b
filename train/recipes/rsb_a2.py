r"""ImageNet as in "ResNet strikes back" (arXiv:2110.00476), procedure A2: Table 2.

300 epochs with batches of 2048: LAMB with rate 5e-3 and weight decay 0.02, cosine after 5 epochs of
warm-up. Binary cross-entropy, mixup 0.1 or cutmix 1.0, RandAugment 7 with spread 0.5, three
augmented copies of each image in a batch, stochastic depth 0.05. Evaluation crops 95 percent of 224
pixels.

Expected (Table 1, top-1 accuracy): ResNet-50 79.8 percent.

    keras-resnet train --model resnet50_v1_5 --dataset imagenet2012 --recipe rsb-a2 \
        --strategy mirrored --output saved_models/a2
"""

from .recipe import Recipe
from .rsb import SETTINGS, SOURCE, drop_branches

RECIPE = Recipe(
    name="rsb-a2",
    source=SOURCE,
    expected="ImageNet top-1 accuracy: ResNet-50 79.8 % (Table 1)",
    model="resnet50_v1_5",
    dataset="imagenet2012",
    settings={
        **SETTINGS,
        "epochs": 300,
        "augment.repeats": 3,
    },
    adapt=drop_branches,
    rate_follows_batch=True,
)
