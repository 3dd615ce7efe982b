r"""CIFAR-10 as in He et al. 2015 (arXiv:1512.03385), section 4.2.

64k iterations with batches of 128: SGD with momentum 0.9 and weight decay 1e-4. The learning rate
is 0.1, divided by 10 at 32k and 48k iterations. Images are padded by 4 pixels, cropped at random
and flipped at random. Nets of 110 layers or more train the first 400 iterations at 0.01. The paper
subtracts a mean per pixel; this recipe normalizes per channel, as later work does. Momentum is
Caffe's (`optimizer.momentum_form=keras`), as the authors state it in `README.md` of
KaimingHe/deep-residual-networks. Which variables are decayed the paper does not say; here all are,
as in fb.resnet.torch.

Expected (Table 6, test error in percent): 20 layers 8.75, 32 7.51, 44 7.17, 56 6.97; 110 layers
6.61 +- 0.16 over five runs, of which the best has 6.43.

    keras-resnet train --model cifar_resnet20 --dataset cifar10 --recipe he2015-cifar \
        --output saved_models/c10
"""

from .recipe import Recipe

RECIPE = Recipe(
    name="he2015-cifar",
    source="He et al. 2015 (arXiv:1512.03385), section 4.2",
    expected="CIFAR-10 test error: ResNet-20 8.75 %, -56 6.97 %, -110 6.61 +- 0.16 % (best of "
    "five 6.43 %; Table 6)",
    model="cifar_resnet20",
    dataset="cifar10",
    settings={
        "batch_size": 128,
        "steps": 64_000,
        "augment.crop": "pad",
        "augment.pad": 4,
        "augment.flip": True,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-4,
        "schedule.kind": "piecewise",
        "schedule.learning_rate": 0.1,
        "schedule.boundaries": [0.5, 0.75],
        "schedule.factor": 0.1,
    },
    adapt=lambda spec: (
        {
            "schedule.warmup": "constant",
            "schedule.warmup_rate": 0.01,
            "schedule.warmup_steps": 400,
        }
        if spec.layers >= 110
        else {}
    ),
    here="cifar_resnet20 on cifar10_sample (5,085 training images), 20 epochs, three seeds: test "
    "accuracy 61.2 +- 1.8 %, in PyTorch 60.3 +- 4.0 %; with mixup 0.2, cutmix 1 and RandAugment 7 "
    "50.7 +- 2.1 % and 49.4 +- 6.1 % (`benchmarks/recipes.py`)",
)
