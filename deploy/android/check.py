"""Checks a file with MediaPipe's Python task, which reads what the Android task reads.

    python -m venv check && check/bin/pip install mediapipe ai-edge-litert pillow
    check/bin/python deploy/android/check.py model.tflite photo.jpg another.jpg

For each picture: the class and probability by MediaPipe on the antialiased centre crop, which
`CentreCrop.java` makes; by MediaPipe on the whole picture; and by LiteRT on the crop. The exit
status is 1 if the labels are missing, or if the probability of the best class differs by more than
`--tolerance`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def main() -> int:
    """Runs the check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a .tflite file with labels, exported with a softmax")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--crop-fraction", type=float, default=1.0, help="preprocess.crop_fraction")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="(%(default)s)")
    args = parser.parse_args()
    classify, run, size = _mediapipe(args.model), *_litert(args.model)
    failed = 0
    for path in args.pictures:
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        part = _centre(picture, size, args.crop_fraction)
        expected = run(np.asarray(part))
        best = int(expected.argmax())
        prepared, whole = classify(part), classify(picture)
        if not prepared[0]:
            print(f"{args.model} has no labels", file=sys.stderr)
            return 1
        agrees = prepared[1] == best
        failed += not agrees or abs(prepared[2] - expected[best]) > args.tolerance
        print(
            f"{path}: MediaPipe {prepared[0]} {prepared[2]:.4f}, on the whole picture "
            f"{whole[0]} {whole[2]:.4f}; LiteRT class {best} {expected[best]:.4f}"
        )
    print(f"{len(args.pictures) - failed} of {len(args.pictures)} pictures agree")
    return int(failed > 0)


def _mediapipe(model: str) -> Any:
    """Returns a function from a picture to label, class number and score."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(
        base_options=BaseOptions(model_asset_path=model), max_results=1
    )
    classifier = vision.ImageClassifier.create_from_options(options)

    def classify(picture: Image.Image) -> tuple[str, int, float]:
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.array(picture))
        (found,) = classifier.classify(image).classifications[0].categories
        return found.category_name or "", found.index, found.score

    return classify


def _litert(model: str) -> tuple[Any, tuple[int, int]]:
    """Returns a function from pixels to probabilities, and the width and height that it takes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], pixels[None].astype(source["dtype"]))
        interpreter.invoke()
        values = interpreter.get_tensor(sink["index"])[0].astype("float32")
        scale, zero_point = sink["quantization"]
        return (values - zero_point) * scale if scale else values

    height, width = (int(side) for side in source["shape"][1:3])
    return run, (width, height)


def _centre(picture: Image.Image, size: tuple[int, int], fraction: float) -> Image.Image:
    scale = fraction * min(picture.width / size[0], picture.height / size[1])
    width, height = (max(1, int(side * scale)) for side in size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    part = picture.crop((left, top, left + width, top + height))
    return part.resize(size, Image.Resampling.BILINEAR)  # antialiased, as CentreCrop.java


if __name__ == "__main__":
    sys.exit(main())
