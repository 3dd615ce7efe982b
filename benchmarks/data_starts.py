"""How long data takes: the start on a folder of many files, and records of shards per second."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import get_spec
from keras_resnet_train.config import DataConfig
from keras_resnet_train.data import load_data
from keras_resnet_train.data.array_record_files import WRITER_OPTIONS, array_record_module
from keras_resnet_train.data.known import Read
from keras_resnet_train.data.shard_format import Row, Shard
from keras_resnet_train.data.shard_images import Stored, record_of
from keras_resnet_train.data.shard_origin import Example
from keras_resnet_train.data.shard_source import Images

_CLASSES, _PICTURES = 100, 200
_RECORD_BYTES, _SHARDS = 110_000, 4
_NOTHING = "import benchmarks.data_starts"


def run(images: int, records: int, folder: Path | None) -> int:
    """Prints what each start and each way of reading takes.

    Args:
        images: Number of JPEGs of 64 x 64 pixels in the folder.
        records: Number of records of 110 KB.
        folder: Where they are written and removed again; by default where temporary files are.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root, shards = Path(temporary, "images"), Path(temporary, "shards")
        os.environ["KERAS_HOME"] = str(Path(temporary, "home"))
        write_images(root, images)
        _print("nothing but the imports", *_process(_NOTHING))
        load = f"{_NOTHING} as starts; starts.load({str(root)!r})"
        _print(f"first start on {images:,} files", *_process(load))
        _print("second start", *_process(load))
        os.utime(next(root.rglob("*.jpg")), ns=(1, 1))
        _print("third start, one file changed", *_process(load))
        for name, make in readers(shards, records).items():
            print(
                f"{name:36}{_rate(make()):>9,.0f} records per second of processor time", flush=True
            )
    return 0


def write_images(root: Path, count: int) -> None:
    """Writes different JPEGs of about 2 KB into 100 class folders."""
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(_PICTURES):
        encoded = io.BytesIO()
        colours = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        colours.resize((64, 64)).save(encoded, "JPEG", quality=90)
        pictures.append(encoded.getvalue())
    for number in range(count):
        path = root / f"{number % _CLASSES:03}" / f"{number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = pictures[number % _PICTURES]
        comment = b"\xff\xfe" + (10).to_bytes(2, "big") + number.to_bytes(8, "big")
        path.write_bytes(content[:20] + comment + content[20:])  # after the JFIF segment


def load(root: str) -> None:
    """Opens a folder as a run does before its first step."""
    load_data(DataConfig(dataset=root), get_spec("cifar_resnet8"))


def readers(folder: Path, count: int) -> dict[str, Callable[[], Any]]:
    """Writes records, and files of the same size, and returns data sets that read them shuffled."""
    import tensorflow as tf

    shards = [Shard("train", n, _SHARDS, 0, count // _SHARDS) for n in range(_SHARDS)]
    rows: dict[str, list[Row]] = {}
    for shard in shards:
        rows[shard.file] = list(_write_shard(folder, shard))
    images = Images(folder, rows, 3)
    names = [f"{file}/{n}/{row.name}" for file, each in rows.items() for n, row in enumerate(each)]
    order = np.random.default_rng(0).permutation(len(names))
    virtual = tf.constant([f"{folder}{os.sep}{names[number]}" for number in order])
    files = tf.constant([str(folder / names[n].rpartition("/")[2]) for n in order])
    options = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}

    def together(size: int) -> Any:
        paths = tf.data.Dataset.from_tensor_slices(virtual).batch(size)
        return paths.map(images.gather, **options).unbatch()

    def generated() -> Any:
        paths = [os.fsdecode(path) for path in virtual.numpy()]
        spec = tf.TensorSpec((), tf.string)
        return tf.data.Dataset.from_generator(
            lambda: map(images.read, paths), output_signature=spec
        )

    return {
        "files, tf.io.read_file": lambda: tf.data.Dataset.from_tensor_slices(files).map(
            tf.io.read_file, **options
        ),
        "shards, 1 in a call": lambda: together(1),
        "shards, 16 in a call (training)": lambda: together(16),
        "shards, 256 in a call": lambda: together(256),
        "shards, from_generator": generated,
    }


def _write_shard(folder: Path, shard: Shard) -> Iterator[Row]:
    folder.mkdir(exist_ok=True)
    module = array_record_module("this benchmark")
    writer = module.ArrayRecordWriter(str(folder / shard.file), WRITER_OPTIONS)
    for number in range(shard.stop):
        content, name = os.urandom(_RECORD_BYTES), f"{shard.number}-{number}.jpg"
        read = Read("", "", ())
        writer.write(record_of(Stored(Example(name, (0,), content), content, read, False)))
        (folder / name).write_bytes(content)
        yield Row(name, (0,), read)
    writer.close()


def _rate(data: Any) -> float:
    import tensorflow as tf

    lengths = data.map(tf.strings.length)
    started, count = time.process_time(), 0
    for _ in lengths:
        count += 1
    return count / (time.process_time() - started)


def _process(code: str) -> tuple[float, float, float]:
    """Returns wall time, processor time and the peak of memory in MB of a process."""
    started = time.monotonic()
    program = f"import resource; {code}; r = resource.getrusage(resource.RUSAGE_SELF); "
    program += "print('\\n', r.ru_utime + r.ru_stime, r.ru_maxrss / 1024)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    seconds, memory = map(float, done.stdout.split()[-2:])
    return time.monotonic() - started, seconds, memory


def _print(what: str, wall: float, processor: float, memory: float) -> None:
    print(
        f"{what:36}{wall:>9.1f} s{processor:>9.1f} s of processor time{memory:>9.0f} MB", flush=True
    )
