"""`keras-resnet evaluate`: accuracy, top-5 and loss of a run on a split, with an interval."""

from __future__ import annotations

import argparse
import json

from .command import Command, add_data_overrides, add_run, run_data


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_data_overrides(parser)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print JSON, confusion matrix included")


def _run(args: argparse.Namespace) -> int:
    from ..evaluation import evaluate
    from ..rundir import open_run

    if args.batch_size < 1:
        raise ValueError(f"`--batch-size` must be at least 1. Received: {args.batch_size}")
    run = open_run(args.run, args.checkpoint)
    data = run_data(run, args)
    found = evaluate(
        run.model, data.split(args.split), run.preprocess, batch_size=args.batch_size
    ).to_dict()
    if run.weights == "model.keras" and args.dataset is None:
        run.directory.update_metrics(**{args.split: found})
    if args.json:
        print(json.dumps(found))
        return 0
    low, high = found["accuracy_interval"]
    print(f"{run.spec.name} ({run.weights}) on {data.name}, {args.split} split")
    print(f"images    {found['examples']}")
    print(f"accuracy  {found['accuracy']:.4f}  (95 % interval {low:.4f} to {high:.4f})")
    print(f"top-5     {found['top5_accuracy']:.4f}")
    print(f"loss      {found['loss']:.4f}")
    return 0


COMMAND = Command("evaluate", "measure a run on a split", _add_arguments, _run)
