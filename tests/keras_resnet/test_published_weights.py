"""Weights that others trained, on the images they were trained for: accuracy and logits.

The data and the weights lie beside the project, in ../shared/data; without them this is skipped.
"""

from __future__ import annotations

import pathlib

import h5py
import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, build

BATCH = 339  # three equal batches of 1,017


def _accurate(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> int:
    logits = model.predict(images, batch_size=BATCH, verbose=0)
    return int((logits.argmax(1) == labels).sum())


def _weights_file(shared: pathlib.Path, name: str) -> pathlib.Path:
    path = shared / "weights" / name
    if not path.is_file():
        pytest.skip(f"no {name} under {path.parent}")
    return path


# Layers of MLPerf Tiny's ResNet-8 in its own order: `conv2d_5` and `conv2d_8` are projections.
RESNET8 = {
    "conv2d": "stem_conv",
    "batch_normalization": "stem_norm",
    "conv2d_1": "stage1_unit1_conv1",
    "batch_normalization_1": "stage1_unit1_norm1",
    "conv2d_2": "stage1_unit1_conv2",
    "batch_normalization_2": "stage1_unit1_norm2",
    "conv2d_3": "stage2_unit1_conv1",
    "batch_normalization_3": "stage2_unit1_norm1",
    "conv2d_4": "stage2_unit1_conv2",
    "conv2d_5": "stage2_unit1_shortcut_conv",
    "batch_normalization_4": "stage2_unit1_norm2",
    "conv2d_6": "stage3_unit1_conv1",
    "batch_normalization_5": "stage3_unit1_norm1",
    "conv2d_7": "stage3_unit1_conv2",
    "conv2d_8": "stage3_unit1_shortcut_conv",
    "batch_normalization_6": "stage3_unit1_norm2",
    "dense": "logits",
}


def test_mlperf_tiny_resnet8(shared, cifar10_sample):
    """88.0 % of 1,017 images: 895. Raw pixels, "same" padding, norm eps 1e-3."""
    model = build("mlperf_tiny_resnet8")
    assert sorted(RESNET8.values()) == sorted(x.name for x in model.layers if x.weights)
    with h5py.File(_weights_file(shared, "mlperf_tiny_resnet8.h5")) as file:
        groups = file["model_weights"] if "model_weights" in file else file
        for theirs, ours in RESNET8.items():
            group = groups[theirs]
            values = [np.asarray(group[name]) for name in group.attrs["weight_names"]]
            model.get_layer(ours).set_weights(values)
    images, labels = cifar10_sample
    assert len(labels) == 1017
    assert _accurate(model, images.astype("float32"), labels) == pytest.approx(895, abs=1)


@pytest.fixture(scope="module")
def akamaster(shared):
    torch = pytest.importorskip("torch")
    path = _weights_file(shared, "resnet20-12fca82f.th")
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


def _load_akamaster(model: keras.Model, state) -> None:
    names = {"conv1": "stem_conv", "bn1": "stem_norm"}
    for stage in (1, 2, 3):
        for unit in (1, 2, 3):
            for number in (1, 2):
                theirs, ours = f"layer{stage}.{unit - 1}", f"stage{stage}_unit{unit}"
                names[f"{theirs}.conv{number}"] = f"{ours}_conv{number}"
                names[f"{theirs}.bn{number}"] = f"{ours}_norm{number}"
    for theirs, ours in names.items():
        if "conv" in theirs:
            values = [state[f"{theirs}.weight"].permute(2, 3, 1, 0)]
        else:
            ends = ("weight", "bias", "running_mean", "running_var")
            values = [state[f"{theirs}.{end}"] for end in ends]
        model.get_layer(ours).set_weights([value.numpy() for value in values])
    head = [state["linear.weight"].T.numpy(), state["linear.bias"].numpy()]
    model.get_layer("logits").set_weights(head)


AKAMASTER_PIXELS = PreprocessSpec(
    (32, 32),
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)


@pytest.mark.torch
def test_akamaster_resnet20_has_pytorchs_logits(akamaster):
    import torch

    model = build("cifar_resnet20")
    _load_akamaster(model, akamaster)
    pixels = np.random.default_rng(8).integers(0, 256, (16, 32, 32, 3)).astype("uint8")
    x = AKAMASTER_PIXELS.normalize(pixels)
    with torch.no_grad():
        wanted = _pytorch_resnet20(akamaster, torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    assert wanted.std() > 1
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, atol=1e-4)


@pytest.mark.torch
def test_akamaster_resnet20_classifies_932_of_1017(akamaster, cifar10_sample):
    import torch

    model = build("cifar_resnet20")
    _load_akamaster(model, akamaster)
    images, labels = cifar10_sample
    x = AKAMASTER_PIXELS.normalize(images)
    assert _accurate(model, x, labels) == 932
    with torch.no_grad():
        wanted = _pytorch_resnet20(akamaster, torch.tensor(x[:BATCH]).permute(0, 3, 1, 2)).numpy()
    logits = model.predict(x[:BATCH], batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
