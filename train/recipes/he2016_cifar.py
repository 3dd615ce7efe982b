r"""CIFAR-10 as in He et al. 2016 (arXiv:1603.05027), Appendix, "Implementation Details".

As He et al. 2015, section 4.2, with a warm-up for every net: 64k iterations with batches of 128;
the rate is 0.01 in the first 400 iterations, then 0.1, divided by 10 at 32k and 48k. SGD with
momentum 0.9 in Caffe's form (the paper's experiments ran in Caffe: `README.md` of
KaimingHe/resnet-1k-layers), weight decay 1e-4. Images are padded by 4 pixels, cropped at random and
flipped at random.

Expected (Table 3, test error in percent, pre-activation units): 110 layers 6.37, 164 5.46, 1001
4.92; Table 4 gives 5.46 and 4.92 as medians of five runs, the latter with 4.89 +- 0.14.

    keras-resnet train --model cifar_resnet164v2 --dataset cifar10 --recipe he2016-cifar \
        --output saved_models/v2
"""

from . import he2015_cifar
from .recipe import Recipe

RECIPE = Recipe(
    name="he2016-cifar",
    source="He et al. 2016 (arXiv:1603.05027), Appendix",
    expected="CIFAR-10 test error: pre-activation ResNet-110 6.37 %, -164 5.46 %, -1001 4.92 % "
    "(Table 3)",
    model="cifar_resnet164v2",
    dataset="cifar10",
    settings={
        **he2015_cifar.RECIPE.settings,
        "schedule.warmup": "constant",
        "schedule.warmup_rate": 0.01,
        "schedule.warmup_steps": 400,
    },
)
