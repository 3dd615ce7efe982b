"""`keras-resnet launch`: several workers of one training run on this machine."""

from __future__ import annotations

import argparse
import os
import sys

from ..command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=int, required=True, metavar="N", help="number of workers to start"
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=3,
        metavar="K",
        help="how often all workers start again from the last checkpoint after one was lost: "
        "killed, or ended with a status from 128 up (%(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="seconds to end after a signal, until workers are killed (%(default)s)",
    )
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- train ...",
        help="the command of each worker; --strategy multi-worker is added",
    )


def _run(args: argparse.Namespace) -> int:
    from ..launcher import Launcher

    for name, value, least in (
        ("--workers", args.workers, 1),
        ("--max-restarts", args.max_restarts, 0),
        ("--grace", args.grace, 0),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {value}")
    start = [sys.executable, "-m", "keras_resnet_train.launched", str(os.getpid())]
    launcher = Launcher(
        [*start, *worker_words(args.words)],
        args.workers,
        max_restarts=args.max_restarts,
        grace=args.grace,
        words_again=("--resume", "auto"),
    )
    return launcher.run()


def worker_words(words: list[str], command: str = "launch") -> list[str]:
    """Returns the command of each worker.

    Args:
        words: What stands behind the command's options, with or without `--` before it.
        command: Name of the command that starts the workers.

    Raises:
        ValueError: If it is not `train`, or has another strategy than `multi-worker`.
    """
    words = words[1:] if words[:1] == ["--"] else list(words)
    if words[:1] != ["train"]:
        raise ValueError(
            f"`{command}` starts the workers of a training: keras-resnet {command} --workers 2 -- "
            f"train --output RUN. Received: {' '.join(words) or 'no command'}"
        )
    for index, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--folds", "--dry-run"):
            raise ValueError(f"`{command}` trains one run: drop `{name}`")
        if name == "--strategy":
            given = value or "".join(words[index + 1 : index + 2])
            if given != "multi-worker":
                raise ValueError(
                    f"`{command}` trains with --strategy multi-worker. Received: {given!r}"
                )
    return [*words, "--strategy", "multi-worker"]


COMMAND = Command(_add_arguments, _run)
