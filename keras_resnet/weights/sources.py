"""The table of published weights: URL, hash, licence, net and preprocessing of each file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from keras_resnet.nets.catalog import VARIANTS, nearest
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.layouts import LayoutName

_MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
_STD = tuple(255 * value for value in (0.229, 0.224, 0.225))
TORCHVISION_V1 = PreprocessSpec((224, 224), _MEAN, _STD, crop_fraction=224 / 256)
TORCHVISION_V2 = dataclasses.replace(TORCHVISION_V1, crop_fraction=224 / 232)
# keras.applications' modes "caffe" and "tf".
CAFFE = PreprocessSpec(
    (224, 224), (103.939, 116.779, 123.68), (1.0,) * 3, channel_order="bgr", crop_fraction=0.875
)
TENSORFLOW = PreprocessSpec((224, 224), (127.5,) * 3, (127.5,) * 3, crop_fraction=0.875)
AKAMASTER = PreprocessSpec((32, 32), _MEAN, _STD)
RAW = PreprocessSpec((32, 32), (0.0,) * 3, (1.0,) * 3)

_TORCHVISION = "not stated for the weights; torchvision's code is BSD-3-Clause"


@dataclasses.dataclass(frozen=True)
class Source:
    """One published file of weights, an entry of `SOURCES`.

    Attributes:
        net: Name of the net in the catalog, as in the applications.
        name: Name of the weights, as `weights=` takes it.
        spec: The net that computes the publisher's function with these weights.
        layout: The library whose names the tensors have.
        url: URL of the file.
        hash: `"sha256:..."` (a prefix where only that is published), `"md5:..."`, or None.
        licence: As its publisher states it.
        preprocess: The preprocessing that it was evaluated with.
        top1: Published top-1 accuracy in percent, on ImageNet's validation images with one crop,
            or on CIFAR-10's test images.
        headless: URL and hash of a file without the classifier, if one is published.

    Example:
        >>> source = keras_resnet.weights.SOURCES["resnet50", "torchvision/v2"]
        >>> source.top1, source.preprocess.size, source.hash
        (80.858, (224, 224), 'sha256:11ad3fa6')
    """

    net: str
    name: str
    spec: ResNetSpec
    layout: LayoutName
    url: str
    hash: str | None
    licence: str
    preprocess: PreprocessSpec
    top1: float | None = None
    headless: tuple[str, str] | None = None


# keras.applications: net, top-1 accuracy, MD5 of the file and of the one without the classifier.
_KERAS = (
    ("resnet50", 74.9, "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    ("resnet101", 76.4, "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    ("resnet152", 76.6, "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    ("resnet50v2", 76.0, "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"),
    ("resnet101v2", 77.2, "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"),
    ("resnet152v2", 78.0, "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"),
)


def _keras() -> Iterator[Source]:
    """keras.applications' files; its source code lists their MD5 sums."""
    base = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    for net, top1, full, headless in _KERAS:
        v2 = net.endswith("v2")
        stem = f"{base}{net}_weights_tf_dim_ordering_tf_kernels"
        yield Source(
            net,
            "imagenet",
            VARIANTS[f"keras_{net}"],
            "keras",
            f"{stem}.h5",
            f"md5:{full}",
            "Apache-2.0 (TensorFlow)" if v2 else "MIT (He et al.)",
            TENSORFLOW if v2 else CAFFE,
            top1,
            (f"{stem}_notop.h5", f"md5:{headless}"),
        )


