"""Right files pass whatever the size of their logits; files that were broken on purpose do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import Limits, Reference, export_tflite, verify
from keras_resnet.export.comparison import (
    changed_margins,
    exceeds_by_more_than_chance,
    loses_by_more_than_chance,
    signal_to_noise,
    spread_of,
)
from keras_resnet.reparam import deploy

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=5, input_size=8)
RGB = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))
KERNEL = "stage1_unit1_conv2"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype="uint8")


@pytest.fixture(scope="module")
def model():
    model = keras_resnet.build(SPEC, seed=3)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.weights[0].shape
            layer.set_weights([rng.uniform(0.5, 1.5, size) for _ in layer.weights])
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel * 2000, bias])  # as fresh ResNet-50: thousands
    return model


@pytest.fixture(scope="module")
def reference(model, images):
    return Reference.of(model, images, None, RGB)


@pytest.fixture(scope="module", params=["float32", "float16"])
def good(request, model, tmp_path_factory):
    """A right file of each precision."""
    path = tmp_path_factory.mktemp("good") / f"{request.param}.tflite"
    export_tflite(deploy(model), path, precision=request.param, preprocess=RGB)
    return path


def check(path, reference):
    verification = verify(path, reference, precision=path.stem.split("-")[0])
    return verification, [failure.field for failure in Limits().failures(verification)]


def constants(content: bytearray) -> Iterator[np.ndarray]:
    """Yields the constants of a float file, as views that can be written."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.FLOAT16: "<f2"}
    model = schema.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if tensor.Type() in kinds and buffer.DataLength():
            yield buffer.DataAsNumpy().view(kinds[tensor.Type()]).reshape(tensor.ShapeAsNumpy())


def find(content: bytearray, value: np.ndarray) -> np.ndarray:
    """Returns the constant with these values."""
    (found,) = (
        view
        for view in constants(content)
        if view.shape == value.shape and np.allclose(view, value, rtol=1e-2, atol=1e-3)
    )
    return found


def kernel_of(model, name):
    """Returns a kernel as a file holds it: output channels first."""
    return np.moveaxis(model.get_layer(name).get_weights()[0], -1, 0)


def wrong_mean(content, model):
    views = [v for v in constants(content) if v.size == 3]
    (mean,) = (v for v in views if np.allclose(np.abs(v.ravel()), RGB.mean, rtol=1e-3))
    mean += np.sign(mean)  # one of 255 values


def swapped_channels(content, model):
    stem = find(content, kernel_of(deploy(model), "stem_conv"))
    stem[:] = stem[..., ::-1].copy()


def unfolded_norm(content, model):
    find(content, kernel_of(deploy(model), KERNEL))[:] = kernel_of(model, KERNEL)


def one_percent(content, model):
    kernel = find(content, kernel_of(deploy(model), KERNEL))
    kernel *= kernel.dtype.type(1.01)


def one_percent_of_the_values(content, model):
    kernel = find(content, kernel_of(deploy(model), KERNEL)).reshape(-1)
    kernel[:: kernel.size // max(1, kernel.size // 100)] = 0


FAULTS = [wrong_mean, swapped_channels, unfolded_norm, one_percent, one_percent_of_the_values]


def test_a_right_file_with_logits_in_the_thousands_passes(good, reference):
    verification, failed = check(good, reference)
    assert verification.max_logit > 1000
    assert verification.max_difference > 1e-4  # what an absolute limit refused
    assert failed == []
    assert verification.relative_difference < 5e-3
    if "16" in good.name:
        assert verification.conversion_difference < 1e-5


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_fails(good, model, reference, tmp_path, fault: Callable[..., None]):
    content = bytearray(good.read_bytes())
    fault(content, model)
    assert bytes(content) != good.read_bytes()
    path = tmp_path / f"{good.stem}-broken.tflite"
    path.write_bytes(content)
    verification, failed = check(path, reference)
    assert "float32_difference" in failed
    limit = Limits().float32_difference
    found = verification.conversion_difference or verification.relative_difference
    assert found > 3 * limit


def test_a_stale_file_fails(good, model, reference):
    """The net was trained one small step further since the file was written."""
    later = keras.models.clone_model(model)
    later.set_weights([value * 1.001 for value in model.get_weights()])
    newer = Reference.of(later, reference.images, None, RGB)
    assert "float32_difference" in check(good, newer)[1]


def test_a_tie_passes_and_a_margin_does_not(good, reference):
    """Two logits closer than the permitted difference are a tie, whichever comes out."""
    logits = reference.logits.copy()
    first, second = np.argsort(logits[0])[[-1, -2]]
    logits[0, second] = logits[0, first] * (1 + 1e-7)
    spread = spread_of(logits)
    tied = dataclasses.replace(reference, logits=logits, model=None)
    verification, _ = check(good, tied)
    assert verification.agreement == 1 - 1 / 40
    near = dataclasses.replace(verification, precision="float32", relative_difference=1e-6)
    assert Limits().failures(near) == []
    far = dataclasses.replace(near, changed_margins=(3e-4,))
    (failure,) = Limits().failures(far)
    assert (failure.check, failure.value) == ("margin of a changed class", 3e-4)
    assert spread > 0


def test_the_unit_of_differences():
    logits = np.array([[3.0, 1.0], [1.0, 3.0]])
    assert spread_of(logits) == 1.0
    assert spread_of(logits + 1000) == pytest.approx(1003 / 16)  # float32 rounds a large offset
    assert spread_of(np.array([[1.0], [3.0]])) == 1.0  # one output: over the images
    assert signal_to_noise(logits + 0.1, logits) == pytest.approx(20.0)
    other = np.array([[3.0, 1.0], [3.1, 3.0]])
    assert changed_margins(other, logits) == pytest.approx([2.0])


def test_few_images():
    # A limit of 99 %: 1 of 50 may be chance, 4 are not; of 10,000 images 1.3 % are not.
    assert not exceeds_by_more_than_chance(1, 50, 0.01)
    assert exceeds_by_more_than_chance(4, 50, 0.01)
    assert not exceeds_by_more_than_chance(100, 10_000, 0.01)
    assert exceeds_by_more_than_chance(130, 10_000, 0.01)
    # Only one side is right: 2 and 0 may be chance, 5 and 0 are not, nor are 25 and 7.
    assert not loses_by_more_than_chance(2, 0)
    assert loses_by_more_than_chance(5, 0)
    assert loses_by_more_than_chance(25, 7)
    assert not loses_by_more_than_chance(7, 7)


@pytest.mark.parametrize("count", [1, 200])
def test_published_resnet8(shared, cifar10_sample, tmp_path, count):
    """MLPerf's net: float16 passes without an option, int8 of one calibration image does not."""
    path = shared / "weights" / "mlperf_tiny_resnet8.h5"
    if not path.is_file():
        pytest.skip(f"no {path}")
    images, labels = cifar10_sample
    net = keras_resnet.from_pretrained(path)
    precision = "int8" if count == 1 else "float16"
    file = tmp_path / f"{precision}.tflite"
    export_tflite(
        deploy(net),
        file,
        precision=precision,
        preprocess=net.preprocess,
        calibration=images[:count].astype("uint8"),
    )
    reference = Reference.of(net, images[:200].astype("uint8"), labels[:200], net.preprocess)
    verification, failed = check(file, reference)
    assert verification.accuracy > 0.8  # so accuracy alone accepts both
    assert failed == (["int8_signal_to_noise"] if precision == "int8" else [])
