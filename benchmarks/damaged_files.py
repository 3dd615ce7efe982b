"""Sound files of each kind, and the public ways in which such a file is opened.

`python -m benchmarks.damaged_files FOLDER` makes the files. `flips.py` damages them.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        path: The file in the folder.
        ways: Functions of the folder and the file, by name: whether the file was answered; False
            if a command refused it.
    """

    path: str
    ways: Mapping[str, Callable[[Path, Path], bool]]


class Sound:
    """A sound file that is damaged in its place.

    Args:
        folder: The folder that `make` filled.
        kind: A name of `KINDS`.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, KINDS[kind]
        self._path = folder / self._kind.path
        self.content = (folder / "sound" / self._kind.path).read_bytes()

    def write(self, content: bytes) -> None:
        """Gives the file another content."""
        shutil.rmtree(self._folder / "again", ignore_errors=True)
        self._path.write_bytes(content)

    def open(self, way: str) -> bool:
        """Opens the file in one way; False if a command refused it."""
        return self._kind.ways[way](self._folder, self._path)


def ways_of(kind: str) -> list[str]:
    """Returns the names of the ways into a kind of file."""
    return list(KINDS[kind].ways)


def _command(*words: object) -> bool:
    from keras_resnet_train.cli import main

    command, *others = map(str, words)
    try:
        return main([command, "--debug", *others]) == 0
    except SystemExit as ended:
        return ended.code in (0, None)


_MODELS: dict[str, Any] = {}


def _model(net: Any, **form: Any) -> Any:
    import keras_resnet

    if net not in _MODELS:
        _MODELS[net] = keras_resnet.build(net, **form)
    return _MODELS[net]


def _load(folder: Path, path: Path) -> bool:
    import keras_resnet

    own = path.name in ("net.keras", "net.weights.h5")
    model = _model("cifar_resnet8" if own else _small(), classes=10, input_shape=(32, 32, 3))
    return keras_resnet.weights.load(model, path).complete


def _small() -> Any:
    """Returns the spec of a tiny net that torchvision could have written."""
    import keras_resnet

    changes = {"depths": (1, 1, 1, 1), "widths": (4, 4, 8, 8), "stem_width": 4}
    return keras_resnet.get_spec("resnet18").replace(**changes)


def _load_weights(folder: Path, path: Path) -> bool:
    _model("cifar_resnet8", classes=10, input_shape=(32, 32, 3)).load_weights(path)
    return True


def _from_pretrained(folder: Path, path: Path) -> bool:
    import keras_resnet

    net = "cifar_resnet8" if path.name.endswith(".weights.h5") else None
    return bool(keras_resnet.from_pretrained(path, net))


def _read(folder: Path, path: Path) -> bool:
    from keras_resnet.weights.files.tensor_file import read

    return bool(read(path).tensors)


def _predict(folder: Path, path: Path) -> bool:
    return _command("predict", "--weights", path, folder / "colour.png")


def _evaluate(folder: Path, path: Path) -> bool:
    return _command("evaluate", "--weights", path, "--dataset", folder / "images")


def _fine_tune(folder: Path, path: Path) -> bool:
    words = ("--weights", path, "--dataset", folder / "images", "--steps", 1, "--batch-size", 2)
    return _command("train", *words, "--dry-run")


def _convert(folder: Path, path: Path) -> bool:
    (folder / "again").mkdir(exist_ok=True)
    return _command("convert", path, "--to", folder / "again" / "net.keras")


def _predict_file(folder: Path, path: Path) -> bool:
    return _command("predict", path, folder / "grey.png")


def _evaluate_file(folder: Path, path: Path) -> bool:
    return _command("evaluate", path, "--dataset", "digits")


def _predict_image(folder: Path, path: Path) -> bool:
    return _command("predict", folder / "run", path)


def _evaluate_image(folder: Path, path: Path) -> bool:
    return _command("evaluate", folder / "run", "--dataset", path.parent.parent)


def _train_image(folder: Path, path: Path) -> bool:
    words = ("--dataset", path.parent.parent, "--model", "cifar_resnet8", "--image-size", 8)
    sizes = ("--steps", 1, "--batch-size", 2, "--set", "schedule.warmup_epochs=0")
    return _command("train", *words, *sizes, "--dry-run")


def _config(folder: Path, path: Path) -> bool:
    return _command("train", "--config", path, "--dry-run")


def _resume(folder: Path, path: Path) -> bool:
    run = folder / "again"
    shutil.copytree(path.parent, run)
    sound = folder / "sound" / "run" / "config.json"
    return _command("train", "--config", sound, "--output", run)


def _predict_run(folder: Path, path: Path) -> bool:
    return _command("predict", folder / "run", folder / "grey.png")


def _evaluate_run(folder: Path, path: Path) -> bool:
    return _command("evaluate", folder / "run", "--output", folder / "again")


def _predict_best(folder: Path, path: Path) -> bool:
    return _command("predict", folder / "run", folder / "grey.png", "--checkpoint", "best")


def _predict_last(folder: Path, path: Path) -> bool:
    return _command("predict", folder / "run", folder / "grey.png", "--checkpoint", "last")


def _report(folder: Path, path: Path) -> bool:
    run = folder / "again"
    shutil.copytree(folder / "run", run)
    return _command("report", run)


def _resume_unfinished(folder: Path, path: Path) -> bool:
    run = folder / "again"
    shutil.copytree(folder / path.relative_to(folder).parts[0], run)
    (run / "model.keras").unlink()
    return _command("train", "--config", run / "config.json", "--output", run)


def _runs(folder: Path, path: Path) -> bool:
    return _command("runs", folder / "run")


def _compare(folder: Path, path: Path) -> bool:
    other = folder / "again" / "run"
    shutil.copytree(folder / "run", other)
    return _command("compare", folder / "run", other, "--output", other / "page.html")


def _labels(folder: Path, path: Path) -> bool:
    return _command("predict", folder / "net.tflite", folder / "grey.png", "--labels", path)


def _manifest(folder: Path, path: Path) -> bool:
    return _command("predict", path.parent / "model.tflite", folder / "grey.png")


def _saved_model(folder: Path, path: Path) -> bool:
    return _command("predict", folder / "saved_model", folder / "grey.png")


def _evaluate_table(folder: Path, path: Path) -> bool:
    return _command("evaluate", folder / "run", "--dataset", path)


def _train_table(folder: Path, path: Path) -> bool:
    return _train_image(folder, path / "0" / "1")


def _data_dir(folder: Path, path: Path) -> bool:
    data = ("--dataset", "colours", "--data-dir", folder / "tfds")
    words = ("--model", "cifar_resnet8", "--steps", 1, "--batch-size", 2)
    return _command("train", *data, *words, "--set", "schedule.warmup_epochs=0", "--dry-run")


def _data_dir_evaluate(folder: Path, path: Path) -> bool:
    data = ("--dataset", "colours", "--data-dir", folder / "tfds")
    return _command("evaluate", "--weights", folder / "colours.keras", *data)


_NETS = {
    "load": _load,
    "from_pretrained": _from_pretrained,
    "predict": _predict,
    "evaluate": _evaluate,
    "train": _fine_tune,
    "convert": _convert,
}
_OWN = {way: _NETS[way] for way in _NETS if way != "convert"} | {"load_weights": _load_weights}
# They do not state how images are prepared, as `predict` and `evaluate` need it.
_CHECKPOINTS = {way: _NETS[way] for way in ("load", "from_pretrained", "convert")}
_FILES = {"predict": _predict_file, "evaluate": _evaluate_file}
_IMAGES = {"predict": _predict_image, "evaluate": _evaluate_image, "train": _train_image}
_RUN = {"predict": _predict_run, "evaluate": _evaluate_run, "report": _report}
_TFDS = {"train": _data_dir, "evaluate": _data_dir_evaluate}
_TABLES = {"train": _train_table, "evaluate": _evaluate_table}
_REPORTS = {"report": _report, "compare": _compare, "runs": _runs}
_ENDINGS = ("jpg", "png", "webp", "tiff", "npy", "gif", "bmp")
_LAST = "run/checkpoints/step_00000004"
_CHECKPOINT = {"resume": _resume_unfinished, "predict": _predict_last}
_VARIABLES = "saved_model/variables/variables.data-00000-of-00001"
_PREPARED = "tfds/colours/1.0.0"
_DIGITS_WEIGHTS = "run/checkpoints/best/model.weights.h5"

KINDS = {
    "keras": Kind("net.keras", _OWN),
    "weights.h5": Kind(
        "net.weights.h5",
        {"load": _load, "load_weights": _load_weights, "from_pretrained": _from_pretrained},
    ),
    "h5": Kind("net.h5", {"read": _read}),
    "safetensors": Kind("net.safetensors", _NETS),
    "pth": Kind("net.pth", _CHECKPOINTS),
    "pth of old": Kind("old.pth", _CHECKPOINTS),
    "config.json beside weights": Kind(
        "hub/config.json",
        {
            "from_pretrained": lambda folder, path: _from_pretrained(folder, path.parent),
            "predict": lambda folder, path: _predict(folder, path.parent),
        },
    ),
    "tflite": Kind("net.tflite", _FILES),
    "onnx": Kind("net.onnx", _FILES),
    **{ending: Kind(f"{ending}/0/it.{ending}", _IMAGES) for ending in _ENDINGS},
    "csv": Kind("table/labels.csv", _TABLES),
    "parquet": Kind("table/labels.parquet", _TABLES),
    "tar shard": Kind("shards/images-000.tar", _TABLES),
    "labels.txt": Kind("labels.txt", {"predict": _labels}),
    "manifest.json": Kind("exported/manifest.json", {"predict": _manifest}),
    "saved_model.pb": Kind("saved_model/saved_model.pb", {"predict": _saved_model}),
    "variables.index": Kind("saved_model/variables/variables.index", {"predict": _saved_model}),
    "variables.data": Kind(_VARIABLES, {"predict": _saved_model}),
    "safetensors.index.json": Kind(
        "parts/model.safetensors.index.json",
        {"from_pretrained": lambda folder, path: _from_pretrained(folder, path.parent)},
    ),
    "config.json": Kind("run/config.json", {"train": _config, "resume": _resume, **_RUN}),
    "dataset.json": Kind("run/dataset.json", {"resume": _resume, "runs": _runs, **_RUN}),
    "metrics.json": Kind("run/metrics.json", {"resume": _resume, "runs": _runs, **_RUN}),
    "history.csv": Kind("run/history.csv", _REPORTS),
    "samples.npz": Kind("run/samples.npz", {"report": _report}),
    "model.keras": Kind("run/model.keras", {"resume": _resume, **_RUN}),
    "metrics.jsonl": Kind("run/metrics.jsonl", {"resume": _resume_unfinished, "runs": _runs}),
    "best": Kind(_DIGITS_WEIGHTS, {"predict": _predict_best, "resume": _resume_unfinished}),
    "state.json": Kind(f"{_LAST}/state.json", _CHECKPOINT),
    "optimizer.npz": Kind(f"{_LAST}/optimizer.npz", _CHECKPOINT),
    "listing of files": Kind("listed/data_files.csv.gz", {"resume": _resume_unfinished}),
    "features.json": Kind(f"{_PREPARED}/features.json", _TFDS),
    "dataset_info.json": Kind(f"{_PREPARED}/dataset_info.json", _TFDS),
    "tfrecord": Kind(f"{_PREPARED}/colours-train.tfrecord-00000-of-00001", _TFDS),
}


def make(folder: Path) -> None:
    """Makes a sound file of each kind in a folder, and copies of them below `sound`."""
    _make_run(folder)
    _make_nets(folder)
    _make_images(folder)
    _make_tfds(folder)
    for kind in KINDS.values():
        copy = folder / "sound" / kind.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / kind.path, copy)


def _make_run(folder: Path) -> None:
    from keras_resnet.export import ExportRequest, Limits, export
    from keras_resnet_train.data.embedded import load_digits
    from keras_resnet_train.recipes import get_recipe
    from keras_resnet_train.rundir import open_run
    from keras_resnet_train.session import run_training

    changes = {
        "data.dataset": "digits",
        "data.image_size": 8,
        "model.spec.widths": [4, 8, 8],
        "batch_size": 64,
        "steps": 4,
        "schedule.warmup_epochs": 0,
    }
    run_training(get_recipe("digits").configure("cifar_resnet8", changes), folder / "run")
    run = open_run(folder / "run")
    digits = load_digits()
    request = ExportRequest(
        preprocess=run.preprocess,
        images=digits.test.images[:64],
        labels=digits.test.labels[:64],
        formats=("tflite", "onnx", "saved_model"),
        precisions=("float32",),
        limits=Limits(),
    )
    export(run.model, folder / "exported", request)
    for ending in ("tflite", "onnx"):
        found = next((folder / "exported").rglob(f"*.{ending}"))
        shutil.copyfile(found, folder / f"net.{ending}")
    found = next((folder / "exported").rglob("saved_model.pb")).parent
    shutil.copytree(found, folder / "saved_model")
    (folder / "labels.txt").write_text("".join(f"digit {number}\n" for number in range(10)))


def _make_nets(folder: Path) -> None:
    import keras_resnet
    from keras_resnet import PreprocessSpec
    from keras_resnet.weights.files.tensor_file import read

    model = _model("cifar_resnet8", classes=10, input_shape=(32, 32, 3))
    model.preprocess = PreprocessSpec((32, 32))
    model.save(folder / "net.keras")
    model.save_weights(folder / "net.weights.h5")
    net = keras_resnet.build(_small(), classes=10, input_shape=(32, 32, 3))
    net.preprocess = PreprocessSpec((32, 32))
    keras_resnet.weights.save(net, folder / "net.safetensors")
    tensors = read(folder / "net.safetensors").tensors
    save_torch_zip(folder / "net.pth", tensors)
    save_torch_legacy(folder / "old.pth", tensors)
    save_keras_2(folder / "net.h5", tensors)
    (folder / "hub").mkdir()
    keras_resnet.weights.save(net, folder / "hub" / "model.safetensors", layout="hf")
    _split(folder / "hub" / "model.safetensors", folder / "parts")
    colours = keras_resnet.build("cifar_resnet8", classes=3, input_shape=(4, 4, 3))
    colours.preprocess = PreprocessSpec((4, 4))
    colours.save(folder / "colours.keras")


def _split(file: Path, parts: Path) -> None:
    """Writes the tensors of a file as two files and their index."""
    from keras_resnet.weights.files.tensor_file import read, write_safetensors

    parts.mkdir()
    places: dict[str, str] = {}
    for number in range(2):
        name = f"model-{number + 1:05}-of-00002.safetensors"
        tensors = dict(list(read(file).tensors.items())[number::2])
        write_safetensors(parts / name, tensors)
        places |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": file.stat().st_size}, "weight_map": places}
    (parts / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copyfile(file.with_name("config.json"), parts / "config.json")


def _make_images(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)

    def pixels(*more: int) -> Any:
        small = rng.integers(0, 255, (6, 4, *more), dtype=np.uint8)
        return small.repeat(6, axis=0).repeat(6, axis=1)

    Image.fromarray(pixels(3)).save(folder / "colour.png")
    Image.fromarray(pixels()).save(folder / "grey.png")
    for name in range(10):
        (folder / "images" / str(name)).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(pixels(3)).save(folder / "images" / str(name) / f"{number}.png")
    for ending in _ENDINGS:
        path = folder / ending / "0" / f"it.{ending}"
        shutil.copytree(folder / "images", folder / ending)
        if ending == "npy":
            np.save(path, pixels(3))
        else:
            Image.fromarray(pixels(3)).save(path)
    shutil.copytree(folder / "images", folder / "table")
    lines = [f"{name}/{number}.png,{name}" for name in range(10) for number in range(4)]
    (folder / "table" / "labels.csv").write_text("\n".join(["image,label", *lines, ""]))
    _make_containers(folder)


def _make_containers(folder: Path) -> None:
    """Makes a Parquet table, a tar shard, and a run that lists its files."""
    from pyarrow import parquet, table

    paths = sorted(path.relative_to(folder / "table") for path in (folder / "table").rglob("*.png"))
    columns = {"image": [*map(str, paths)], "label": [path.parts[0] for path in paths]}
    parquet.write_table(table(columns), folder / "table" / "labels.parquet")
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "images-000.tar", "w") as shard:
        for number, path in enumerate(paths):
            shard.add(folder / "table" / path, f"{number:04}.png")
            label = tarfile.TarInfo(f"{number:04}.cls")
            label.size = 1
            shard.addfile(label, io.BytesIO(path.parts[0].encode()))
    words = ("--dataset", folder / "images", "--model", "cifar_resnet8", "--image-size", 8)
    sizes = ("--steps", 2, "--batch-size", 4, "--set", "schedule.warmup_epochs=0")
    _command("train", *words, *sizes, "--output", folder / "listed")


def _make_tfds(folder: Path) -> None:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(4, 4, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
    )
    path = folder / _PREPARED
    path.mkdir(parents=True)
    rng, infos = np.random.default_rng(0), []
    for split in ("train", "test"):
        file = path / f"colours-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(file)) as writer:
            for number in range(12):
                image = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
                example = features.encode_example({"image": image, "label": number % 3})
                writer.write(features.serialize_example(example))
        template = tfds.core.ShardedFileTemplate(
            data_dir=path,
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            dataset_name="colours",
            split=split,
            filetype_suffix="tfrecord",
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=[12], num_bytes=0, filename_template=template
            )
        )
    tfds.folder_dataset.write_metadata(data_dir=str(path), features=features, split_infos=infos)


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _numbers(values: Sequence[int]) -> bytes:
    return _row(*(b"J" + struct.pack("<i", value) for value in values))


def _state_dict(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle of a state dict of PyTorch, without PyTorch."""
    items = []
    for key, (name, array) in enumerate(tensors.items()):
        size = b"J" + struct.pack("<i", array.size)
        words = (_text("storage"), b"ctorch\nFloatStorage\n", _text(str(key)), _text("cpu"), size)
        strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
        end = b"\x89ccollections\nOrderedDict\n)R"  # no gradient, no hooks
        first = b"J" + bytes(4)
        view = (_row(*words) + b"Q", first, _numbers(array.shape), _numbers(strides), end)
        items.append(_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n" + _row(*view) + b"R")
    return b"\x80\x02}(" + b"".join(items) + b"u."


def save_torch_zip(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint as `torch.save` does since PyTorch 1.6."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", _state_dict(tensors))
        for key, array in enumerate(tensors.values()):
            archive.writestr(f"net/data/{key}", array.astype("<f4").tobytes())


def save_torch_legacy(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint as `torch.save` did before PyTorch 1.6."""
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        file.write(_state_dict(tensors))
        pickle.dump([str(key) for key in range(len(tensors))], file, protocol=2)
        for array in tensors.values():
            file.write(struct.pack("<q", array.size) + array.astype("<f4").tobytes())


def save_keras_2(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes weights as Keras 2 did."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [f"layer{number}".encode() for number in range(len(tensors))]
        for number, array in enumerate(tensors.values()):
            group = file.create_group(f"layer{number}")
            name = f"layer{number}/kernel:0"
            group.attrs["weight_names"] = [name.encode()]
            group[name] = array


if __name__ == "__main__":
    make(Path(sys.argv[1]))
