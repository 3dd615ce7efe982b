r"""ImageNet as in Goyal et al. 2017 (arXiv:1706.02677), sections 2.1, 2.2 and 5.1.

90 epochs. The learning rate is 0.1 per 256 images of a batch; it rises linearly from 0.1 over 5
epochs and is divided by 10 at epochs 30, 60 and 80. Nesterov's momentum 0.9; it gathers gradients,
not updates, so that a change of the rate acts at once (section 3, Remark 2;
`momentum_form=pytorch`). The last gamma of each branch is initialized to zero, and the classifier
from a normal distribution with standard deviation 0.01. Weight decay is 1e-4, without batch norm's
scales and shifts; the classifier's bias is decayed. Crops have a random area and aspect ratio and
are flipped at random. Batch norm's statistics are those of 32 images: `--batch-size` must be 32
times the number of replicas for the same.

Expected (Table 1, single-crop top-1 error): ResNet-50 at batch 256 23.60 +- 0.12 percent. It is the
mean of five runs, each the median of its last five epochs.

    keras-resnet train --model resnet50_v1_5 --dataset imagenet2012 --recipe goyal2017 \
        --strategy mirrored --output saved_models/r50
"""

from .imagenet import RANDOM_CROPS
from .recipe import Recipe

RECIPE = Recipe(
    name="goyal2017",
    source="Goyal et al. 2017 (arXiv:1706.02677), section 5.1",
    expected="ImageNet top-1 error: ResNet-50, batch 256, 23.60 +- 0.12 % (Table 1)",
    model="resnet50_v1_5",
    dataset="imagenet2012",
    settings={
        "batch_size": 256,
        "epochs": 90,
        "model.head_std": 0.01,
        "data.crop_fraction": 0.875,
        **RANDOM_CROPS,
        "optimizer.nesterov": True,
        "optimizer.momentum_form": "pytorch",
        "optimizer.decay_all": False,
        "optimizer.decay_biases": True,
        "schedule.kind": "piecewise",
        "schedule.learning_rate": 0.1,
        "schedule.boundaries": [30 / 90, 60 / 90, 80 / 90],
        "schedule.warmup_epochs": 5,
        "schedule.warmup_rate": 0.1,
    },
    adapt=lambda spec: {} if spec.merge == "none" else {"model.spec.zero_init_residual": True},
    rate_follows_batch=True,
)
