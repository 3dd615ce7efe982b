"""The table of published weights: consistent in itself, and with its publishers' own tables."""

from __future__ import annotations

import collections
import re

import pytest
from keras.src.applications import resnet

from keras_resnet import variants
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.sources import SOURCES, Source, find_source

ALL = pytest.mark.parametrize(
    "source", SOURCES.values(), ids=lambda each: f"{each.net}-{each.name}"
)


def test_how_many_there_are():
    counts = collections.Counter(name for _, name in SOURCES)
    assert counts == {
        "imagenet": 6,
        "torchvision/v1": 10,
        "torchvision/v2": 7,
        "akamaster": 6,
        "mlperf_tiny": 1,
    }


def test_nothing_occurs_twice():
    """The table is a dict, which would hide an entry behind another of its name."""
    from keras_resnet.weights import sources

    tables = [*sources._keras(), *sources._torchvision(), *sources._cifar()]
    assert len(tables) == len(SOURCES)
    urls = [source.url for source in tables] + [s.headless[0] for s in tables if s.headless]
    hashes = [source.hash for source in tables] + [s.headless[1] for s in tables if s.headless]
    assert len(set(urls)) == len(urls)
    assert len(set(hashes)) == len(hashes)


@ALL
def test_every_source(source: Source):
    assert SOURCES[source.net, source.name] is source
    assert source.net in variants
    spec = source.spec
    assert variants[spec.name] is spec
    assert LAYOUTS[source.layout].misfits(spec) == []
    ours = variants[source.net]
    assert (spec.depths, spec.widths, spec.branch) == (ours.depths, ours.widths, ours.branch)
    assert source.url.startswith("https://")
    assert re.fullmatch(r"sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}", source.hash)
    assert source.licence
    imagenet = spec.classes == 1000
    assert source.preprocess.size == ((224, 224) if imagenet else (32, 32))
    assert source.preprocess.crop_fraction < 1 if imagenet else source.preprocess.crop_fraction == 1
    assert source.top1 is None or 69 < source.top1 < 94


@pytest.mark.parametrize(
    "source",
    [source for source in SOURCES.values() if source.layout in ("torchvision", "akamaster")],
    ids=lambda each: f"{each.net}-{each.name}",
)
def test_the_file_is_named_after_its_hash(source: Source):
    """As torch.hub checks it: `resnet50-0676ba61.pth`."""
    file = source.url.rsplit("/", 1)[1]
    match = re.fullmatch(r"(\w+)-([0-9a-f]{8})\.(pth|th)", file)
    assert source.hash == f"sha256:{match[2]}"
    assert source.net.removeprefix("cifar_") == match[1]


@pytest.mark.parametrize(
    ("net", "name", "file"),
    [
        ("resnet18", "torchvision/v1", "resnet18-f37072fd.pth"),
        ("resnet50", "torchvision/v1", "resnet50-0676ba61.pth"),
        ("resnet50", "torchvision/v2", "resnet50-11ad3fa6.pth"),
        ("resnext101_64x4d", "torchvision/v1", "resnext101_64x4d-173b62eb.pth"),
        ("cifar_resnet20", "akamaster", "resnet20-12fca82f.th"),
        ("resnet101v2", "imagenet", "resnet101v2_weights_tf_dim_ordering_tf_kernels.h5"),
    ],
)
def test_files_by_name(net, name, file):
    assert SOURCES[net, name].url.endswith(f"/{file}")


@pytest.mark.parametrize("net", [net for net, name in SOURCES if name == "imagenet"])
def test_hashes_of_keras_applications(net):
    """The installed Keras names the same files and the same MD5 sums."""
    source = SOURCES[net, "imagenet"]
    full, headless = resnet.WEIGHTS_HASHES[net]
    assert source.hash == f"md5:{full}"
    assert source.headless[1] == f"md5:{headless}"
    start = f"{resnet.BASE_WEIGHTS_PATH}{net}_weights_tf_dim_ordering_tf_kernels"
    assert source.url == f"{start}.h5"
    assert source.headless[0] == f"{start}_notop.h5"


def test_which_net_computes_the_publishers_function():
    """keras.applications strides in the 1x1, torchvision in the 3x3."""
    keras_net = SOURCES["resnet50", "imagenet"].spec
    torch_net = SOURCES["resnet50", "torchvision/v1"].spec
    assert (keras_net.stride_placement, keras_net.conv_bias) == ("1x1", True)
    assert (torch_net.stride_placement, torch_net.conv_bias) == ("3x3", False)
    assert SOURCES["resnet50v2", "imagenet"].spec.stride_unit == "last"
    assert SOURCES["cifar_resnet20", "akamaster"].spec.shortcut == "A"


def test_preprocessing_by_publisher():
    caffe = SOURCES["resnet50", "imagenet"].preprocess
    assert (caffe.channel_order, caffe.mean) == ("bgr", (103.939, 116.779, 123.68))
    assert SOURCES["resnet50v2", "imagenet"].preprocess.std == (127.5,) * 3
    first, second = (SOURCES["resnet50", f"torchvision/v{n}"].preprocess for n in (1, 2))
    assert first.mean == pytest.approx((123.675, 116.28, 103.53))
    assert first.std == pytest.approx((58.395, 57.12, 57.375))
    assert (first.crop_fraction, second.crop_fraction) == (224 / 256, 224 / 232)
    assert SOURCES["mlperf_tiny_resnet8", "mlperf_tiny"].preprocess.std == (1.0,) * 3


def test_find_source():
    assert find_source("torchvision/v2", "resnet101") is SOURCES["resnet101", "torchvision/v2"]
    assert find_source("akamaster").net == "cifar_resnet20"


@pytest.mark.parametrize(
    ("name", "net", "message"),
    [
        (
            "torchvision/v3",
            "resnet50",
            "No weights named 'torchvision/v3' for 'resnet50'. Nearest: "
            "torchvision/v2, torchvision/v1; `hf://owner/repository` or the path of a file",
        ),
        ("imagnet", None, "No weights named 'imagnet'. Nearest: imagenet; `hf://"),
        (
            "torchvision/v2",
            "resnet18",
            "No weights named 'torchvision/v2' for 'resnet18'. Nearest: torchvision/v1; ",
        ),
        ("xyz", "resnet50", "Known: imagenet, torchvision/v1, torchvision/v2; `hf://"),
        (
            "imagenet",
            "resnet200",
            "No weights named 'imagenet' for 'resnet200'. There are no published weights for this "
            "net; `hf://owner/repository` or the path of a file also works",
        ),
    ],
)
def test_unknown_names_list_the_nearest(name, net, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        find_source(name, net)
