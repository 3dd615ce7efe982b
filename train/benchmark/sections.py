"""What is compared: the comparisons of each section, and who takes part in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from . import files
from .job import Job
from .setting import APPLICATIONS, OURS, PEERS, Comparison, Setting
from .turns import Contender

_NEEDS = {
    "KerasHub": ("keras_hub",),
    "PyTorch": ("torch",),
    "runtimes:onnx_runtime": ("onnxruntime",),
    "runtimes:openvino": ("openvino",),
}


def _entry(library: str, way: str, factory: str, job: Job) -> Contender:
    needs = (*_NEEDS.get(library, ()), *_NEEDS.get(factory, ()), *files.NEEDS.get(job.route, ()))
    return Contender(library, way, f"{__package__}.{factory}", job, tuple(dict.fromkeys(needs)))


def comparisons(section: str, setting: Setting) -> list[Comparison]:
    """Returns the comparisons of a section, without the peers that are not wanted."""
    wanted = {OURS, *(PEERS[name] for name in setting.peers)}
    return [
        replace(
            comparison,
            contenders=tuple(c for c in comparison.contenders if c.library in wanted),
        )
        for comparison in SECTIONS[section](setting)
    ]


def files_needed(section: Sequence[Comparison]) -> list[str]:
    """Returns the names of the files that contenders of these comparisons read."""
    routes = {c.job.route for comparison in section for c in comparison.contenders}
    return sorted(routes & set(files.FILES))


def _train(setting: Setting) -> list[Comparison]:
    scale = setting.scale
    found = []
    for net in scale.cifar:
        job = setting.job(net, 32, scale.cifar_batch, 10)
        peers = [
            _entry("keras.io example", "fit", "keras_peers:train_keras_io", job),
            _entry("PyTorch", "channels_last", "torch_peers:train", job),
        ]
        found.append(_training(setting, job, peers, scale.steps[0]))
    job = setting.imagenet(scale.imagenet_batch)
    peers = [
        _entry(APPLICATIONS, "fit", "keras_peers:train_applications", job),
        _entry("KerasHub", "fit", "keras_peers:train_hub", job),
        _entry("PyTorch", "channels_last", "torch_peers:train", job),
    ]
    return [*found, _training(setting, job, peers, scale.steps[1])]


def _training(setting: Setting, job: Job, peers: Sequence[Contender], steps: int) -> Comparison:
    contenders = [
        _entry(OURS, "training loop", "ours:train", job),
        _entry(OURS, "stacked", "ours:train", replace(job, route="stacked")),
        _entry(OURS, "fit", "ours:fit", job),
        *peers,
    ]
    if setting.gpus:
        for precision in ("mixed_bfloat16", "mixed_float16"):
            contenders += [
                replace(c, way=f"{c.way}, {precision}", job=replace(c.job, precision=precision))
                for c in (contenders[0], *peers)
            ]
        contenders += [
            _entry(
                OURS,
                f"training loop XLA, {precision}",
                "ours:train",
                replace(job, precision=precision, xla=True),
            )
            for precision in ("float32", "mixed_bfloat16")
        ]
    title = f"training, {job.net}, {job.size} px, batch {job.batch}"
    return Comparison("train", title, tuple(contenders), steps, {"": title}, passes=3)


def _inference(setting: Setting) -> list[Comparison]:
    return [_inferring(setting, batch, calls) for batch, calls in setting.scale.inference]


def _inferring(setting: Setting, batch: int, calls: int) -> Comparison:
    job = setting.imagenet(batch)
    theirs = "keras_peers:infer_applications"
    entries = [
        (OURS, "eager call", "ours:infer", "eager"),
        (OURS, "predict_on_batch", "ours:infer", "predict"),
        (OURS, "tf.function", "ours:infer", "function"),
        (OURS, "tf.function, folded", "ours:infer", "function, folded"),
        (OURS, "SavedModel", "runtimes:saved_model", files.SAVED_MODEL),
        (OURS, "LiteRT", "runtimes:litert", files.TFLITE),
        (OURS, "ONNX Runtime", "runtimes:onnx_runtime", files.ONNX),
        (OURS, "OpenVINO", "runtimes:openvino", files.ONNX),
        (OURS, "LiteRT int8", "runtimes:litert", files.TFLITE_INT8),
        (APPLICATIONS, "eager call", theirs, "eager"),
        (APPLICATIONS, "predict_on_batch", theirs, "predict"),
        (APPLICATIONS, "tf.function", theirs, "function"),
        (APPLICATIONS, "LiteRT", "runtimes:litert", files.APPLICATIONS_TFLITE),
        (APPLICATIONS, "LiteRT int8", "runtimes:litert", files.APPLICATIONS_TFLITE_INT8),
        ("KerasHub", "tf.function", "keras_peers:infer_hub", "function"),
        ("PyTorch", "channels_last", "torch_peers:infer", "eager"),
        ("PyTorch", "channels_last, compiled", "torch_peers:infer", "compiled"),
    ]
    # What these runtimes make of other people's nets, as their own exporters write them.
    for library, factory in (
        ("ONNX Runtime", "runtimes:onnx_runtime"),
        ("OpenVINO", "runtimes:openvino"),
    ):
        entries += [
            (library, APPLICATIONS, factory, files.APPLICATIONS_ONNX),
            (library, "PyTorch", factory, files.TORCH_ONNX),
            (library, f"{APPLICATIONS} int8", factory, files.APPLICATIONS_ONNX_INT8),
        ]
    contenders = [
        _entry(library, way, factory, replace(job, route=route, precision=_precision(route)))
        for library, way, factory, route in entries
    ]
    if setting.gpus:
        contenders += [
            _entry(
                library,
                f"tf.function{' XLA' if xla else ''}, {precision}",
                factory,
                replace(job, route="function", precision=precision, xla=xla),
            )
            for library, factory in ((OURS, "ours:infer"), (APPLICATIONS, theirs))
            for precision, xla in (
                ("mixed_float16", False),
                ("mixed_float16", True),
                ("float32", True),
            )
        ]
    title = f"inference, {job.net}, {job.size} px, batch {batch}"
    return Comparison("inference", title, tuple(contenders), calls, {"": title})


def _precision(route: str) -> str:
    return "int8" if "int8" in route else "float32"


def _pipeline(setting: Setting) -> list[Comparison]:
    scale = setting.scale
    memory = setting.job(scale.cifar[0], 32, scale.cifar_batch, 10)
    photographs = setting.job("resnet50", scale.imagenet_size, 2 * scale.imagenet_batch, 2)
    found = []
    for route, what, job, batches in (
        ("memory", "CIFAR from memory", memory, scale.batches[0]),
        (files.JPEG, "JPEG files", photographs, scale.batches[1]),
    ):
        title = f"input pipeline, {what}, {job.size} px, batch {job.batch}"
        contenders = tuple(
            _entry(library, way, factory, replace(job, route=route))
            for library, way, factory in (
                (OURS, "training pipeline", "ours:pipeline"),
                ("Keras", "tf.data and layers", "keras_peers:pipeline"),
                ("PyTorch", "DataLoader", "torch_peers:pipeline"),
            )
        )
        found.append(Comparison("pipeline", title, contenders, batches, {"": title}))
    return found


def _start(setting: Setting) -> list[Comparison]:
    job = setting.imagenet(setting.scale.imagenet_batch)
    contenders = tuple(
        replace(_entry(library, way, factory, replace(job, route=route)), fresh=True)
        for library, way, factory, route in (
            (OURS, "training loop", "ours:train", ""),
            (OURS, "stacked", "ours:train", "stacked"),
            (OURS, "fit", "ours:fit", ""),
            (APPLICATIONS, "fit", "keras_peers:train_applications", ""),
            ("KerasHub", "fit", "keras_peers:train_hub", ""),
            ("PyTorch", "channels_last", "torch_peers:train", ""),
        )
    )
    title = f"start of training, {job.net}, {job.size} px, batch {job.batch}"
    parts = {"import": "import", "build": "build", "first step": "first step"}
    parts = {part: f"{what} ({job.net}, batch {job.batch})" for part, what in parts.items()}
    return [Comparison("start", title, contenders, 1, parts, rate=False)]


def _checkpoint(setting: Setting) -> list[Comparison]:
    job = setting.imagenet(setting.scale.imagenet_batch)
    contenders = tuple(
        _entry(library, way, factory, job)
        for library, way, factory in (
            (OURS, "checkpoint", "ours:checkpoint"),
            (APPLICATIONS, ".keras file", "keras_peers:checkpoint"),
            ("PyTorch", "torch.save", "torch_peers:checkpoint"),
        )
    )
    parts = {"save": f"checkpoint save, {job.net}", "load": f"checkpoint load, {job.net}"}
    return [Comparison("checkpoint", f"checkpoints, {job.net}", contenders, 1, parts, rate=False)]


SECTIONS: Mapping[str, Callable[[Setting], list[Comparison]]] = {
    "train": _train,
    "inference": _inference,
    "pipeline": _pipeline,
    "start": _start,
    "checkpoint": _checkpoint,
}
