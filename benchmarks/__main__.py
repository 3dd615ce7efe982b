"""`python -m benchmarks`: compare speed with other libraries, and check counts."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_resnet.export import CLIENTS
from keras_resnet.nets.catalog import nearest

from . import counts
from .clients import NETS as CLIENT_NETS
from .comparison.sections import BESIDE_PEERS, SECTIONS
from .comparison.settings import FULL, PEERS, QUICK, Settings
from .kills import ENGINES
from .kills import run as kill_workers
from .reading_kills import run as kill_readers
from .remote_kills import run as kill_remote_runs
from .run_kills import run as kill_runs
from .saving import run as time_saving


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 0 for success, 1 after an error, 130 after an interrupt.
    """
    args = _parser().parse_args(argv)
    # SIGTERM as Ctrl-C: workers are ended and files removed.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return int(args.run(args))
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare = commands.add_parser("compare", help="measure speed beside other libraries")
    _add_compare_options(compare)
    compare.set_defaults(run=_compare)
    count = commands.add_parser("counts", help="check counts of operations, layers and bytes")
    _add_counts_options(count)
    count.set_defaults(run=_counts)
    finetune = commands.add_parser(
        "finetune", help="compare fine-tuning with training from random weights"
    )
    _add_finetune_options(finetune)
    finetune.set_defaults(run=_finetune)
    client = commands.add_parser("clients", help="run exported files by the clients' own runtimes")
    _add_client_options(client)
    client.set_defaults(run=_clients)
    int8 = commands.add_parser("int8", help="compare int8 files with other quantisers' files")
    int8.add_argument("weights", nargs="+", help="files of weights")
    int8.add_argument("--dataset", default="cifar10", help="TFDS data set (default: cifar10)")
    int8.add_argument("--data-dir", help="directory of TFDS data sets")
    int8.add_argument("--calibration", type=_at_least(1), default=512, help="default: 512")
    int8.set_defaults(run=_int8)
    quantize = commands.add_parser(
        "quantize", help="compare quantise-aware fine-tuning with quantisation after training"
    )
    _add_quantize_options(quantize)
    quantize.set_defaults(run=_quantize)
    flipped = commands.add_parser("flips", help="open damaged files in every public way")
    flipped.add_argument("kinds", nargs="*", metavar="KIND", help="default: all kinds of file")
    flipped.add_argument("--files", type=_at_least(1), default=200, help="of each kind (200)")
    flipped.add_argument("--every-way", action="store_true", help="each file in each way, in turn")
    flipped.add_argument("--output", type=Path, metavar="FILE", help="write the table as CSV")
    flipped.set_defaults(run=_flips)
    data = commands.add_parser(
        "data", help="measure starts on a folder of many files, and records of shards per second"
    )
    data.add_argument("--images", type=_at_least(1000), default=200_000, help="default: 200,000")
    data.add_argument("--records", type=_at_least(4), default=8000, help="default: 8,000")
    data.add_argument("--folder", type=Path, help="where they are written, and removed again")
    data.set_defaults(run=_data)
    kills = commands.add_parser(
        "kills", help="kill workers of a run at random moments, and compare the final weights"
    )
    kills.add_argument(
        "--repeats",
        type=_at_least(1),
        default=3,
        help="of each kind; of all kills under `train` (default: 3)",
    )
    kills.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    kills.add_argument(
        "--under",
        choices=(*ENGINES, "train"),
        default="launch",
        help="what starts the workers; train: one process (%(default)s)",
    )
    kills.add_argument(
        "--strategy", default="one-device", help="under train: one-device or cpu:2 (%(default)s)"
    )
    kills.add_argument(
        "--images",
        type=_at_least(500),
        metavar="N",
        help="under launch: kill while the workers read a folder of N images (try 3000)",
    )
    kills.set_defaults(run=_kills)
    remote = commands.add_parser(
        "remote-kills", help="kill a run in an object store at random moments"
    )
    remote.add_argument("--kills", type=_at_least(1), default=10, help="default: 10")
    remote.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    remote.add_argument("--url", help="an empty place (default: a temporary folder)")
    remote.set_defaults(run=lambda args: kill_remote_runs(args.kills, args.seed, args.url))
    saving = commands.add_parser("saving", help="time what saving the state of a run costs")
    saving.add_argument("--net", default="resnet50", help="default: resnet50")
    saving.add_argument("--size", type=_at_least(32), default=224, help="default: 224")
    saving.add_argument("--batch", type=_at_least(1), default=16, help="default: 16")
    saving.add_argument("--steps", type=_at_least(1), default=4, help="after a save (default: 4)")
    saving.add_argument("--repeats", type=_at_least(1), default=5, help="default: 5")
    saving.set_defaults(
        run=lambda args: time_saving(args.net, args.size, args.batch, args.steps, args.repeats)
    )
    streams = commands.add_parser("streams", help="read record files as several workers do")
    _add_stream_options(streams)
    streams.set_defaults(run=_streams)
    return parser


def _kills(args: argparse.Namespace) -> int:
    if args.under == "train":
        return kill_runs(args.repeats, args.seed, args.strategy)
    if args.images:
        return kill_readers(args.images, args.repeats, args.seed)
    return kill_workers(args.repeats, args.seed, args.under)


def _data(args: argparse.Namespace) -> int:
    from .data_starts import run

    return run(args.images, args.records, args.folder)


