"""`keras-resnet bench`: speed beside others, what depth costs, and counts that noise leaves alone.

`bench [SECTION ...]` is the comparison, `bench depth` and `bench counts` are the other two. Their
options share one parser, which keeps `bench --quick` and `bench train --rounds 9` plain; an option
that the part asked for does not have is an error.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.nets.catalog import nearest

from ..command import Command, comma_separated

_SECTIONS = ("train", "inference", "pipeline", "start", "checkpoint")
# Option -> parts that take it.
_TAKEN = {
    "rounds": ("comparison",),
    "threads": ("comparison",),
    "peers": ("comparison",),
    "quick": ("comparison",),
    "output": ("comparison", "depth"),
    "limit": ("comparison", "depth"),
    "depths": ("depth",),
    "batch_size": ("depth",),
    "steps": ("depth",),
    "check": ("counts",),
    "record": ("counts",),
    "nets": ("counts",),
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="*",
        metavar="SECTION",
        help=f"{', '.join(_SECTIONS)} (all of them by default); or depth; or counts",
    )
    parser.add_argument(
        "--output", type=Path, help="directory of the report; saved_models/bench[-depth] by default"
    )
    parser.add_argument(
        "--limit",
        type=float,
        help="seconds that one contender's setting up or turn, or one depth, may take (900)",
    )
    comparison = parser.add_argument_group("comparison")
    comparison.add_argument("--rounds", type=int, help="turns that count, 5 or more (5)")
    comparison.add_argument("--threads", type=int, help="of each library; all cores by default")
    comparison.add_argument(
        "--peers",
        help="who takes part besides: keras-io, applications, keras, keras-hub, torch, "
        "onnxruntime, openvino, or none; all by default",
    )
    comparison.add_argument(
        "--quick", action="store_true", default=None, help="tiny sizes, to try the command"
    )
    depth = parser.add_argument_group("depth")
    depth.add_argument("--depths", help="layers of the nets (20,56,110,218,434,1202)")
    depth.add_argument("--batch-size", type=int, help="images a step (32)")
    depth.add_argument("--steps", type=int, help="steps whose median time counts (5)")
    counts = parser.add_argument_group("counts")
    counts.add_argument(
        "--check",
        type=Path,
        metavar="JSON",
        nargs="?",
        const=Path("benchmarks/counts.json"),
        help="compare with recorded counts; fails on a difference (benchmarks/counts.json)",
    )
    counts.add_argument(
        "--record",
        type=Path,
        metavar="JSON",
        nargs="?",
        const=Path("benchmarks/counts.json"),
        help="write the counts (benchmarks/counts.json)",
    )
    counts.add_argument("--nets", help="some of them, by name; all by default")


def _run(args: argparse.Namespace) -> int:
    part = _part(args.what)
    for option, parts in _TAKEN.items():
        if getattr(args, option) is not None and part not in parts:
            raise ValueError(
                f"`--{option.replace('_', '-')}` is no option of this part of bench. It belongs "
                f"to the {' and the '.join(parts)}"
            )
    limit = 900.0 if args.limit is None else args.limit
    if not limit > 0:
        raise ValueError(f"`--limit` must be above 0. Received: {limit}")
    return {"comparison": _comparison, "depth": _depth, "counts": _counts}[part](args, limit)


def _part(what: Sequence[str]) -> str:
    known = [*_SECTIONS, "depth", "counts"]
    for word in what:
        if word not in known:
            raise ValueError(f"Unknown section {word!r}. {nearest(word, known)}")
    alone = [word for word in what if word not in _SECTIONS]
    if alone and len(what) > 1:
        raise ValueError(f"`bench {alone[0]}` stands alone. Received: {' '.join(what)}")
    return alone[0] if alone else "comparison"


def _comparison(args: argparse.Namespace, limit: float) -> int:
    import tensorflow as tf

    from ..benchmark.comparison import run_comparison
    from ..benchmark.setting import FULL, QUICK, Setting

    rounds = 5 if args.rounds is None else args.rounds
    if rounds < 5:
        raise ValueError(f"`--rounds` must be at least 5. Received: {rounds}")
    threads = (os.cpu_count() or 1) if args.threads is None else args.threads
    if threads < 1:
        raise ValueError(f"`--threads` must be at least 1. Received: {threads}")
    setting = Setting(
        QUICK if args.quick else FULL,
        threads,
        "",
        _peers(args.peers),
        len(tf.config.list_physical_devices("GPU")),
    )
    output = args.output or Path("saved_models/bench")
    sections = [section for section in _SECTIONS if section in args.what or not args.what]
    return run_comparison(sections, setting, output, rounds=rounds, limit=limit)


def _peers(text: str | None) -> tuple[str, ...]:
    from ..benchmark.setting import PEERS

    if text is None:
        return tuple(PEERS)
    wanted = [] if text == "none" else comma_separated(text)
    for name in wanted:
        if name not in PEERS:
            raise ValueError(f"Unknown peer {name!r}. {nearest(name, list(PEERS))}")
    return tuple(name for name in PEERS if name in wanted)


def _depth(args: argparse.Namespace, limit: float) -> int:
    from ..studies.depth_cost import DepthPlan, run_depths
    from ..studies.options import depths_of

    plan = DepthPlan(
        depths_of(args.depths, (20, 56, 110, 218, 434, 1202)),
        limit,
        batch_size=32 if args.batch_size is None else args.batch_size,
        steps=5 if args.steps is None else args.steps,
    )
    return run_depths(plan, args.output or Path("saved_models/bench-depth"))


def _counts(args: argparse.Namespace, limit: float) -> int:
    from ..benchmark.counts import run_counts

    names = None if args.nets is None else comma_separated(args.nets)
    return run_counts(names, check=args.check, record=args.record)


COMMAND = Command(_add_arguments, _run)
