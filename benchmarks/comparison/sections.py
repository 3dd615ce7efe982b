"""The comparisons of each section, with their contenders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from keras_resnet_train.config import RuntimeConfig

from . import files
from .photographs import LARGE, USUAL
from .rounds import Contender
from .settings import APPLICATIONS, OURS, PEERS, Comparison, Settings
from .workload import Workload

_OUR_TRAINING = "ours:train"
# Library, label, factory below this package, and the workload's mode.
Entry = tuple[str, str, str, str]


def comparisons(section: str, settings: Settings) -> list[Comparison]:
    """Returns the comparisons of a section, without the peers that are not selected."""
    selected = {OURS, *(PEERS[name] for name in settings.peers)}
    return [
        replace(
            comparison,
            contenders=tuple(c for c in comparison.contenders if c.library in selected),
        )
        for comparison in SECTIONS[section](settings)
    ]


def files_needed(section: Iterable[Comparison]) -> dict[str, Workload]:
    """Returns the files that contenders read, each with the workload of a reader."""
    contenders = [c for comparison in section for c in comparison.contenders]
    readers = {c.workload.mode: c.workload for c in contenders}
    return {name: readers[name] for name in files.WRITERS if name in readers}


def _contender(library: str, label: str, factory: str, workload: Workload) -> Contender:
    return Contender(library, label, f"{__package__}.{factory}", workload)


def _contenders(workload: Workload, entries: Sequence[Entry]) -> list[Contender]:
    int8 = replace(workload, precision="int8")
    return [
        _contender(
            library, label, factory, replace(int8 if "int8" in mode else workload, mode=mode)
        )
        for library, label, factory, mode in entries
    ]


def _train(settings: Settings) -> list[Comparison]:
    sizes = settings.sizes
    torch: Entry = ("PyTorch", "channels_last", "torch_peers:train", "")
    cifar: list[Entry] = [("keras.io example", "fit", "keras_peers:train_keras_io", ""), torch]
    imagenet: list[Entry] = [
        (APPLICATIONS, "fit", "keras_peers:train_applications", ""),
        ("KerasHub", "fit", "keras_peers:train_hub", ""),
        torch,
    ]
    return [
        *(
            _training(settings, settings.cifar(net, sizes.cifar_batch), cifar, sizes.steps[0])
            for net in sizes.cifar
        ),
        _training(settings, settings.imagenet(sizes.imagenet_batch), imagenet, sizes.steps[1]),
    ]


def _training(
    settings: Settings, workload: Workload, peers: Sequence[Entry], steps: int
) -> Comparison:
    ours: list[Entry] = [
        (OURS, "training loop", _OUR_TRAINING, ""),
        (OURS, "stacked", _OUR_TRAINING, "stacked"),
        (OURS, "fit", "ours:fit", ""),
    ]
    contenders = _contenders(workload, [*ours, *peers])
    if settings.gpus:
        contenders += [
            replace(
                contender,
                label=f"{contender.label}, {precision}",
                workload=replace(contender.workload, precision=precision),
            )
            for precision in ("mixed_bfloat16", "mixed_float16")
            for contender in _contenders(workload, [ours[0], *peers])
        ]
        contenders += [
            _contender(
                OURS,
                f"training loop XLA, {precision}",
                _OUR_TRAINING,
                replace(workload, precision=precision, xla=True),
            )
            for precision in ("float32", "mixed_bfloat16")
        ]
    title = f"training, {_describe(workload)}"
    return Comparison("train", title, tuple(contenders), steps, {"": title}, passes=3)


def _inference(settings: Settings) -> list[Comparison]:
    return [
        _inference_of(settings, settings.imagenet(batch), calls)
        for batch, calls in settings.sizes.inference
    ]


def _inference_of(settings: Settings, workload: Workload, calls: int) -> Comparison:
    ours, theirs, torch = "ours:infer", "keras_peers:infer_applications", "torch_peers:infer"
    litert, onnx, openvino = "runtimes:litert", "runtimes:onnx_runtime", "runtimes:openvino"
    contenders = _contenders(
        workload,
        [
            (OURS, "eager call", ours, "eager"),
            (OURS, "predict_on_batch", ours, "predict"),
            (OURS, "tf.function", ours, "function"),
            (OURS, "tf.function, folded", ours, "function, folded"),
            (OURS, "SavedModel", "runtimes:saved_model", files.SAVED_MODEL),
            (OURS, "LiteRT", litert, files.TFLITE),
            (OURS, "ONNX Runtime", onnx, files.ONNX),
            (OURS, "OpenVINO", openvino, files.ONNX),
            (OURS, "LiteRT int8", litert, files.TFLITE_INT8),
            (APPLICATIONS, "eager call", theirs, "eager"),
            (APPLICATIONS, "predict_on_batch", theirs, "predict"),
            (APPLICATIONS, "tf.function", theirs, "function"),
            (APPLICATIONS, "LiteRT", litert, files.APPLICATIONS_TFLITE),
            (APPLICATIONS, "LiteRT int8", litert, files.APPLICATIONS_TFLITE_INT8),
            ("KerasHub", "tf.function", "keras_peers:infer_hub", "function"),
            ("PyTorch", "channels_last", torch, "eager"),
            ("PyTorch", "channels_last, compiled", torch, "compiled"),
            # Nets of others in these runtimes, as written by their own exporters.
            ("ONNX Runtime", APPLICATIONS, onnx, files.APPLICATIONS_ONNX),
            ("ONNX Runtime", "PyTorch", onnx, files.TORCH_ONNX),
            ("ONNX Runtime", f"{APPLICATIONS} int8", onnx, files.APPLICATIONS_ONNX_INT8),
            ("OpenVINO", APPLICATIONS, openvino, files.APPLICATIONS_ONNX),
            ("OpenVINO", "PyTorch", openvino, files.TORCH_ONNX),
            ("OpenVINO", f"{APPLICATIONS} int8", openvino, files.APPLICATIONS_ONNX_INT8),
        ],
    )
    if settings.gpus:
        contenders += [
            _contender(
                library,
                f"tf.function{' XLA' if xla else ''}, {precision}",
                factory,
                replace(workload, mode="function", precision=precision, xla=xla),
            )
            for library, factory in ((OURS, ours), (APPLICATIONS, theirs))
            for precision, xla in (
                ("mixed_float16", False),
                ("mixed_float16", True),
                ("float32", True),
            )
        ]
    title = f"inference, {_describe(workload)}"
    return Comparison("inference", title, tuple(contenders), calls, {"": title})


def _pipeline(settings: Settings) -> list[Comparison]:
    sizes = settings.sizes
    memory = settings.cifar(sizes.cifar[0], sizes.cifar_batch)
    photographs = settings.workload("resnet50", sizes.imagenet_size, 2 * sizes.imagenet_batch, 2)
    found = []
    for mode, name, workload, batches in (
        ("memory", "CIFAR from memory", memory, sizes.batches[0]),
        (files.JPEG, "JPEG files", photographs, sizes.batches[1]),
    ):
        title = f"input pipeline, {name}, {workload.size} px, batch {workload.batch}"
        contenders = _contenders(
            workload,
            [
                (OURS, "training pipeline", "ours:pipeline", mode),
                ("Keras", "tf.data and layers", "keras_peers:pipeline", mode),
                ("PyTorch", "DataLoader", "torch_peers:pipeline", mode),
            ],
        )
        found.append(Comparison("pipeline", title, tuple(contenders), batches, {"": title}))
    return found


def _photographs(settings: Settings) -> list[Comparison]:
    """JPEG files to images of the net's size: images per second of processor time."""
    sizes, found = settings.sizes, []
    few = sizes.batches[1] // 4
    for mode, name, units in ((LARGE, "4,000 x 3,000", few), (USUAL, "500 x 375", 8 * few)):
        workload = settings.workload("resnet50", sizes.imagenet_size, 1, 2)
        contenders = _contenders(
            replace(workload, processor_time=True),
            [
                (OURS, "TensorFlow's decoder alone", "photographs:bare", mode),
                (OURS, "evaluation", "photographs:scaled", mode),
                (OURS, "evaluation, all pixels", "photographs:whole", mode),
                (OURS, "training, random crop", "photographs:cropped", mode),
                ("Keras", "smart_resize", "photographs:keras_resize", mode),
                ("PyTorch", "Pillow and v2", "photographs:pillow", mode),
                ("PyTorch", "Pillow's draft and v2", "photographs:pillow_draft", mode),
            ],
        )
        title = f"JPEG files of {name} to {workload.size} px, processor time"
        found.append(
            Comparison("photographs", title, tuple(contenders), units, {"": title}, baseline=True)
        )
    return found


