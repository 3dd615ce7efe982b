"""`RunConfig`: all settings that a training run is a function of, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from keras_resnet.nets.spec import with_fixup_as_norm

from ..strategies import NAMES, check_name
from .fields import Bounds, Section, setting

_AT_LEAST_0 = Bounds(minimum=0)
_AT_LEAST_1 = Bounds(minimum=1)
_ABOVE_0 = Bounds(above=0)
_FRACTION = Bounds(minimum=0, below=1)
_SHARE = Bounds(above=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The net."""

    section: ClassVar[str] = "model"

    name: str = setting(
        "cifar_resnet20",
        "Name of the net, one of `keras_resnet.variants`; with `weights`, `auto` takes theirs.",
    )
    spec: Mapping[str, Any] = setting({}, "Fields of the `ResNetSpec` that differ from the net's.")
    stacked: bool | None = setting(
        None,
        "Trace units that are alike once: a deep net then starts sooner. By default for nets of "
        "300 layers or more.",
        option="--stacked",
    )
    weights: str | None = setting(
        None,
        "Weights to start from, to fine-tune them: a published name, a file or a folder, "
        "`hf://owner/repository`, or a run. By default the net starts from random weights.",
        option="--weights",
        metavar="SOURCE",
    )
    freeze: str | None = setting(
        None,
        "Keep the stem and the first N stages of `weights` as they are, their norms too; `all` "
        "trains the classifier only.",
        option="--freeze",
        metavar="N|all",
    )
    head_std: float | None = setting(
        None,
        "Standard deviation of the classifier's initial kernel, drawn from a normal distribution. "
        "By default its initial weights are uniform (Glorot and Bengio 2010).",
        _ABOVE_0,
    )

    def __post_init__(self) -> None:
        """Checks the fields; configurations of earlier versions have Fixup as a merge."""
        super().__post_init__()
        if self.name == "auto" and self.weights is None:
            raise ValueError("`model.name` can be 'auto' only with `model.weights`")
        if self.freeze is not None:
            self._check_freeze(self.freeze)
        object.__setattr__(self, "spec", with_fixup_as_norm(self.spec))

    def _check_freeze(self, freeze: str) -> None:
        if freeze != "all" and not freeze.isdecimal():
            raise ValueError(
                "`model.freeze` must be 'all' or a number of stages, 0 for the stem alone. "
                f"Received: model.freeze={freeze!r}"
            )
        if self.weights is None:
            raise ValueError(
                "`model.freeze` needs `model.weights`: random weights would stay random. "
                f"Received: model.freeze={freeze!r}"
            )


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """The images, and how they are brought to the net's input size."""

    section: ClassVar[str] = "data"

    dataset: str = setting(
        "digits",
        "`digits`, `synthetic`, the name of a TFDS data set, a folder of class folders, a CSV or "
        "Parquet file of images and labels, tar shards (WebDataset), or a folder of Hugging Face's "
        "`save_to_disk`. Whether a resumed run has its data is checked by "
        "the names and the content of the images, not by this path.",
        option="--dataset",
        metavar="DATASET",
        free=True,
    )
    data_dir: str | None = setting(
        None,
        "Directory of TFDS data sets, read and written. By default TFDS's own.",
        option="--data-dir",
        metavar="DIR",
        free=True,
    )
    validation: float = setting(
        0.0,
        "Fraction of the training images to hold out for validation; the best weights are chosen "
        "by it.",
        _FRACTION,
        option="--validation",
        metavar="FRACTION",
    )
    test_size: float = setting(
        0.2,
        "Fraction of the images that become the test split, where the data has no splits of its "
        "own; 0 for none.",
        _FRACTION,
        option="--test-size",
        metavar="FRACTION",
    )
    split_by: Literal["name", "position"] = setting(
        "name",
        "How test and validation images are chosen: by a hash of each image's `name`, within each "
        "class, so that files added later move no others; or by `position` in the listing, as "
        "earlier versions did.",
    )
    folds: int = setting(
        0,
        "Number of folds that the training images are divided into, for cross-validation; 0 for "
        "none. Fold number `fold` is then the test split.",
        _AT_LEAST_0,
    )
    fold: int = setting(0, "The fold to test on, counted from 0.", _AT_LEAST_0)
    task: Literal["classification", "multilabel"] = setting(
        "classification",
        "`classification`: one label per image. `multilabel`: any number of labels per image, from "
        "a CSV or Parquet file, tar shards or Hugging Face's `datasets`.",
        option="--task",
    )
    label_separator: str = setting(
        " ", "Separates the labels of an image in one cell, for the task `multilabel`."
    )
    sampling: Literal["uniform", "balanced"] = setting(
        "uniform",
        "Order of the training images: `uniform`, each once per epoch; `balanced`, each class "
        "equally often.",
        option="--sampling",
    )
    orientation: Literal["exif", "stored"] = setting(
        "exif",
        "Turn images as their EXIF orientation says (`exif`), or leave them as they are `stored`.",
    )
    decoding: Literal["accurate", "fast"] = setting(
        "accurate",
        "Decoder of images: `accurate` gives the pixel values of Pillow; `fast` is what "
        "earlier versions used: JPEG's fast transform, and TensorFlow's decoder for every format.",
    )
    image_size: int | None = setting(
        None,
        "Height and width of the net's input, pixels. By default the net's own.",
        _AT_LEAST_1,
        option="--image-size",
        metavar="PIXELS",
    )
    crop_fraction: float = setting(
        1.0,
        "Evaluation resizes the shorter side to `image_size / crop_fraction` and crops the centre.",
        _SHARE,
    )
    mean: tuple[float, ...] | None = setting(
        None, "Mean of each channel, pixel values. By default measured on the training images."
    )
    std: tuple[float, ...] | None = setting(
        None,
        "Standard deviation of each channel, pixel values. By default measured on the training "
        "images.",
        _ABOVE_0,
    )
    on_bad_image: Literal["fail", "skip", "trust"] = setting(
        "fail",
        "Unreadable images of a folder: `fail` before training, `skip` them, or `trust` the folder "
        "and read no image beforehand.",
        option="--on-bad-image",
    )
    cache: Literal["auto", "memory", "none"] = setting(
        "auto",
        "Keep decoded images in memory: `auto` where they take less than 2 GiB, `memory` always, "
        "`none` never.",
    )
    classes: int | None = setting(
        None,
        "Number of classes that the data must have. By default any.",
        _AT_LEAST_1,
        option="--classes",
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that mean and standard deviation, fold and folds go together."""
        super().__post_init__()
        if self.folds == 1 or (self.folds and self.fold >= self.folds):
            raise ValueError(
                "`data.folds` must be 0 or at least 2, and `data.fold` below it. "
                f"Received: data.folds={self.folds}, data.fold={self.fold}"
            )
        if self.fold and not self.folds:
            raise ValueError(f"`data.fold` needs `data.folds`. Received: data.fold={self.fold}")
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                "Give both `data.mean` and `data.std`, or neither. "
                f"Received: data.mean={self.mean}, data.std={self.std}"
            )


# All fields that the data section had before images were split by name.
_EARLIER_DATA_FIELDS = {
    *("dataset", "data_dir", "validation", "image_size", "crop_fraction", "mean", "std"),
    *("on_bad_image", "cache", "classes"),
}


def with_earlier_data_defaults(values: Any) -> Any:
    """Returns the JSON of a configuration; one of earlier versions keeps what it meant.

    Its data section has all fields of that time and none of today's. Such a run was split by
    position, and its images were decoded without their orientation.

    Args:
        values: The JSON object.

    Example:
        >>> with_earlier_data_defaults({"data": {"dataset": "digits"}})
        {'data': {'dataset': 'digits'}}
    """
    data = values.get("data") if isinstance(values, Mapping) else None
    if not isinstance(data, Mapping) or data.keys() != _EARLIER_DATA_FIELDS:
        return values
    if data["dataset"] in ("digits", "synthetic"):  # without files, nothing has changed
        return values
    earlier = {"split_by": "position", "orientation": "stored", "decoding": "fast"}
    return {**values, "data": {**data, **earlier}}


@dataclasses.dataclass(frozen=True)
class AugmentConfig(Section):
    """Random changes of the training images."""

    section: ClassVar[str] = "augment"

    crop: Literal["none", "pad", "resized", "scale"] = setting(
        "none",
        "`pad`: zero-pad by `pad` pixels and crop at random (He et al. 2015, section 4.2). "
        "`resized`: crop a random area and aspect ratio, in up to ten draws (Szegedy et al. 2015, "
        "as in Goyal et al. 2017). `scale`: resize the shorter side at random and crop at random "
        "(He et al. 2015, section 3.4).",
    )
    pad: int = setting(4, "Pixels on each side, for the crop `pad`.", _AT_LEAST_0)
    min_area: float = setting(
        0.08, "Smallest fraction of the image's area, for the crop `resized`.", _SHARE
    )
    shorter_side: tuple[float, float] = setting(
        (256 / 224, 480 / 224),
        "Range of the shorter side in units of the crop's size, for the crop `scale`.",
        Bounds(minimum=1, ascending=True),
    )
    flip: bool = setting(False, "Mirror images left-right with probability 1/2.")
    policy: Literal["none", "rand", "trivial", "autoaugment", "augmix", "three"] = setting(
        "none",
        "Operations on each image: `rand` (RandAugment with timm's increasing levels), `trivial` "
        "(TrivialAugment Wide), `autoaugment` (AutoAugment's policy for CIFAR-10), `augmix` "
        "(AugMix), `three` (3-Augment of DeiT III). Pixels from outside the image get the mean "
        "colour.",
        option="--augment",
    )
    policy_magnitude: float | None = setting(
        None,
        "Magnitude of `rand` (by default 9) and `augmix` (3), 0 to 10; a higher one continues the "
        "operations' scales.",
        Bounds(minimum=0, maximum=30),
    )
    policy_levels: Literal["increasing", "original"] = setting(
        "increasing",
        "Scales of `rand`: `increasing`, each operation changes more at a higher magnitude (timm's "
        "`inc1`); `original`, those of the authors, whose posterize and solarize change less.",
    )
    policy_spread: float = setting(
        0.5, "Standard deviation of the magnitude of `rand`.", _AT_LEAST_0
    )
    policy_operations: int = setting(2, "Operations per image of `rand`.", _AT_LEAST_1)
    policy_probability: float = setting(
        0.5, "Probability of each operation of `rand`.", Bounds(minimum=0, maximum=1)
    )
    color_jitter: float = setting(
        0.0,
        "Largest relative change of brightness, contrast and colour, in a random order, after the "
        "policy; 0 for none.",
        _AT_LEAST_0,
    )
    pca_noise: float = setting(
        0.0,
        "Standard deviation of the noise along the principal components of ImageNet's colours "
        "(Krizhevsky et al. 2012, section 4.1: 0.1); 0 for none.",
        _AT_LEAST_0,
    )
    erasing: float = setting(
        0.0, "Probability of erasing a rectangle of an image.", Bounds(minimum=0, maximum=1)
    )
    erasing_mode: Literal["pixel", "const"] = setting(
        "pixel", "Erase with normal noise (`pixel`) or with the mean colour (`const`)."
    )
    mixup: float = setting(
        0.0,
        "Parameter of mixup's Beta distribution; 0 for none. With `cutmix`, each step uses one of "
        "the two, with probability 1/2.",
        _AT_LEAST_0,
        option="--mixup",
        metavar="ALPHA",
    )
    cutmix: float = setting(
        0.0,
        "Parameter of cutmix's Beta distribution; 0 for none.",
        _AT_LEAST_0,
        option="--cutmix",
        metavar="ALPHA",
    )
    repeats: int = setting(
        1,
        "Differently augmented copies of each image in a batch (repeated augmentation, Hoffer et "
        "al. 2019). An epoch keeps its number of steps, and so has 1 / `repeats` of the images.",
        _AT_LEAST_1,
    )
    train_size: int | None = setting(
        None,
        "Shorter side of the training images, pixels, where evaluation has larger ones (Touvron et "
        "al. 2019, arXiv:1906.06423). By default the net's.",
        _AT_LEAST_1,
    )
    start_size: int | None = setting(
        None,
        "Shorter side of the training images at the first step, pixels; it grows linearly to the "
        "net's. By default training images have the net's size throughout.",
        _AT_LEAST_1,
    )
    full_size_at: float = setting(
        0.8, "Fraction of the run after which images have their full size.", _SHARE
    )
    size_multiple: int = setting(
        8, "Growing images have sides of multiples of so many pixels.", _AT_LEAST_1
    )


@dataclasses.dataclass(frozen=True)
class ScheduleConfig(Section):
    """The learning rate as a function of the step."""

    section: ClassVar[str] = "schedule"

    kind: Literal["constant", "piecewise", "step", "cosine", "polynomial", "one_cycle"] = setting(
        "constant",
        "`constant`; `piecewise`: multiplied by `factor` at each of `boundaries`, "
        "`boundary_epochs` or `boundary_steps`; `step`: multiplied by `factor` every "
        "`every_epochs` epochs; `cosine` or `polynomial`: to `final_rate` at the end of the run; "
        "`one_cycle`: up to `learning_rate` and down again, without a warm-up.",
    )
    learning_rate: float = setting(
        0.1, "Learning rate after the warm-up.", _ABOVE_0, option="--learning-rate", metavar="RATE"
    )
    boundaries: tuple[float, ...] = setting(
        (),
        "Where a `piecewise` rate changes, as fractions of the run.",
        Bounds(above=0, below=1, ascending=True),
    )
    boundary_epochs: tuple[float, ...] = setting(
        (), "The same in epochs.", Bounds(above=0, ascending=True)
    )
    boundary_steps: tuple[int, ...] = setting(
        (), "The same in steps.", Bounds(above=0, ascending=True)
    )
    factor: float = setting(
        0.1, "Factor of the rate at each change of `piecewise` and `step`.", _ABOVE_0
    )
    every_epochs: float = setting(30.0, "Epochs between the changes of `step`.", _ABOVE_0)
    final_rate: float = setting(
        0.0, "Learning rate at the end of `cosine` and `polynomial`.", _AT_LEAST_0
    )
    power: float = setting(1.0, "Exponent of `polynomial`; 1 falls linearly.", _ABOVE_0)
    cycle_rise: float = setting(
        0.3, "Fraction of the run in which `one_cycle` rises.", Bounds(above=0, below=1)
    )
    cycle_start_divisor: float = setting(
        25.0, "`one_cycle` starts at `learning_rate` divided by this.", Bounds(minimum=1)
    )
    cycle_end_divisor: float = setting(
        1e4, "`one_cycle` ends at its starting rate divided by this.", Bounds(minimum=1)
    )
    cycle_shape: Literal["cosine", "linear"] = setting(
        "cosine", "Shape of the two parts of `one_cycle`."
    )
    warmup_steps: int = setting(0, "Length of the warm-up in steps.", _AT_LEAST_0)
    warmup_epochs: float = setting(
        0.0, "Length of the warm-up in epochs; added to `warmup_steps`.", _AT_LEAST_0
    )
    warmup: Literal["linear", "constant"] = setting(
        "linear",
        "`linear` from `warmup_rate` to `learning_rate`, or `constant` at `warmup_rate`.",
    )
    warmup_rate: float = setting(
        0.0,
        "Learning rate that the warm-up starts at. A linear warm-up from 0 counts updates from 1, "
        "so that the first one has a rate.",
        _AT_LEAST_0,
    )
    swa_start: float = setting(
        0.0,
        "Stochastic weight averaging: from this fraction of the run on, the weights at the end of "
        "each epoch, or of each of its cycles, are averaged; 0 for none.",
        _FRACTION,
    )
    swa_rate: float | None = setting(
        None,
        "Learning rate from `swa_start` on. By default the one that the schedule has reached.",
        _ABOVE_0,
    )
    swa_cycle: int = setting(
        0,
        "Epochs in which the rate falls linearly from `swa_rate` to `swa_low_rate`, again and "
        "again; 0 for a constant rate.",
        _AT_LEAST_0,
    )
    swa_low_rate: float = setting(0.0, "Lowest rate of each `swa_cycle`.", _AT_LEAST_0)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """The optimizer and the averages of the weights."""

    section: ClassVar[str] = "optimizer"

    name: Literal["sgd", "adamw", "lamb", "lars", "lion", "muon"] = setting(
        "sgd",
        "`sgd`, `lars` and `muon` have momentum; `muon` updates kernels, its other variables are "
        "those of `adamw`.",
    )
    momentum: float = setting(0.9, "Momentum of `sgd`, `lars` and `muon`.", _FRACTION)
    momentum_form: Literal["keras", "pytorch"] = setting(
        "keras",
        "What the momentum of `sgd` gathers: `keras`, as Caffe, updates: v = m v - rate g, "
        "w = w + v; `pytorch` gradients: v = m v + g, w = w - rate v, whose updates follow a "
        "change of the rate at once (Goyal et al. 2017, Remark 2).",
    )
    nesterov: bool = setting(False, "Nesterov's momentum, for `sgd` and `muon`.")
    beta_1: float | None = setting(
        None,
        "Decay of the mean of gradients of `adamw`, `lamb` and `lion`, and of those variables of "
        "`muon` that are no kernels. By default 0.9.",
        _FRACTION,
    )
    beta_2: float | None = setting(
        None,
        "Decay of the mean of their squares; for `lion` of the momentum. By default 0.999; 0.99 "
        "for `lion`.",
        _FRACTION,
    )
    epsilon: float | None = setting(
        None,
        "What `adamw`, `lamb`, `muon` and `lars` add to a denominator. By default 1e-7; 1e-6 for "
        "`lamb`, 1e-8 for `lars`.",
        _ABOVE_0,
    )
    trust: float = setting(
        0.001, "Trust coefficient of `lars`: its rate per norm of the weights.", _ABOVE_0
    )
    weight_decay: float = setting(
        1e-4,
        "For `sgd` the factor of an L2 term added to the gradient, as in the papers; for `lamb` "
        "and `lars` inside the trust ratio; for the others decoupled.",
        _AT_LEAST_0,
    )
    decay_all: bool = setting(
        True,
        "Decay all variables. If false, decay kernels only: not biases, the scales and shifts of "
        "norms, or the learned scales and biases of ReZero, SkipInit and Fixup.",
    )
    decay_biases: bool = setting(
        False,
        "Where `decay_all` is false, decay the biases of convolutions and of the classifier all "
        "the same.",
    )
    label_smoothing: float = setting(
        0.0,
        "Share of each label that is spread over all classes.",
        _FRACTION,
        option="--label-smoothing",
        metavar="SHARE",
    )
    layer_decay: float = setting(
        1.0,
        "Factor of the learning rate from each stage to the one before it; the classifier has "
        "the whole rate, the last stage this factor of it. 1 for one rate.",
        _SHARE,
        option="--layer-decay",
        metavar="FACTOR",
    )
    layer_decay_per: Literal["stage", "unit"] = setting(
        "stage", "Whether `layer_decay` counts stages or residual units."
    )
    head_factor: float = setting(1.0, "Factor of the learning rate of the classifier.", _ABOVE_0)
    accumulate: int = setting(
        1,
        "Parts of the batch whose gradients are summed one after another: less memory for the "
        "same step.",
        _AT_LEAST_1,
        option="--accumulate",
        metavar="PARTS",
    )
    ema: float = setting(
        0.0,
        "Momentum of a moving average of weights and batch-norm statistics, which is what is "
        "evaluated; 0 for none. In step t it is at most (1 + t) / (10 + t).",
        _FRACTION,
        option="--ema",
        metavar="MOMENTUM",
    )
    average_last: int = setting(
        0,
        "Average the weights at the ends of the run's last epochs, this many; 0 for none.",
        _AT_LEAST_0,
        option="--average-last",
        metavar="EPOCHS",
    )
    recompute_batch_norm: int = setting(
        0,
        "Training images on which the batch-norm statistics of the final weights are re-estimated; "
        "0 keeps those of training.",
        _AT_LEAST_0,
        option="--recompute-batch-norm",
        metavar="IMAGES",
    )
    clip_norm: float = setting(
        0.0, "Largest global norm of the gradient; 0 does not clip.", _AT_LEAST_0
    )


@dataclasses.dataclass(frozen=True)
class LossConfig(Section):
    """The loss; `optimizer.label_smoothing` applies to each kind."""

    section: ClassVar[str] = "loss"

    kind: Literal["cross_entropy", "bce", "focal"] = setting(
        "cross_entropy",
        "`cross_entropy`; `bce`: the mean binary cross-entropy of the classes; `focal`: "
        "cross-entropy that weighs well classified examples less. Where an image has several "
        "labels, `cross_entropy` is `bce`.",
        option="--loss",
    )
    target_threshold: float | None = setting(
        None,
        "For `bce`: smoothed and mixed labels above it become 1, the others 0. By default they "
        "stay.",
        _FRACTION,
    )
    focal_gamma: float = setting(2.0, "Focusing parameter of `focal`.", _AT_LEAST_0)
    class_weights: Literal["none", "balanced"] = setting(
        "none",
        "`balanced`: each example's loss is multiplied by n / (k * count), for n images of k "
        "classes and the count of its class.",
        option="--class-weights",
    )
    teacher: str | None = setting(
        None,
        "A trained net to learn from: a run, a file (`.keras` of any Keras model too) or a "
        "published name. It sees the same crops.",
        option="--teacher",
        metavar="SOURCE",
    )
    teacher_net: str | None = setting(
        None, "The teacher's net, for published names that hold several, such as `torchvision/v2`."
    )
    teacher_input: Literal["auto", "pixels", "normalized"] = setting(
        "auto",
        "What the teacher takes: `auto`, what it states; `pixels`, 0..255; `normalized`, the run's "
        "own images.",
    )
    teacher_temperature: float = setting(
        1.0, "Temperature of both outputs in the divergence from the teacher.", _ABOVE_0
    )
    teacher_alpha: float = setting(
        0.5,
        "Share of the divergence from the teacher in the loss; the labels have the rest.",
        Bounds(minimum=0, maximum=1),
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that only `bce` has a threshold."""
        super().__post_init__()
        if self.target_threshold is not None and self.kind != "bce":
            raise ValueError(
                "`loss.target_threshold` needs `loss.kind=bce`. "
                f"Received: loss.kind={self.kind}, loss.target_threshold={self.target_threshold}"
            )


@dataclasses.dataclass(frozen=True)
class RuntimeConfig(Section):
    """Where and how the steps run."""

    section: ClassVar[str] = "runtime"

    strategy: str = setting(
        "auto",
        f"Devices to train on: {NAMES}.",
        option="--strategy",
        metavar="NAME",
        free=True,
    )
    worker_timeout: int = setting(
        1800,
        "Seconds that a worker waits for others before it ends with status 138; 0 for no limit. "
        "The first step includes the time to build the graph.",
        _AT_LEAST_0,
        option="--worker-timeout",
        free=True,
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting(
        "float32", "Precision of the computation.", option="--precision"
    )
    xla: bool = setting(False, "Compile the step with XLA.", option="--xla", free=True)
    steps_per_call: int = setting(
        10,
        "Steps in one call of the graph.",
        _AT_LEAST_1,
        option="--steps-per-call",
        free=True,
    )
    remat: Literal["none", "unit", "stage"] = setting(
        "none",
        "For the gradient compute the activations inside each `unit` or each `stage` again instead "
        "of keeping them: less memory, more time. The last stage keeps its own.",
        option="--remat",
        free=True,
    )
    sync_batch_norm: bool = setting(
        False, "Average batch-norm statistics over replicas.", option="--sync-batch-norm"
    )
    deterministic: bool = setting(
        False, "Use only operations that repeat to the last bit.", option="--deterministic"
    )
    track: Literal["none", "wandb", "mlflow"] = setting(
        "none",
        "Send configuration, metrics and results to Weights & Biases or MLflow, which must be "
        "installed.",
        option="--track",
        free=True,
    )
    profile: str | None = setting(
        None,
        "Steps to profile for TensorBoard, such as `10:20`.",
        option="--profile",
        metavar="FIRST:LAST",
        free=True,
    )
    log_gradient_norm: bool = setting(
        False,
        "Write the norm of the gradient, of the global batch and before clipping, to metrics.jsonl "
        "and TensorBoard.",
        option="--log-gradient-norm",
        free=True,
    )

    def __post_init__(self) -> None:
        """Checks the fields, the strategy's name among them."""
        super().__post_init__()
        check_name(self.strategy)
        _ = self.profiled_steps

    @property
    def profiled_steps(self) -> tuple[int, int] | None:
        """First and last step to profile, counted from 0, or None.

        Raises:
            ValueError: If `profile` is not two ascending numbers.
        """
        if self.profile is None:
            return None
        first, colon, last = self.profile.partition(":")
        if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ValueError(
                "`runtime.profile` must be FIRST:LAST, two steps in ascending order. "
                f"Received: runtime.profile={self.profile!r}"
            )
        return int(first), int(last)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Section):
    """When the state of the run is saved; it always is at the end of an epoch."""

    section: ClassVar[str] = "checkpoint"

    every_steps: int = setting(
        1000,
        "Steps between checkpoints; 0 for none.",
        _AT_LEAST_0,
        option="--checkpoint-steps",
        free=True,
    )
    every_minutes: float = setting(
        10.0,
        "Minutes between checkpoints; 0 for none.",
        _AT_LEAST_0,
        option="--checkpoint-minutes",
        metavar="MINUTES",
        free=True,
    )
    keep: int = setting(2, "Checkpoints to keep beside the best one.", _AT_LEAST_1, free=True)


@dataclasses.dataclass(frozen=True)
class RunConfig(Section):
    """All settings that a training run is a function of.

    Raises:
        ValueError: If a value is out of bounds, or if not exactly one of `epochs` and `steps` is
            given.

    Example:
        >>> RunConfig(epochs=90, schedule=ScheduleConfig(kind="cosine")).batch_size
        128
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    recipe: str = setting(
        "custom", "Name of the recipe that the other settings came from, as a note.", free=True
    )
    batch_size: int = setting(
        128, "Images per step, over all replicas together.", _AT_LEAST_1, option="--batch-size"
    )
    epochs: float | None = setting(
        None, "Length of the run in passes over the training images.", _ABOVE_0, option="--epochs"
    )
    steps: int | None = setting(None, "Length of the run in steps.", _ABOVE_0, option="--steps")
    seed: int = setting(
        0,
        "Seed of the initial weights, of the order of the images and of their augmentation.",
        Bounds(minimum=0, maximum=2**31 - 1),
        option="--seed",
    )
    head_epochs: float = setting(
        0.0,
        "With `model.weights`: epochs at the beginning that train the classifier only.",
        _AT_LEAST_0,
        option="--head-epochs",
        metavar="EPOCHS",
    )
    early_stop: int = setting(
        0,
        "End the run after so many epochs without a better result on the validation images; 0 for "
        "never.",
        _AT_LEAST_0,
        option="--early-stop",
        metavar="EPOCHS",
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that exactly one length is given."""
        super().__post_init__()
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "Give the length of the run as `epochs` or as `steps`, one of the two. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )
        if self.head_epochs and self.model.weights is None:
            raise ValueError(
                "`head_epochs` needs `model.weights`: random weights have nothing to keep. "
                f"Received: head_epochs={self.head_epochs}"
            )
        if self.head_epochs and self.model.freeze == "all":
            raise ValueError(
                "`head_epochs` needs layers that train after the classifier, and "
                "`model.freeze=all` leaves none. "
                f"Received: head_epochs={self.head_epochs}, model.freeze='all'"
            )

    def to_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
