r"""scikit-learn's handwritten digits in a minute or two on two CPU cores: the quickstart.

Source: this project; the command below prints the accuracy with its interval.

    keras-resnet train --model cifar_resnet20 --dataset digits --recipe digits \
        --output saved_models/digits
"""

from .recipe import Recipe

RECIPE = Recipe(
    name="digits",
    source="this project",
    expected="at least 98 % of the 360 test digits with cifar_resnet20, each of three seeds",
    settings={
        "batch_size": 64,
        "epochs": 40,
        "data.image_size": 16,
        "augment.crop": "pad",
        "augment.pad": 2,
        "optimizer.weight_decay": 5e-4,
        "optimizer.label_smoothing": 0.1,
        "schedule.kind": "cosine",
        "schedule.learning_rate": 0.1,
        "schedule.warmup_epochs": 2,
    },
)
