"""PyTorch, channels_last: training, inference, input pipeline and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .keras_common import time_batches, time_save_and_load
from .workload import PhaseTimer, Runner, Workload, random_batch, repeat


def train(workload: Workload, timer: PhaseTimer) -> Runner:
    """Eager training: SGD with momentum 0.9 and PyTorch's weight decay, which is L2."""
    with timer("import"):
        import torch
    torch.set_num_threads(workload.threads)
    with timer("build"):
        model = _build_net(workload).train()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
        loss_of = torch.nn.CrossEntropyLoss()
    images, labels = _batch(workload)
    device = _device()
    precisions = {"mixed_float16": torch.float16, "mixed_bfloat16": torch.bfloat16}
    mixed = precisions.get(workload.precision)
    scaler = torch.amp.GradScaler(device, enabled=mixed is torch.float16)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, mixed, enabled=mixed is not None):
            loss = loss_of(model(images.to(device)), labels.to(device))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def run(steps: int) -> None:
        for _ in range(steps):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    with timer("first step"):
        run(1)
    return Runner(run)


def infer(workload: Workload, timer: PhaseTimer) -> Runner:
    """Inference. Modes: `eager`, or `compiled` by TorchInductor."""
    with timer("import"):
        import torch
    torch.set_num_threads(workload.threads)
    with timer("build"):
        model = _build_net(workload).eval()
    device = _device()
    images, _ = _batch(workload)
    net: Any = torch.compile(model) if workload.mode == "compiled" else model

    @torch.inference_mode()
    def call() -> None:
        net(images.to(device)).cpu().numpy()

    return Runner(repeat(call))


def export_onnx(workload: Workload, path: Path) -> None:
    """Writes the net as an ONNX file, channels first, by the exporter without dependencies."""
    import torch

    torch.onnx.export(
        _build_net(workload).cpu().eval(),
        (torch.zeros(1, 3, workload.size, workload.size),),
        path,
        dynamo=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
    )


def pipeline(workload: Workload, timer: PhaseTimer) -> Runner:
    """A `DataLoader` over a data set of single examples, with a worker per thread.

    Mode `memory`: pad, crop and mirror in NumPy; `jpeg`: Inception's crops by Pillow.
    """
    with timer("import"):
        import torch

        from .images import jpeg_files, pixels
        from .torch_data import jpeg_examples, memory_examples
    if workload.mode == "memory":
        data = memory_examples(*pixels(workload))
    else:
        data = jpeg_examples(*jpeg_files(workload), workload.size)
    loader = torch.utils.data.DataLoader(
        data,
        workload.batch,
        shuffle=True,
        num_workers=workload.threads,
        drop_last=True,
        persistent_workers=True,
    )

    class Endless:
        """Batches, epoch after epoch."""

        def __iter__(self) -> Iterator[Any]:
            while True:
                yield from loader

    return Runner(time_batches(Endless(), workload))


def augmented(workload: Workload, timer: PhaseTimer) -> Runner:
    """JPEG files by Pillow, torchvision's crop and flip, one transform of v2, and normalisation.

    The data is loaded in this process, whose processor time is measured.
    """
    with timer("import"):
        import torch
        from torchvision.transforms import v2

        from .images import MEAN, STD, jpeg_files
        from .torch_data import Pictures
    name, size = workload.augment["transform"], workload.size
    options = {"ColorJitter": dict.fromkeys(("brightness", "contrast", "saturation"), 0.4)}
    mixes, erases = name in ("MixUp", "CutMix"), name == "RandomErasing"
    chosen: Any = None
    if mixes:
        chosen = getattr(v2, name)(alpha=1.0, num_classes=workload.classes)
    elif name:
        chosen = getattr(v2, name)(**options.get(name, {}))
    steps: list[Any] = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    if chosen is not None and not erases and not mixes:
        steps.append(chosen)
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32), v2.Normalize(MEAN, STD)]
    steps += [chosen] if erases else []
    torch.set_num_threads(workload.threads)
    loader = torch.utils.data.DataLoader(
        Pictures(*jpeg_files(workload), v2.Compose(steps)),
        workload.batch,
        shuffle=True,
        drop_last=True,
    )

    class Endless:
        """Batches, epoch after epoch."""

        def __iter__(self) -> Iterator[Any]:
            while True:
                for images, labels in loader:
                    yield chosen(images, labels) if mixes else (images, labels)

    return Runner(time_batches(Endless(), workload))


def checkpoint(workload: Workload, timer: PhaseTimer) -> Runner:
    """`torch.save` and `torch.load` of the states of model and optimizer."""
    with timer("import"):
        import torch
    model = _build_net(workload)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    images, labels = _batch(workload)
    torch.nn.functional.cross_entropy(model(images.to(_device())), labels.to(_device())).backward()
    optimizer.step()  # makes the momentum
    path = f"{workload.folder}/torch.pt"

    def load() -> None:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, path)

    return Runner(time_save_and_load(save, load))


def _build_net(workload: Workload) -> Any:
    import torch

    from .torch_nets import TorchResNet

    torch.manual_seed(0)
    # torch's types have no `to` with a memory format.
    net: Any = TorchResNet(workload.depths, workload.classes, cifar=workload.cifar)
    return net.to(_device(), memory_format=torch.channels_last)


def _batch(workload: Workload) -> tuple[Any, Any]:
    import torch

    images, labels = random_batch(workload)
    # NumPy's (batch, height, width, channels) is channels_last after permuting, without a copy.
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
