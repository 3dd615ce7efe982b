"""PyTorch, channels_last: training, inference, input pipeline and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .job import Clock, Job, Ready, batch_of
from .keras_runs import save_and_load, steady


def train(job: Job, clock: Clock) -> Ready:
    """Eager training: SGD with momentum 0.9 and PyTorch's weight decay, which is L2."""
    with clock("import"):
        import torch
    torch.set_num_threads(job.threads)
    with clock("build"):
        model = _net(job).train()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
        loss_of = torch.nn.CrossEntropyLoss()
    images, labels = _batch(job)
    device = _device()
    mixed = {"mixed_float16": torch.float16, "mixed_bfloat16": torch.bfloat16}.get(job.precision)
    scaler = torch.amp.GradScaler(device, enabled=mixed is torch.float16)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, mixed, enabled=mixed is not None):
            loss = loss_of(model(images.to(device)), labels.to(device))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def turn(count: int) -> None:
        for _ in range(count):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    with clock("first step"):
        turn(1)
    return Ready(turn)


def infer(job: Job, clock: Clock) -> Ready:
    """Inference. Routes: `eager`, or `compiled` by TorchInductor."""
    with clock("import"):
        import torch
    torch.set_num_threads(job.threads)
    with clock("build"):
        model = _net(job).eval()
    device = _device()
    images, _ = _batch(job)
    run: Any = torch.compile(model) if job.route == "compiled" else model

    def turn(count: int) -> None:
        with torch.inference_mode():
            for _ in range(count):
                run(images.to(device)).cpu().numpy()

    return Ready(turn)


def export_onnx(job: Job, path: Path) -> None:
    """Writes the net as an ONNX file, channels first, by the exporter that needs no more."""
    import torch

    torch.onnx.export(
        _net(job).cpu().eval(),
        (torch.zeros(1, 3, job.size, job.size),),
        path,
        dynamo=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
    )


def pipeline(job: Job, clock: Clock) -> Ready:
    """A `DataLoader` over a data set of single examples, a worker for each thread.

    Route `memory`: pad, crop and mirror in NumPy; `jpeg`: Inception's crops by Pillow.
    """
    with clock("import"):
        import torch

        from .images import MEAN, STD, jpeg_files, pixels
        from .torch_data import JpegExamples, MemoryExamples
    if job.route == "memory":
        data: Any = MemoryExamples(*pixels(job), MEAN, STD)
    else:
        data = JpegExamples(*jpeg_files(job), job.size, MEAN, STD)
    loader = torch.utils.data.DataLoader(
        data,
        job.batch,
        shuffle=True,
        num_workers=job.threads,
        drop_last=True,
        persistent_workers=True,
    )

    class Endless:
        """Epoch after epoch."""

        def __iter__(self) -> Any:
            while True:
                yield from loader

    return Ready(steady(Endless()))


def checkpoint(job: Job, clock: Clock) -> Ready:
    """`torch.save` and `torch.load` of the states of model and optimizer."""
    with clock("import"):
        import torch
    model = _net(job)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    images, labels = _batch(job)
    torch.nn.functional.cross_entropy(model(images.to(_device())), labels.to(_device())).backward()
    optimizer.step()  # makes the momentum
    path = f"{job.folder}/torch.pt"

    def load() -> None:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, path)

    return Ready(save_and_load(save, load))


def _net(job: Job) -> Any:
    import torch

    from .torch_nets import TorchResNet

    torch.manual_seed(0)
    net: Any = TorchResNet(job.depths, job.classes, cifar=job.cifar)  # torch types no such `to`
    return net.to(_device(), memory_format=torch.channels_last)


def _batch(job: Job) -> tuple[Any, Any]:
    import torch

    images, labels = batch_of(job)
    # What was (batch, height, width, channels) in memory is channels_last as it lies.
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