def _torchvision() -> Iterator[Source]:
    """Torchvision's files; each file name contains the start of the SHA-256."""
    for net, name, digest, top1 in (
        ("resnet18", "v1", "f37072fd", 69.758),
        ("resnet34", "v1", "b627a593", 73.314),
        ("resnet50", "v1", "0676ba61", 76.130),
        ("resnet50", "v2", "11ad3fa6", 80.858),
        ("resnet101", "v1", "63fe2227", 77.374),
        ("resnet101", "v2", "cd907fc2", 81.886),
        ("resnet152", "v1", "394f9c45", 78.312),
        ("resnet152", "v2", "f82ba261", 82.284),
        ("resnext50_32x4d", "v1", "7cdf4587", 77.618),
        ("resnext50_32x4d", "v2", "1a0047aa", 81.198),
        ("resnext101_32x8d", "v1", "8ba56ff5", 79.312),
        ("resnext101_32x8d", "v2", "110c445d", 82.834),
        ("resnext101_64x4d", "v1", "173b62eb", 83.246),
        ("wide_resnet50_2", "v1", "95faca4d", 78.468),
        ("wide_resnet50_2", "v2", "9ba9bcbe", 81.602),
        ("wide_resnet101_2", "v1", "32ee1156", 78.848),
        ("wide_resnet101_2", "v2", "d733dc28", 82.510),
    ):
        # Trained by the recipe of torchvision's second weights, which resizes to 232.
        second = name == "v2" or net == "resnext101_64x4d"
        yield Source(
            net,
            f"torchvision/{name}",
            VARIANTS.get(f"{net}_v1_5", VARIANTS[net]),
            "torchvision",
            f"https://download.pytorch.org/models/{net}-{digest}.pth",
            f"sha256:{digest}",
            _TORCHVISION,
            TORCHVISION_V2 if second else TORCHVISION_V1,
            top1,
        )


def _cifar() -> Iterator[Source]:
    """Akamaster's CIFAR-10 nets, whose file names contain the start of the SHA-256; MLPerf Tiny."""
    base = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
    for layers, digest, top1 in (
        (20, "12fca82f", 91.73),
        (32, "d509ac18", 92.63),
        (44, "014dd654", 93.10),
        (56, "4bfd9763", 93.39),
        (110, "1d1ed7c2", 93.68),
        (1202, "f3b1deed", 93.82),
    ):
        net = f"cifar_resnet{layers}"
        yield Source(
            net,
            "akamaster",
            VARIANTS[net],
            "akamaster",
            f"{base}resnet{layers}-{digest}.th",
            f"sha256:{digest}",
            "BSD-2-Clause",
            AKAMASTER,
            top1,
        )
    yield Source(
        "mlperf_tiny_resnet8",
        "mlperf_tiny",
        VARIANTS["mlperf_tiny_resnet8"],
        "mlperf_tiny",
        "https://github.com/mlcommons/tiny/raw/master/benchmark/training/image_classification/"
        "trained_models/pretrainedResnet.h5",
        "sha256:5f938a8eea605438cc7360aa13c987bc6d7bd0c8d931b2917361ae7ae4eeda2f",
        "Apache-2.0 (MLCommons)",
        RAW,
    )


# All published weights, by (net, name): `SOURCES["resnet50", "torchvision/v2"]`.
SOURCES: dict[tuple[str, str], Source] = {
    (source.net, source.name): source
    for table in (_keras(), _torchvision(), _cifar())
    for source in table
}


def find_source(name: str, net: str | None = None) -> Source:
    """Returns the published weights of a net.

    Args:
        name: Name of the weights, such as `"imagenet"` or `"torchvision/v2"`.
        net: Name of the net; None returns the first net that has weights of this name.

    Raises:
        ValueError: If there are none; lists the names that exist.
    """
    if net is not None:  # variants of a net for one publisher share its name here
        net = net.removesuffix("_v1_5").removeprefix("keras_")
    for source in SOURCES.values():
        if source.name == name and net in (None, source.net):
            return source
    names = sorted({source.name for source in SOURCES.values() if net in (None, source.net)})
    of_net = "" if net is None else f" for {net!r}"
    hint = nearest(name, names) if names else "There are no published weights for this net"
    raise ValueError(
        f"No weights named {name!r}{of_net}. {hint}; `hf://owner/repository` or the path of a file "
        "also works"
    )
