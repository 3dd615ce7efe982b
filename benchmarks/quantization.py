"""Quantise-aware fine-tuning beside quantisation after training, by the files that result.

Trained nets are quantised to 8 and to 4 bits: after training, in two ways, and by
`keras-resnet train --quantize int8` with the recipe `quantize`, several seeds. Each is measured by
its LiteRT file on the test images, and each file is compared with its Keras model, in steps of the
output. After training, kernels have the scale that reaches the largest weight of a channel, as
LiteRT's converter chooses it, or the one with the smallest squared error; both have the same
ranges of activations, from 512 training images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

_CALIBRATION = 512


@dataclasses.dataclass(frozen=True)
class Measured:
    """A file on the test images.

    Attributes:
        correct: Number of images that it classifies correctly.
        images: Number of images.
        bytes: Its size.
        largest_step: Largest difference of an output from the Keras model, in steps of the output.
        equal: Share of the images whose outputs all equal the model's.
    """

    correct: int
    images: int
    bytes: int
    largest_step: float
    equal: float

    @property
    def accuracy(self) -> float:
        """Share of the images that it classifies correctly."""
        return self.correct / self.images


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A net at a number of bits.

    Attributes:
        weights: The weights.
        bits: Bits of the kernels.
        float_accuracy: Accuracy of the float net.
        after: Files that were quantised after training, by the choice of scales.
        aware: Files of the quantise-aware runs, one per seed.
    """

    weights: str
    bits: int
    float_accuracy: float
    after: dict[str, Measured]
    aware: tuple[Measured, ...]

    def __str__(self) -> str:
        best = max(each.accuracy for each in self.after.values())
        accuracies = [each.accuracy for each in self.aware]
        mean = statistics.mean(accuracies)
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        lost = self.float_accuracy - best
        recovered = f"{(mean - best) / lost:.0%} of the loss" if lost > 0 else "nothing was lost"
        parts = [f"{name} {100 * each.accuracy:.2f} %" for name, each in self.after.items()]
        steps = max(each.largest_step for each in self.aware)
        quantized = f"{100 * mean:.2f} +- {100 * spread:.2f} % ({recovered})"
        return (
            f"{Path(self.weights).name}, {self.bits} bits: float "
            f"{100 * self.float_accuracy:.2f} %; after training: {', '.join(parts)}; "
            f"quantise-aware {quantized}; files within {steps:.0f} step(s) of their models"
        )


def compare(
    weights: list[str],
    dataset: str,
    data_dir: str | None,
    output: Path,
    *,
    bits: list[int],
    seeds: int,
) -> list[Comparison]:
    """Makes the comparison; a run that is there already is not trained again.

    Args:
        weights: Trained nets, as `--weights` takes them, for the classes of the data.
        dataset: The TFDS data set.
        data_dir: Its directory.
        output: Directory of the runs, the files and `quantization.json`.
        bits: Numbers of bits of the kernels.
        seeds: Number of runs of each net and number of bits.
    """
    found = []
    for source in weights:
        for number in bits:
            found.append(_compare(source, dataset, data_dir, output, number, seeds))
            print(found[-1], flush=True)
    record = [dataclasses.asdict(each) for each in found]
    (output / "quantization.json").write_text(json.dumps(record, indent=2) + "\n")
    return found


def _compare(
    source: str, dataset: str, data_dir: str | None, output: Path, bits: int, seeds: int
) -> Comparison:
    import tensorflow_datasets as tfds

    from keras_resnet import from_pretrained, quantize_aware

    def split(name: str) -> Any:
        return tfds.load(dataset, split=name, data_dir=data_dir, batch_size=-1, download=False)

    test, folder = split("test"), output / f"{Path(source).stem}-{bits}"
    pixels, labels = np.asarray(test["image"]), np.asarray(test["label"])
    folder.mkdir(parents=True, exist_ok=True)
    net = from_pretrained(source)
    preprocess: Any = net.preprocess
    logits = net.predict(preprocess.normalize(pixels), verbose=0)
    calibration = np.asarray(split(f"train[:{_CALIBRATION}]")["image"])
    after = {}
    for name in ("largest weight", "squared error"):
        quantized = quantize_aware(net, bits=bits, calibration=preprocess.normalize(calibration))
        if name == "largest weight":
            _reach_largest(quantized, {8: 127, 4: 7}[bits])
        path = folder / f"{name.replace(' ', '_')}.tflite"
        after[name] = measure(quantized, preprocess, pixels, labels, path)
    aware = []
    for seed in range(seeds):
        quantized = _trained(source, dataset, data_dir, folder / f"seed-{seed}", bits, seed)
        aware.append(measure(quantized, preprocess, pixels, labels, folder / f"seed-{seed}.tflite"))
    accuracy = float((logits.argmax(-1) == labels).mean())
    return Comparison(source, bits, accuracy, after, tuple(aware))


def _reach_largest(model: Any, largest: int) -> None:
    """Sets the scales of all kernels to those that reach the largest weights, in place."""
    for layer in model.layers:
        if hasattr(layer, "scales"):
            kernel = np.abs(np.asarray(layer.kernel))
            layer.scales.assign(kernel.reshape(-1, kernel.shape[-1]).max(axis=0) / largest)


def _trained(
    source: str, dataset: str, data_dir: str | None, path: Path, bits: int, seed: int
) -> Any:
    """Trains one quantise-aware run and returns its net."""
    import keras

    from keras_resnet_train.finetuning import finetuning
    from keras_resnet_train.rundir import open_run
    from keras_resnet_train.session import run_training

    changes = {
        "model.weights": source,
        "data.dataset": dataset,
        "data.data_dir": data_dir,
        "quantize.scheme": "int8",
        "quantize.bits": bits,
        "seed": seed,
        "checkpoint.every_steps": 0,
    }
    config = finetuning("auto", None, changes, path)
    with contextlib.redirect_stdout(io.StringIO()):
        run_training(config, path)
    keras.backend.clear_session()
    return open_run(path).model


def measure(
    model: Any, preprocess: Any, pixels: np.ndarray, labels: np.ndarray, path: Path
) -> Measured:
    """Exports a quantise-aware net and runs the file beside it on images.

    Args:
        model: A net made by `quantize_aware`.
        preprocess: Its preprocessing.
        pixels: uint8 images, `(images, height, width, channels)`.
        labels: Their class numbers.
        path: File to write.
    """
    from ai_edge_litert.interpreter import Interpreter

    from keras_resnet.export import export_tflite

    export_tflite(model, path, precision="int8", preprocess=preprocess)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = returned["quantization"]
    logits = []
    for image in pixels:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        logits.append(
            (interpreter.get_tensor(returned["index"])[0].astype("float32") - zero) * scale
        )
    expected = model.predict(preprocess.normalize(pixels), verbose=0)
    steps = np.abs(np.stack(logits) - expected) / scale
    correct = int((np.argmax(logits, axis=-1) == labels).sum())
    equal = float((steps.max(axis=-1) < 0.5).mean())
    return Measured(correct, len(labels), path.stat().st_size, float(steps.max()), equal)
