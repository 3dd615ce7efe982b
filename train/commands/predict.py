"""`keras-resnet predict`: classify image files."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..command import Command, add_run


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="a JPEG, PNG, BMP or GIF file"
    )
    parser.add_argument(
        "--top", type=int, default=3, help="classes to print per image (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")


def _run(args: argparse.Namespace) -> int:
    import tensorflow as tf

    from ..data.images import decode, fit
    from ..rundir import open_run

    missing = [str(path) for path in args.images if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"No file at {', '.join(missing)}")
    run = open_run(args.run, args.checkpoint)
    channels = run.model.inputs[0].shape[-1]
    top = max(1, min(args.top, len(run.class_names)))
    failed = 0
    for path in args.images:
        try:
            image = fit(decode(tf.io.read_file(str(path)), channels), run.preprocess)
        except tf.errors.OpError as error:
            print(f"{path}: unreadable: {error.message.splitlines()[0]}", file=sys.stderr)
            failed += 1
            continue
        logits = run.model(run.preprocess.normalize(image)[None], training=False)
        probabilities = tf.nn.softmax(logits[0]).numpy()
        order = (-probabilities).argsort()[:top]
        classes = [(run.class_names[i], float(probabilities[i])) for i in order]
        if args.json:
            print(json.dumps({"image": str(path), "classes": dict(classes)}))
        else:
            print(f"{path}: " + ", ".join(f"{name} {share:.1%}" for name, share in classes))
    return 1 if failed else 0


COMMAND = Command(_add_arguments, _run)
