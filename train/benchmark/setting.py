"""How large a benchmark is, what its comparisons share, and what a comparison is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_resnet import get_spec

from .job import Job
from .turns import Contender

OURS, APPLICATIONS = "keras_resnet", "keras.applications"
# Peers by the names that `--peers` takes.
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
class Scale:
    """How large the comparisons are.

    Attributes:
        cifar: CIFAR nets that are trained.
        cifar_batch: Images a step of theirs.
        imagenet_size: Height and width for ResNet-50, pixels.
        imagenet_batch: Images a training step of ResNet-50.
        inference: Batches of inference, with the calls a turn.
        steps: Training steps a turn: of the CIFAR nets, and of ResNet-50.
        batches: Batches a turn of the input pipelines: from memory, and from files.
        product: Rows and columns of the matrices whose product is the machine's peak.
    """

    cifar: tuple[str, ...] = ("cifar_resnet20", "cifar_resnet56")
    cifar_batch: int = 128
    imagenet_size: int = 224
    imagenet_batch: int = 16
    inference: tuple[tuple[int, int], ...] = ((1, 20), (32, 2))
    steps: tuple[int, int] = (10, 2)
    batches: tuple[int, int] = (200, 40)
    product: int = 2048


FULL = Scale()
QUICK = Scale(("cifar_resnet8",), 8, 64, 2, ((1, 2),), (2, 1), (20, 20), 512)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Contenders that take turns at the same work.

    Attributes:
        section: `train`, `inference`, `pipeline`, `start` or `checkpoint`.
        title: The work.
        contenders: In the order of their turns.
        units: Units of work a turn.
        parts: Parts of a turn that are told, with what they are; `""` is the whole.
        rate: Whether images a second are told rather than seconds.
        passes: Forward passes that an image costs: 1, and 3 in training.
    """

    section: str
    title: str
    contenders: tuple[Contender, ...]
    units: int
    parts: Mapping[str, str]
    rate: bool = True
    passes: int = 1


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all comparisons of one run share.

    Attributes:
        scale: How large they are.
        threads: That each library may compute on.
        folder: For the files that contenders read and write.
        peers: Names of `PEERS` that take part.
        gpus: GPUs that TensorFlow sees.
    """

    scale: Scale
    threads: int
    folder: str
    peers: tuple[str, ...] = tuple(PEERS)
    gpus: int = 0

    def job(self, net: str, size: int, batch: int, classes: int) -> Job:
        """Returns the work with a net."""
        spec = get_spec(net)
        cifar = spec.stem == "cifar"
        return Job(net, spec.depths, cifar, size, batch, classes, self.threads, self.folder)

    def imagenet(self, batch: int) -> Job:
        """Returns the work with ResNet-50."""
        return self.job("resnet50", self.scale.imagenet_size, batch, 1000)
