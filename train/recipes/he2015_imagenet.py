r"""ImageNet as in He et al. 2015 (arXiv:1512.03385), section 3.4.

60 x 10^4 iterations with batches of 256: SGD with momentum 0.9 and weight decay 1e-4. The learning
rate is 0.1, divided by 10 when the error plateaus; the curves of Figure 4 fall at 15 x 10^4 and
30 x 10^4 iterations, that is after 30 and 60 epochs, as `train.lua` of fb.resnet.torch divides
(`math.floor((epoch - 1) / 30)`). The shorter side is drawn from [256, 480]; a random crop of 224 is
flipped at random. Momentum is Caffe's (`optimizer.momentum_form=keras`), as in the authors'
implementation. This recipe normalizes per channel; the paper subtracts a mean per pixel and
augments colours.

Expected (Table 3, 10-crop top-1 error in percent): 34-layer option B 24.52, 50 22.85, 101 21.75.

    keras-resnet train --model resnet50 --dataset imagenet2012 --recipe he2015-imagenet \
        --output saved_models/r50
"""

from .imagenet import IMAGENET_MEAN, IMAGENET_STD
from .recipe import Recipe

RECIPE = Recipe(
    name="he2015-imagenet",
    source="He et al. 2015 (arXiv:1512.03385), section 3.4; Figure 4 for the drops of the rate",
    expected="ImageNet 10-crop top-1 error: ResNet-50 22.85 %, -101 21.75 % (Table 3)",
    model="resnet50",
    dataset="imagenet2012",
    settings={
        "batch_size": 256,
        "steps": 600_000,
        "data.crop_fraction": 0.875,
        "data.mean": IMAGENET_MEAN,
        "data.std": IMAGENET_STD,
        "augment.crop": "scale",
        "augment.flip": True,
        "schedule.kind": "piecewise",
        "schedule.learning_rate": 0.1,
        "schedule.boundaries": [0.25, 0.5],
    },
)
