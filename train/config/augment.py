"""The section `augment` of a configuration: random changes of the training images."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from .fields import AT_LEAST_0, AT_LEAST_1, SHARE, Bounds, Section, setting


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
    pad: int = setting(4, "Pixels on each side, for the crop `pad`.", AT_LEAST_0)
    min_area: float = setting(
        0.08, "Smallest fraction of the image's area, for the crop `resized`.", SHARE
    )
    shorter_side: tuple[float, float] = setting(
        (256 / 224, 480 / 224),
        "Range of the shorter side in units of the crop's size, for the crop `scale`.",
        Bounds(minimum=1, ascending=True),
    )
    pixels: Literal["uint8", "float32"] = setting(
        "uint8",
        "Values of the crops `resized` and `scale` after they are resized: `uint8` rounds to whole "
        "values, as Pillow does, so that a quarter of the bytes go to the device; `float32` does "
        "not round, as earlier versions did.",
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
        0.5, "Standard deviation of the magnitude of `rand`.", AT_LEAST_0
    )
    policy_operations: int = setting(
        2, "Operations per image of `rand`.", Bounds(minimum=1, maximum=100)
    )
    policy_probability: float = setting(
        0.5, "Probability of each operation of `rand`.", Bounds(minimum=0, maximum=1)
    )
    color_jitter: float = setting(
        0.0,
        "Largest relative change of brightness, contrast and colour, in a random order, after the "
        "policy; 0 for none.",
        AT_LEAST_0,
    )
    pca_noise: float = setting(
        0.0,
        "Standard deviation of the noise along the principal components of ImageNet's colours "
        "(Krizhevsky et al. 2012, section 4.1: 0.1); 0 for none.",
        AT_LEAST_0,
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
        AT_LEAST_0,
        option="--mixup",
        metavar="ALPHA",
    )
    cutmix: float = setting(
        0.0,
        "Parameter of cutmix's Beta distribution; 0 for none.",
        AT_LEAST_0,
        option="--cutmix",
        metavar="ALPHA",
    )
    repeats: int = setting(
        1,
        "Differently augmented copies of each image in a batch (repeated augmentation, Hoffer et "
        "al. 2019). An epoch keeps its number of steps, and so has 1 / `repeats` of the images.",
        AT_LEAST_1,
    )
    train_size: int | None = setting(
        None,
        "Shorter side of the training images, pixels, where evaluation has larger ones (Touvron et "
        "al. 2019, arXiv:1906.06423). By default the net's.",
        AT_LEAST_1,
    )
    start_size: int | None = setting(
        None,
        "Shorter side of the training images at the first step, pixels; it grows linearly to the "
        "net's. By default training images have the net's size throughout.",
        AT_LEAST_1,
    )
    full_size_at: float = setting(
        0.8, "Fraction of the run after which images have their full size.", SHARE
    )
    size_multiple: int = setting(
        8, "Growing images have sides of multiples of so many pixels.", AT_LEAST_1
    )
