r"""scikit-learn's handwritten digits, in one or two minutes on two CPU cores: the quickstart.

Source: this project. The command below prints the accuracy with its confidence interval.

    keras-resnet train --model cifar_resnet20 --dataset digits --recipe digits \
        --output saved_models/digits
"""

from .recipe import Recipe

RECIPE = Recipe(
    name="digits",
    source="this project",
    expected="at least 98 % top-1 accuracy on the 360 test digits, with each of three seeds",
    model="cifar_resnet20",
    dataset="digits",
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