def _augment(settings: Settings) -> list[Comparison]:
    """Crop and flip alone, then with each augmentation: images/s relative to the first."""
    sizes = settings.sizes
    workload = settings.workload("resnet50", sizes.imagenet_size, 2 * sizes.imagenet_batch, 2)
    workload = replace(workload, mode=files.JPEG, processor_time=True)
    kinds: Mapping[str, Mapping[str, object]] = {
        "crop and flip": {},
        "RandAugment": {"policy": "rand", "policy_magnitude": 7.0},
        "TrivialAugment": {"policy": "trivial"},
        "AutoAugment (CIFAR)": {"policy": "autoaugment"},
        "AugMix": {"policy": "augmix"},
        "3-Augment": {"policy": "three"},
        "colour jitter": {"color_jitter": 0.4},
        "PCA noise": {"pca_noise": 0.1},
        "erasing": {"erasing": 0.25},
        "mixup and cutmix": {"mixup": 0.2, "cutmix": 1.0},
        "three repeats": {"repeats": 3},
    }
    ours = [
        _contender(OURS, name, "ours:pipeline", replace(workload, augment=fields))
        for name, fields in kinds.items()
    ]
    keras = "keras_peers:augmented"
    theirs = [
        _contender("Keras", name, keras, replace(workload, augment={"layer": layer}))
        for name, layer in (
            ("crop and flip", ""),
            ("RandAugment", "RandAugment"),
            ("AugMix", "AugMix"),
            ("erasing", "RandomErasing"),
            ("mixup", "MixUp"),
            ("cutmix", "CutMix"),
            ("colour jitter", "RandomColorJitter"),
        )
    ]
    torch = "torch_peers:augmented"
    theirs += [
        _contender("PyTorch", name, torch, replace(workload, augment={"transform": transform}))
        for name, transform in (
            ("crop and flip", ""),
            ("RandAugment", "RandAugment"),
            ("TrivialAugment", "TrivialAugmentWide"),
            ("AutoAugment (ImageNet)", "AutoAugment"),
            ("AugMix", "AugMix"),
            ("colour jitter", "ColorJitter"),
            ("erasing", "RandomErasing"),
            ("mixup", "MixUp"),
            ("cutmix", "CutMix"),
        )
    ]
    title = f"augmentation, JPEG files, {workload.size} px, batch {workload.batch}, processor time"
    contenders = (*ours, *theirs)
    return [
        Comparison("augment", title, contenders, sizes.batches[1] // 5, {"": title}, baseline=True),
        _mixing(settings),
    ]


def _mixing(settings: Settings) -> Comparison:
    """Mixup and cutmix of a batch beside the training step of that batch."""
    workload = settings.imagenet(settings.sizes.imagenet_batch)
    contender = _contender(OURS, "mixup and cutmix", "ours:mixing", workload)
    title = f"mixup and cutmix, {_describe(workload)}, processor time"
    parts = {"mix": f"{title}: mixing a batch", "step": f"{title}: training step"}
    return Comparison("augment", title, (contender,), 2, parts, throughput=False)


def _start(settings: Settings) -> list[Comparison]:
    workload = settings.imagenet(settings.sizes.imagenet_batch)
    contenders = _contenders(
        workload,
        [
            (OURS, "training loop", _OUR_TRAINING, ""),
            (OURS, "stacked", _OUR_TRAINING, "stacked"),
            (OURS, "fit", "ours:fit", ""),
            (APPLICATIONS, "fit", "keras_peers:train_applications", ""),
            ("KerasHub", "fit", "keras_peers:train_hub", ""),
            ("PyTorch", "channels_last", "torch_peers:train", ""),
        ],
    )
    title = f"start of training, {_describe(workload)}"
    parts = {
        part: f"{part} ({workload.net}, batch {workload.batch})"
        for part in ("import", "build", "first step")
    }
    fresh = tuple(replace(contender, fresh=True) for contender in contenders)
    return [Comparison("start", title, fresh, 1, parts, throughput=False)]


def _checkpoint(settings: Settings) -> list[Comparison]:
    workload = settings.imagenet(settings.sizes.imagenet_batch)
    contenders = _contenders(
        workload,
        [
            (OURS, "checkpoint", "ours:checkpoint", ""),
            (APPLICATIONS, ".keras file", "keras_peers:checkpoint", ""),
            ("PyTorch", "torch.save", "torch_peers:checkpoint", ""),
        ],
    )
    parts = {part: f"checkpoint {part}, {workload.net}" for part in ("save", "load")}
    title = f"checkpoints, {workload.net}"
    return [Comparison("checkpoint", title, tuple(contenders), 1, parts, throughput=False)]


def _options(settings: Settings) -> list[Comparison]:
    """The defaults of `RuntimeConfig` follow from this section."""
    sizes = settings.sizes
    workload = settings.cifar(sizes.cifar[0], sizes.cifar_batch)
    default, threads = RuntimeConfig().steps_per_call, settings.threads
    options = {
        f"{n} steps per call": replace(workload, runtime={"steps_per_call": n})
        for n in (default, 1, 5, 20)
    }
    options["XLA"] = replace(workload, xla=True)
    options["mixed_bfloat16"] = replace(workload, precision="mixed_bfloat16")
    fewer = [2**power for power in range(threads.bit_length()) if 2**power < threads]
    options |= {f"{n} of {threads} threads": replace(workload, threads=n) for n in fewer}
    return [_our_training("options", "options of the training loop", options, 2 * sizes.steps[0])]


def _remat(settings: Settings) -> list[Comparison]:
    sizes = settings.sizes
    workload = settings.cifar(sizes.cifar[-1], 4 * sizes.cifar_batch)
    options = {
        f"--remat {kind}": replace(workload, runtime={"remat": kind})
        for kind in ("none", "unit", "stage")
    }
    return [_our_training("remat", "rematerialization", options, sizes.steps[1])]


def _our_training(
    section: str, name: str, options: Mapping[str, Workload], steps: int
) -> Comparison:
    """Compares settings of this package's training loop with the first of them."""
    contenders = tuple(
        _contender(OURS, label, _OUR_TRAINING, workload) for label, workload in options.items()
    )
    title = f"{name}, {_describe(contenders[0].workload)}"
    return Comparison(section, title, contenders, steps, {"": title}, passes=3, baseline=True)


def _describe(workload: Workload) -> str:
    return f"{workload.net}, {workload.size} px, batch {workload.batch}"


SECTIONS: Mapping[str, Callable[[Settings], list[Comparison]]] = {
    "train": _train,
    "inference": _inference,
    "pipeline": _pipeline,
    "photographs": _photographs,
    "augment": _augment,
    "start": _start,
    "checkpoint": _checkpoint,
    "options": _options,
    "remat": _remat,
}
BESIDE_PEERS = (
    "train",
    "inference",
    "pipeline",
    "photographs",
    "augment",
    "start",
    "checkpoint",
)
