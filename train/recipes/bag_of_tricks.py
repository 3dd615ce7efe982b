r"""ImageNet as in He et al. 2018, "Bag of Tricks" (arXiv:1812.01187), sections 2.1, 3 and 5.

Batches of 1024, rate 0.4 (0.1 per 256 images) after 5 epochs of linear warm-up from zero, cosine to
zero. SGD with Nesterov's momentum 0.9, weight decay 1e-4 on kernels only (no bias decay), last
gammas zero, label smoothing 0.1, mixup 0.2 with 200 epochs (120 without). Crops of 8 to 100 % of
the area and flips; changes of brightness, contrast and colour up to 0.4 and PCA noise of 0.1, as
the authors' script (gluon-cv, `scripts/classification/imagenet/train_imagenet.py`,
`jitter_param = 0.4`, `lighting_param = 0.1`); the paper's text has hue in place of contrast. The
paper's distillation is `--set loss.teacher=...`.

Expected (top-1 accuracy): ResNet-50-D 79.15 percent (gluon-cv, `ResNet50_v1d` in
`docs/model_zoo/csv_tables/Classifications/ResNet.csv`, whose script is the one with mixup); 79.29
with distillation too (Table 1).

    keras-resnet train --model resnet50d --dataset imagenet2012 --recipe bag-of-tricks \
        --strategy mirrored --output saved_models/r50d
"""

from .imagenet import RANDOM_CROPS
from .recipe import Recipe

RECIPE = Recipe(
    name="bag-of-tricks",
    source="He et al. 2018 (arXiv:1812.01187), sections 2.1, 3 and 5; gluon-cv, train_imagenet.py",
    expected="ImageNet top-1 accuracy: ResNet-50-D 79.15 % (gluon-cv's model zoo), 79.29 % with "
    "distillation too (Table 1)",
    model="resnet50d",
    dataset="imagenet2012",
    settings={
        "batch_size": 1024,
        "epochs": 200,
        "data.crop_fraction": 0.875,
        **RANDOM_CROPS,
        "augment.color_jitter": 0.4,
        "augment.pca_noise": 0.1,
        "augment.mixup": 0.2,
        "optimizer.nesterov": True,
        "optimizer.momentum_form": "pytorch",
        "optimizer.decay_all": False,
        "optimizer.label_smoothing": 0.1,
        "schedule.kind": "cosine",
        "schedule.learning_rate": 0.4,
        "schedule.warmup_epochs": 5,
    },
    adapt=lambda spec: {} if spec.merge == "none" else {"model.spec.zero_init_residual": True},
    rate_follows_batch=True,
)
