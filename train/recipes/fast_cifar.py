r"""CIFAR-10 in few epochs: the best accuracy for the time that this project knows.

20 epochs with batches of 128. The rate rises to 0.4 in a quarter of the run and falls linearly to
almost zero. SGD with Nesterov's momentum 0.9, weight decay 5e-4 on kernels, label smoothing 0.1, a
moving average of the weights. Images are padded by 4 pixels, cropped and flipped at random; they
begin with 24 pixels a side and have all 32 from three quarters of the run on.

Source: this project, from parts of others. A rate that rises and falls within one short run: Smith
and Topin 2017 (arXiv:1708.07120), section 3. Sizes that grow: Tan and Le 2021 (arXiv:2104.00298),
section 4.2. The whole in few epochs: Coleman et al. 2017, DAWNBench, and its entries of 2018. No
paper states a figure for this recipe.

    keras-resnet train --model cifar_resnet20 --dataset cifar10 --recipe fast-cifar \
        --output saved_models/fast
"""

from .recipe import Recipe

RECIPE = Recipe(
    name="fast-cifar",
    source="this project, after Smith and Topin 2017 (arXiv:1708.07120) and Tan and Le 2021 "
    "(arXiv:2104.00298), section 4.2",
    expected="no published figure: about 92 % is what cifar_resnet20 reaches in 160 epochs (He et "
    "al. 2015, Table 6: 91.25 %)",
    model="cifar_resnet20",
    dataset="cifar10",
    settings={
        "batch_size": 128,
        "epochs": 20,
        "augment.crop": "pad",
        "augment.pad": 4,
        "augment.flip": True,
        "augment.start_size": 24,
        "augment.full_size_at": 0.75,
        "optimizer.nesterov": True,
        "optimizer.momentum_form": "pytorch",
        "optimizer.weight_decay": 5e-4,
        "optimizer.decay_all": False,
        "optimizer.label_smoothing": 0.1,
        "optimizer.ema": 0.995,
        "schedule.kind": "one_cycle",
        "schedule.learning_rate": 0.4,
        "schedule.cycle_rise": 0.25,
        "schedule.cycle_shape": "linear",
    },
    here="cifar_resnet20 on cifar10_sample (5,085 training images), 20 epochs, three seeds: test "
    "accuracy 75.7 +- 1.7 %; he2015-cifar in the same epochs 61.2 +- 1.8 % "
    "(`benchmarks/recipes.py`)",
)
