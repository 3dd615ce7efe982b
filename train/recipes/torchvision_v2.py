r"""ImageNet as torchvision's V2 weights of ResNet-50 were trained.

600 epochs with batches of 1024 (8 GPUs of 128): SGD with momentum 0.9 in PyTorch's form, rate 0.5
after 5 epochs of linear warm-up from a hundredth of it, cosine to zero. Weight decay 2e-5, not on
norms. Label smoothing 0.1, mixup 0.2 or cutmix 1.0, TrivialAugment (wide), erasing with probability
0.1, four augmented copies of each image in a batch, a moving average of the weights. Images of 176
pixels in training; of 224, from a shorter side of 232, in evaluation.

The reference code updates the average every 32 steps with decay 0.99998, corrected for batch and
epochs: 1 - 2e-5 * 1024 * 32 / 600 = 0.99891 in 32 steps, 0.999966 a step
(`references/classification/train.py`). It restarts the average in each epoch of the warm-up, and
its rate changes once an epoch, here with each step.

Source: https://github.com/pytorch/vision/issues/3995, "New Recipe", and its comment 1013906621 on
repeated augmentation (pull request 5201); `torchvision/models/resnet.py`,
`ResNet50_Weights.IMAGENET1K_V2`.

Expected (the same file): ResNet-50 80.858 percent top-1 accuracy.

    keras-resnet train --model resnet50_v1_5 --dataset imagenet2012 --recipe torchvision-v2 \
        --strategy mirrored --output saved_models/r50
"""

from .imagenet import RANDOM_CROPS
from .recipe import Recipe

RECIPE = Recipe(
    name="torchvision-v2",
    source="github.com/pytorch/vision, issue 3995 (new recipe, with repeated augmentation)",
    expected="ImageNet top-1 accuracy: ResNet-50 80.858 % (torchvision, IMAGENET1K_V2)",
    model="resnet50_v1_5",
    dataset="imagenet2012",
    settings={
        "batch_size": 1024,
        "epochs": 600,
        "data.image_size": 224,
        "data.crop_fraction": 224 / 232,
        **RANDOM_CROPS,
        "augment.train_size": 176,
        "augment.policy": "trivial",
        "augment.erasing": 0.1,
        "augment.erasing_mode": "const",
        "augment.mixup": 0.2,
        "augment.cutmix": 1.0,
        "augment.repeats": 4,
        "optimizer.momentum_form": "pytorch",
        "optimizer.weight_decay": 2e-5,
        "optimizer.decay_all": False,
        "optimizer.decay_biases": True,
        "optimizer.label_smoothing": 0.1,
        "optimizer.ema": 0.999966,
        "schedule.kind": "cosine",
        "schedule.learning_rate": 0.5,
        "schedule.warmup_epochs": 5,
        "schedule.warmup_rate": 0.005,
    },
    rate_follows_batch=True,
)
