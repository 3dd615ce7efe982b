"""Weights that others trained, on the images they were trained for: accuracy and logits.

The data and the weights lie beside the project, in ../shared/data; without them this is skipped.
"""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest

from keras_resnet import from_pretrained, variants
from keras_resnet.weights import SOURCES, certify, open_weights
from keras_resnet.weights.certificate import source_of

AKAMASTER = "resnet20-12fca82f.th"
AKAMASTER_NET = ("cifar_resnet20", "akamaster")
MLPERF_NET = ("mlperf_tiny_resnet8", "mlperf_tiny")
BATCH = 339  # three equal batches of 1,017


def _accurate(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> int:
    logits = model.predict(images, batch_size=BATCH, verbose=0)
    return int((logits.argmax(1) == labels).sum())


def _weights_file(shared: pathlib.Path, name: str) -> pathlib.Path:
    path = shared / "weights" / name
    if not path.is_file():
        pytest.skip(f"no {name} under {path.parent}")
    return path


@pytest.fixture(scope="module")
def resnet20(shared) -> keras.Model:
    return from_pretrained(_weights_file(shared, AKAMASTER))


def test_mlperf_tiny_resnet8(shared, cifar10_sample):
    """88.0 % of 1,017 images: 895. Raw pixels, "same" padding, norm eps 1e-3."""
    model = from_pretrained(_weights_file(shared, "mlperf_tiny_resnet8.h5"))
    assert model.spec is variants["mlperf_tiny_resnet8"]
    images, labels = cifar10_sample
    assert len(labels) == 1017
    pixels = model.preprocess.normalize(images)
    np.testing.assert_array_equal(pixels, images)
    assert _accurate(model, pixels, labels) == pytest.approx(895, abs=1)


def test_akamaster_resnet20_classifies_932_of_1017(resnet20, cifar10_sample):
    """91.6 %; its author publishes 91.73 % for all 10,000 test images."""
    assert resnet20.spec is variants["cifar_resnet20"]
    images, labels = cifar10_sample
    assert _accurate(resnet20, resnet20.preprocess.normalize(images), labels) == 932


@pytest.mark.parametrize("name", ["resnet20-12fca82f.th", "mlperf_tiny_resnet8.h5"])
def test_published_files_under_other_names(shared, tmp_path, name):
    """Their hash tells what they are and what they want to see."""
    path = tmp_path / "mine"
    path.write_bytes(_weights_file(shared, name).read_bytes())
    opened = open_weights(path)
    source = SOURCES[AKAMASTER_NET if name == AKAMASTER else MLPERF_NET]
    assert (opened.spec, opened.preprocess) == (source.spec, source.preprocess)


def test_akamaster_resnet20_has_a_certificate(shared, resnet20):
    """The NumPy reference reads the file's own names and shares no code with the net."""
    opened = open_weights(_weights_file(shared, AKAMASTER))
    source = source_of(opened)
    certificate = certify(resnet20, opened.tensors, opened.layout, source=source)
    assert certificate.holds
    assert certificate.max_logit > 5
    assert source["files"][0]["sha256"].startswith("12fca82f")


@pytest.fixture(scope="module")
def akamaster(shared):
    torch = pytest.importorskip("torch")
    path = _weights_file(shared, AKAMASTER)
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("module."): value for name, value in state.items()}


def _pytorch_resnet20(state, x):
    """The net of the akamaster implementation: images (batch, 3, 32, 32) to logits."""
    from torch.nn import functional

    def norm(x, name):
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(
            x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5
        )

    def conv(x, name, stride=1):
        return functional.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)

    x = norm(conv(x, "conv1"), "bn1").relu()
    for stage, planes in ((1, 16), (2, 32), (3, 64)):
        for index in range(3):
            name = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            y = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1").relu()
            y = norm(conv(y, f"{name}.conv2"), f"{name}.bn2")
            if stride == 2:
                added = planes // 4
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, added, added))
            x = (x + y).relu()
    return functional.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])


@pytest.mark.torch
@pytest.mark.parametrize("images", ["random", "cifar10"])
def test_akamaster_resnet20_has_pytorchs_logits(request, akamaster, resnet20, images):
    import torch

    if images == "random":
        pixels = np.random.default_rng(8).integers(0, 256, (16, 32, 32, 3)).astype("uint8")
    else:
        pixels = request.getfixturevalue("cifar10_sample")[0][:BATCH]
    x = resnet20.preprocess.normalize(pixels)
    with torch.no_grad():
        wanted = _pytorch_resnet20(akamaster, torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    assert wanted.std() > 1
    logits = resnet20.predict(x, batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
