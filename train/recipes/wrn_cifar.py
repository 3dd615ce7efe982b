r"""CIFAR-10 and -100 as in Zagoruyko and Komodakis 2016 (arXiv:1605.07146), section 3.

200 epochs with batches of 128: SGD with Nesterov's momentum 0.9 in Torch's form, weight decay 5e-4
on all variables. The learning rate is 0.1, multiplied by 0.2 at epochs 60, 120 and 160 (section 3,
"Implementation details"; `scripts/train_cifar.sh` and `train.lua` of
szagoruyko/wide-residual-networks have the same numbers). Images are padded by 4 pixels, cropped at
random and flipped at random; the authors pad with reflections, this recipe with the mean.

Expected (Table 5 and the repository's README, test error in percent, median of five runs):
WRN-28-10 4.00 on CIFAR-10, 19.25 on CIFAR-100.

    keras-resnet train --model cifar_wrn28_10 --dataset cifar10 --recipe wrn-cifar \
        --output saved_models/wrn
"""

from .recipe import Recipe

RECIPE = Recipe(
    name="wrn-cifar",
    source="Zagoruyko and Komodakis 2016 (arXiv:1605.07146), section 3",
    expected="CIFAR-10 test error: WRN-28-10 4.00 %; CIFAR-100 19.25 % (Table 5, median of five "
    "runs)",
    model="cifar_wrn28_10",
    dataset="cifar10",
    settings={
        "batch_size": 128,
        "epochs": 200,
        "augment.crop": "pad",
        "augment.pad": 4,
        "augment.flip": True,
        "optimizer.nesterov": True,
        "optimizer.momentum_form": "pytorch",
        "optimizer.weight_decay": 5e-4,
        "schedule.kind": "piecewise",
        "schedule.learning_rate": 0.1,
        "schedule.boundaries": [0.3, 0.6, 0.8],
        "schedule.factor": 0.2,
    },
)
