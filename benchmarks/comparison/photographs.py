"""JPEG files to images of the net's size, as each library does it for evaluation.

Each image is resized by its shorter side and cropped to the centre. The processor time of the
process is measured, in one process: other programs on the machine change it little.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .keras_common import time_batches
from .workload import PhaseTimer, Runner, Workload

LARGE, USUAL = "photographs-4000x3000", "photographs-500x375"
_SIZES = {LARGE: (4000, 3000), USUAL: (500, 375)}  # a telephone's; the usual one of ImageNet
_FILES = 16


def write_photographs(workload: Workload, path: Path) -> None:
    """Writes 16 files of smooth noise with grain, in quality 90."""
    from PIL import Image

    path.mkdir(parents=True, exist_ok=True)
    width, height = _SIZES[path.name]
    rng = np.random.default_rng(0)
    for number in range(_FILES):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype="uint8"))
        scene = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), "int16")
        grain = rng.integers(-6, 7, (height, width, 1), dtype="int16")
        image = Image.fromarray(np.clip(scene + grain, 0, 255).astype("uint8"))
        image.save(path / f"{number:02d}.jpg", quality=90)


def bare(workload: Workload, timer: PhaseTimer) -> Runner:
    """TensorFlow's decoder alone, all pixels, by the fast transform."""
    with timer("import"):
        import tensorflow as tf
    return _mapped(workload, lambda content: tf.io.decode_jpeg(content, channels=3)[:1, :1])


def scaled(workload: Workload, timer: PhaseTimer) -> Runner:
    """This package's evaluation pipeline: large JPEGs at a fraction of their size."""
    return _ours(workload, timer, scaled=True)


def whole(workload: Workload, timer: PhaseTimer) -> Runner:
    """This package's evaluation pipeline with `data.large_jpeg=whole`."""
    return _ours(workload, timer, scaled=False)


def cropped(workload: Workload, timer: PhaseTimer) -> Runner:
    """This package's training pipeline: a random crop of each file, mirrored at random."""
    with timer("import"):
        from keras_resnet import PreprocessSpec
        from keras_resnet_train.config import AugmentConfig
        from keras_resnet_train.data import Share, TrainingPlan, pixel_batches
        from keras_resnet_train.data.decoding import Decoding
        from keras_resnet_train.data.sources import FileSource
    source = FileSource(_paths(workload), np.zeros(_FILES, "int64"), decoding=Decoding(scaled=True))
    preprocess = PreprocessSpec((workload.size, workload.size))
    plan = TrainingPlan(preprocess, AugmentConfig("resized", flip=True), 3, 0, 0, 10**6, 2)
    return Runner(time_batches(pixel_batches(source, plan, Share(1)), workload))


def keras_resize(workload: Workload, timer: PhaseTimer) -> Runner:
    """All pixels, then Keras's `smart_resize`, which crops first and does not antialias."""
    with timer("import"):
        import keras
        import tensorflow as tf
    size = (workload.size, workload.size)
    return _mapped(
        workload,
        lambda content: keras.preprocessing.image.smart_resize(
            tf.io.decode_jpeg(content, channels=3), size
        ),
    )


def pillow(workload: Workload, timer: PhaseTimer) -> Runner:
    """Pillow's decoder, then `Resize` and `CenterCrop` of torchvision's v2, antialiased."""
    return _torchvision(workload, timer, draft=False)


def pillow_draft(workload: Workload, timer: PhaseTimer) -> Runner:
    """The same, with Pillow's `draft`: the decoder's 1/2, 1/4 or 1/8 above the size."""
    return _torchvision(workload, timer, draft=True)


def _ours(workload: Workload, timer: PhaseTimer, *, scaled: bool) -> Runner:
    with timer("import"):
        from keras_resnet import PreprocessSpec
        from keras_resnet_train.data.decoding import Decoding
        from keras_resnet_train.data.scaled import decode_and_fit
    preprocess = PreprocessSpec((workload.size, workload.size))
    decoding = Decoding(scaled=scaled)
    return _mapped(workload, lambda content: decode_and_fit(content, 3, preprocess, decoding))


def _mapped(workload: Workload, convert: Callable[[Any], Any]) -> Runner:
    import tensorflow as tf

    files = tf.data.Dataset.from_tensor_slices(list(_paths(workload))).repeat()
    images = files.map(lambda path: convert(tf.io.read_file(path)), tf.data.AUTOTUNE)
    return Runner(time_batches(images, workload))


def _torchvision(workload: Workload, timer: PhaseTimer, *, draft: bool) -> Runner:
    with timer("import"):
        from PIL import Image
        from torchvision.transforms import v2
    change = v2.Compose(
        [v2.Resize(workload.size, antialias=True), v2.CenterCrop(workload.size), v2.PILToTensor()]
    )

    class Endless:
        """Images, again and again."""

        def __iter__(self) -> Iterator[Any]:
            for path in itertools.cycle(_paths(workload)):
                with Image.open(path) as file:
                    if draft:
                        file.draft("RGB", (2 * workload.size, 2 * workload.size))
                    picture = file.convert("RGB")
                yield change(picture)

    return Runner(time_batches(Endless(), workload))


def _paths(workload: Workload) -> tuple[str, ...]:
    return tuple(str(path) for path in sorted(Path(workload.folder, workload.mode).glob("*.jpg")))
