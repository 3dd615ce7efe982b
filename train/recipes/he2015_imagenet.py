r"""ImageNet as in He et al. 2015 (arXiv:1512.03385), section 3.4.

60 x 10^4 iterations with batches of 256: SGD with momentum 0.9 and weight decay 1e-4. The learning
rate is 0.1, divided by 10 when the error plateaus; the published curves show that at about one half
and three quarters of the run. The shorter side is drawn from [256, 480]; a random crop of 224 is
flipped at random. This recipe normalizes per channel; the paper subtracts a mean per pixel and
augments colours.

Expected (Table 3, 10-crop top-1 error in percent): 34-layer option B 24.52, 50 22.85, 101 21.75.

    keras-resnet train --model resnet50 --dataset imagenet2012 --recipe he2015-imagenet \
        --output saved_models/r50
"""

from .recipe import Recipe

# Mean and standard deviation of the ImageNet training images, as in torchvision.
IMAGENET_MEAN = [123.675, 116.28, 103.53]
IMAGENET_STD = [58.395, 57.12, 57.375]

RECIPE = Recipe(
    name="he2015-imagenet",
    source="He et al. 2015 (arXiv:1512.03385), section 3.4",
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
        "schedule.boundaries": [0.5, 0.75],
    },
)