def _add_stream_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        nargs="+",
        type=_at_least(1),
        default=[1, 2, 4, 16],
        help="numbers of workers that read files, a power of two each (default: 1 2 4 16)",
    )
    parser.add_argument("--files", type=_at_least(1), default=64, help="default: 64")
    parser.add_argument("--records", type=_at_least(1), default=64, help="in each file (64)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models/streams"),
        help="directory of the tables (default: saved_models/streams)",
    )


def _streams(args: argparse.Namespace) -> int:
    from .streams import run

    return run(args.output, args.workers, args.files, args.records)


def _flips(args: argparse.Namespace) -> int:
    from .damaged_files import KINDS
    from .flips import run

    unknown = sorted(set(args.kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"KIND must be of {', '.join(KINDS)}. Received: {unknown[0]}")
    return run(args.kinds, args.files, args.every_way, args.output)


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sections",
        nargs="*",
        type=_one_of(SECTIONS),
        metavar="SECTION",
        help=f"{', '.join(SECTIONS)}; by default {', '.join(BESIDE_PEERS)}",
    )
    parser.add_argument("--rounds", type=_at_least(5), default=5, help="5 or more (default: 5)")
    parser.add_argument(
        "--threads",
        type=_at_least(1),
        default=os.cpu_count() or 1,
        help="threads of each library (default: all cores)",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        type=_one_of(PEERS),
        metavar="PEER",
        help=f"{', '.join(PEERS)}; all by default, none where the list is empty",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the command")
    parser.add_argument(
        "--limit",
        type=_positive,
        default=900.0,
        help="seconds that one set-up or measurement may take (default: 900)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models/bench"),
        help="directory of the report (default: saved_models/bench)",
    )


def _add_counts_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "nets",
        nargs="*",
        type=_one_of(counts.NETS),
        metavar="NET",
        help=f"{', '.join(counts.NETS)}; all by default",
    )
    parser.add_argument("--record", action="store_true", help="write the counts, do not check them")
    parser.add_argument(
        "--file",
        type=Path,
        default=counts.RECORD,
        help="the recorded counts (default: benchmarks/counts.json)",
    )


def _add_finetune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, help="trained on CIFAR-10, as `train` takes")
    parser.add_argument("--dataset", default="cifar10", help="TFDS data set (default: cifar10)")
    parser.add_argument("--data-dir", help="directory of TFDS data sets")
    parser.add_argument("--images", type=_at_least(10), default=500, help="default: 500")
    parser.add_argument("--seeds", type=_at_least(1), default=3, help="default: 3")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models/finetune"),
        help="directory of the runs (default: saved_models/finetune)",
    )


def _add_client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", nargs="*", type=_one_of(CLIENT_NETS), metavar="NET")
    parser.add_argument("--client", nargs="*", type=_one_of(CLIENTS), metavar="CLIENT")
    parser.add_argument("--shared", type=Path, required=True, help="has weights/ and tfds/")
    parser.add_argument("--quickstart", type=Path, help="a run of `keras-resnet quickstart`")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models/clients.csv"),
        help="CSV file (default: saved_models/clients.csv)",
    )


def _clients(args: argparse.Namespace) -> int:
    from . import clients

    nets, names = args.nets or CLIENT_NETS, args.client or list(CLIENTS)
    clients.run(nets, names, args.shared, args.quickstart, args.output)
    return 0


def _int8(args: argparse.Namespace) -> int:
    from .int8_quality import compare_quantizers

    compare_quantizers(args.weights, args.dataset, args.data_dir, args.calibration)
    return 0


def _finetune(args: argparse.Namespace) -> int:
    from .fine_tuning import compare

    compare(
        args.weights,
        args.dataset,
        args.data_dir,
        args.output,
        images=args.images,
        seeds=args.seeds,
    )
    return 0


def _add_quantize_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        nargs="+",
        required=True,
        help="nets trained on the classes of the data, as `train` takes them",
    )
    parser.add_argument("--dataset", default="cifar10", help="TFDS data set (default: cifar10)")
    parser.add_argument("--data-dir", help="directory of TFDS data sets")
    parser.add_argument(
        "--bits", nargs="+", type=int, choices=(8, 4), default=[8, 4], help="default: 8 4"
    )
    parser.add_argument("--seeds", type=_at_least(1), default=3, help="default: 3")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models/quantize"),
        help="directory of the runs (default: saved_models/quantize)",
    )


def _quantize(args: argparse.Namespace) -> int:
    from .quantization import compare

    compare(
        args.weights,
        args.dataset,
        args.data_dir,
        args.output,
        bits=args.bits,
        seeds=args.seeds,
    )
    return 0


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Returns a type of argparse; `choices` rejects an empty list of positional arguments."""

    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"unknown {text!r}. {nearest(text, list(names))}")
        return text

    return name


def _at_least(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}. Received: {text}")
        return int(text)

    return integer


def _positive(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"must be above 0. Received: {text}")
    return float(text)


def _compare(args: argparse.Namespace) -> int:
    import tensorflow as tf

    from .comparison.run import run_comparisons

    peers: Any = PEERS if args.peers is None else args.peers
    settings = Settings(
        QUICK if args.quick else FULL,
        args.threads,
        folder="",
        peers=tuple(peers),
        gpus=len(tf.config.list_physical_devices("GPU")),
    )
    sections = args.sections or BESIDE_PEERS
    return run_comparisons(
        [section for section in SECTIONS if section in sections],
        settings,
        args.output,
        rounds=args.rounds,
        limit=args.limit,
    )


def _counts(args: argparse.Namespace) -> int:
    names = args.nets or list(counts.NETS)
    if args.record:
        counts.record_counts(names, args.file)
    else:
        counts.check_counts(names, args.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
