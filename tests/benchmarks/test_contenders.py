"""Contenders in this process: they run, and the peers' nets are ours."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from benchmarks.comparison import files, keras_peers, ours, runtimes
from benchmarks.comparison.workload import PhaseTimer, Workload
from keras_resnet import get_spec
from keras_resnet.analysis import count, count_spec


def workload(
    folder: pathlib.Path | str = "", net: str = "cifar_resnet8", **changes: Any
) -> Workload:
    spec = get_spec(net)
    base = {
        "depths": spec.depths,
        "size": 8,
        "batch": 2,
        "classes": 10,
        "threads": 1,
        "folder": str(folder),
    }
    return Workload(net, cifar=spec.stem == "cifar", **{**base, **changes})


@pytest.mark.parametrize(
    ("factory", "changes"),
    [
        (
            ours.train,
            {"mode": "stacked", "net": "cifar_resnet14", "runtime": {"steps_per_call": 1}},
        ),
        (keras_peers.train_keras_io, {"depths": (1,)}),
    ],
)
def test_training(factory: Any, changes: dict[str, Any]) -> None:
    timer = PhaseTimer()
    runner = factory(workload(**changes), timer)
    assert timer.seconds.keys() == {"import", "build", "first step"}
    assert timer.memory > 0
    seconds = runner.run(2)
    assert seconds is None or 0 < seconds[""] < 60


@pytest.mark.parametrize("mode", ["eager", "predict", "function, folded"])
def test_inference(mode: str) -> None:
    assert ours.infer(workload(mode=mode), PhaseTimer()).run(2) is None


def test_checkpoint(tmp_path: pathlib.Path) -> None:
    seconds = ours.checkpoint(workload(tmp_path), PhaseTimer()).run(1)
    assert seconds is not None
    assert seconds.keys() == {"save", "load"}
    assert (tmp_path / "ours/step_00000001/state.json").is_file()


def test_pipelines_of_jpeg_files(tmp_path: pathlib.Path) -> None:
    work = workload(tmp_path, mode=files.JPEG, classes=2)
    files.write(work, PhaseTimer())
    assert len(list(tmp_path.glob("jpeg/?/*.jpg"))) == 32
    for factory in (ours.pipeline, keras_peers.pipeline):
        seconds = factory(work, PhaseTimer()).run(2)
        assert seconds is not None
        assert seconds[""] > 0


def test_exported_net(tmp_path: pathlib.Path) -> None:
    work = workload(tmp_path, mode=files.TFLITE_INT8, precision="int8")
    files.write(work, PhaseTimer())
    assert runtimes.litert(work, PhaseTimer()).run(2) is None


def test_matrix_product() -> None:
    seconds = runtimes.matmul(workload(size=64), PhaseTimer()).run(2)
    assert seconds is not None
    assert 0 < seconds[""] < 1


def test_keras_io_net_is_the_one_of_the_example() -> None:
    """The example's documentation gives 0.27 million parameters for ResNet-20 v1."""
    model = keras_peers.keras_io_net(workload(net="cifar_resnet20", size=32))
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert len(convolutions) == 19 + 2  # two projections
    assert len(model.losses) == 21
    assert model.count_params() == 274_442


@pytest.mark.usefixtures("undrawn")
def test_peers_have_our_net() -> None:
    work = workload(net="resnet50", size=64, classes=1000)
    applications = keras_peers.applications_net(work)
    spec = count_spec("resnet50", input_shape=(64, 64, 3))
    assert count(applications).multiply_adds == spec.multiply_adds
    pytest.importorskip("keras_hub", reason="KerasHub's net needs it")
    hub = count(keras_peers.hub_net(work))
    assert hub.parameters == spec.parameters
    v1_5 = count_spec("resnet50_v1_5", input_shape=(64, 64, 3))
    assert hub.multiply_adds == v1_5.multiply_adds


@pytest.mark.torch
@pytest.mark.parametrize("net", ["cifar_resnet20", "resnet50"])
def test_torch_nets_have_our_parameters(net: str) -> None:
    import torch

    from benchmarks.comparison.torch_nets import TorchResNet

    work = workload(net=net)
    module = TorchResNet(work.depths, 10, cifar=work.cifar)
    spec = count_spec(net, classes=10, input_shape=(32, 32, 3))
    assert sum(weight.numel() for weight in module.parameters()) == spec.parameters
    assert module(torch.zeros((2, 3, 32, 32))).shape == (2, 10)


@pytest.mark.torch
def test_torch_contenders(tmp_path: pathlib.Path) -> None:
    from benchmarks.comparison import torch_peers

    for factory, mode in ((torch_peers.train, ""), (torch_peers.infer, "eager")):
        assert factory(workload(mode=mode), PhaseTimer()).run(1) is None
    seconds = torch_peers.checkpoint(workload(tmp_path), PhaseTimer()).run(1)
    assert seconds is not None
    assert seconds.keys() == {"save", "load"}


@pytest.mark.torch
def test_torch_examples(tmp_path: pathlib.Path) -> None:
    from benchmarks.comparison.images import jpeg_files, pixels
    from benchmarks.comparison.torch_data import jpeg_examples, memory_examples

    work = workload(tmp_path, mode="jpeg", classes=2)
    files.write(work, PhaseTimer())
    for examples in (memory_examples(*pixels(work)), jpeg_examples(*jpeg_files(work), 8)):
        image, label = examples[1]
        assert (image.shape, image.dtype, label in (0, 1)) == ((3, 8, 8), np.float32, True)
