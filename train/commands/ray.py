"""`keras-resnet ray`: a training run on the workers of a Ray cluster, or of a Ray made here."""

from __future__ import annotations

import argparse

from ..command import Command
from ..errors import PeerLostError
from ..remote.arguments import remote_arguments
from .launch import worker_words
from .train import COMMAND as TRAIN


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, required=True, metavar="N", help="number of workers")
    parser.add_argument(
        "--gpus", type=float, default=0, metavar="N", help="GPUs of each worker (%(default)s)"
    )
    parser.add_argument(
        "--cpus", type=float, default=1, metavar="N", help="CPUs of each worker (%(default)s)"
    )
    parser.add_argument(
        "--max-failures",
        type=int,
        default=3,
        metavar="K",
        help="how often all workers start again from the last checkpoint after one was lost; -1 "
        "for no limit (%(default)s)",
    )
    parser.add_argument(
        "--address",
        help="address of a Ray cluster, or auto; without it and RAY_ADDRESS, Ray starts here",
    )
    parser.add_argument(
        "--storage",
        metavar="DIRECTORY",
        help="where Ray keeps reports and copies of checkpoints (ray beside the output)",
    )
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- train ...",
        help="the training, as a command; --strategy multi-worker is added",
    )


def _run(args: argparse.Namespace) -> int:
    parser = argparse.ArgumentParser(prog="keras-resnet ray -- train")
    TRAIN.add_arguments(parser)
    words = parser.parse_args(worker_words(args.words, "ray")[1:])
    with remote_arguments("train", words):
        return _run_training(args, words)


def _run_training(args: argparse.Namespace, words: argparse.Namespace) -> int:
    from ..ray_training import check_result, ray_trainer
    from ..run_options import configuration, resumed

    if words.output is None:
        raise ValueError("Give --output, a directory that all workers share")
    config = resumed(configuration(words), words, words.output)
    trainer = ray_trainer(
        config,
        words.output,
        workers=args.workers,
        gpus=args.gpus,
        cpus=args.cpus,
        max_failures=args.max_failures,
        storage=args.storage,
        resume=words.resume,
    )
    import ray
    import ray.train

    if not ray.is_initialized():
        ray.init(address=args.address)
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        cause = [line for line in str(error).splitlines() if line.strip()][-1].strip()
        raise PeerLostError(
            f"No restart is left of {args.max_failures}; the last checkpoint remains. {cause}"
        ) from error
    print(f"Run: {check_result(result)}")
    return 0


COMMAND = Command(_add_arguments, _run)
