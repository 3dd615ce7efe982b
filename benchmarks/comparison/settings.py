"""Sizes of a benchmark, the settings that its comparisons share, and one comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_resnet import get_spec

from .rounds import Contender
from .workload import Workload

OURS, APPLICATIONS = "keras_resnet", "keras.applications"
# Peers by their names on the command line.
PEERS: Mapping[str, str] = {
    "keras-io": "keras.io example",
    "applications": APPLICATIONS,
    "keras": "Keras",
    "keras-hub": "KerasHub",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the comparisons.

    Attributes:
        cifar: CIFAR nets that are trained.
        cifar_batch: Images per training step of the CIFAR nets.
        imagenet_size: Height and width of the images for ResNet-50, pixels.
        imagenet_batch: Images per training step of ResNet-50.
        inference: Batch sizes of inference, each with the calls per round.
        steps: Training steps per round: of the CIFAR nets and of ResNet-50.
        batches: Batches per round of the input pipelines: from memory and from files.
        product: Rows and columns of the matrices whose product gives the machine's peak.
    """

    cifar: tuple[str, ...] = ("cifar_resnet20", "cifar_resnet56")
    cifar_batch: int = 128
    imagenet_size: int = 224
    imagenet_batch: int = 16
    inference: tuple[tuple[int, int], ...] = ((1, 20), (32, 2))
    steps: tuple[int, int] = (10, 2)
    batches: tuple[int, int] = (200, 40)
    product: int = 2048


FULL = Sizes()
QUICK = Sizes(("cifar_resnet8",), 8, 64, 2, ((1, 2),), (2, 1), (20, 20), 512)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Contenders at the same work.

    Attributes:
        section: Name of its section, such as `train`.
        title: Name of the work.
        contenders: In the order of measurement.
        units: Units of work per round.
        parts: Parts of a measurement that are reported, with their names; `""` is the whole.
        throughput: Whether images/s are reported rather than seconds.
        passes: Cost of an image in forward passes: 1, and 3 in training.
        baseline: Whether ratios are to the first contender rather than to the best peer.
    """

    section: str
    title: str
    contenders: tuple[Contender, ...]
    units: int
    parts: Mapping[str, str]
    throughput: bool = True
    passes: int = 1
    baseline: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that all comparisons of one run share.

    Attributes:
        sizes: Sizes of the comparisons.
        threads: Threads that each library may use.
        folder: Directory for the files that contenders read and write.
        peers: Names of `PEERS` that take part.
        gpus: Number of GPUs that TensorFlow sees.
    """

    sizes: Sizes
    threads: int
    folder: str
    peers: tuple[str, ...] = tuple(PEERS)
    gpus: int = 0

    def workload(self, net: str, size: int, batch: int, classes: int) -> Workload:
        """Returns the work with a net."""
        spec = get_spec(net)
        cifar = spec.stem == "cifar"
        return Workload(net, spec.depths, cifar, size, batch, classes, self.threads, self.folder)

    def cifar(self, net: str, batch: int) -> Workload:
        """Returns the work with a CIFAR net."""
        return self.workload(net, 32, batch, 10)

    def imagenet(self, batch: int) -> Workload:
        """Returns the work with ResNet-50."""
        return self.workload("resnet50", self.sizes.imagenet_size, batch, 1000)
