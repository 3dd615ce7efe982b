r"""ImageNet as in He et al. 2015 (arXiv:1512.03385), section 3.4.

60 x 10^4 iterations with batches of 256: SGD with momentum 0.9 and weight decay 1e-4. The learning
rate is 0.1, divided by 10 when the error plateaus; the curves of Figure 4 fall at 15 x 10^4 and
30 x 10^4 iterations, that is after 30 and 60 epochs, which He et al. 2016 (arXiv:1603.05027),
Appendix, states for ImageNet; `train.lua` of fb.resnet.torch divides there too
(`math.floor((epoch - 1) / 30)`). The shorter side is drawn from [256, 480]; a random crop of 224 is
flipped at random. Momentum is Caffe's (`optimizer.momentum_form=keras`), as the authors state it in
`README.md` of KaimingHe/deep-residual-networks. This recipe normalizes per channel; the paper
subtracts a mean per pixel and augments colours.

All variables are decayed, as in fb.resnet.torch. The paper does not say which are; later ones say
that it did not decay batch norm's scales and shifts (Goyal et al. 2017, section 5.1):
`--set optimizer.decay_all=false`.

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
