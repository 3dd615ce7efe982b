"""The command line `keras-resnet`, also `python -m train` from a checkout."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from .errors import reported

# Command -> module below `commands` and what the overview says; a module is imported only when its
# command is given, because it brings Keras and TensorFlow with it.
COMMANDS = {
    "train": ("train", "train a net, or go on training it"),
    "evaluate": ("evaluate", "measure a run on a split"),
    "export": ("export", "write verified SavedModel, LiteRT and ONNX files"),
    "predict": ("predict", "name the classes of image files"),
    "report": ("report", "write a run's report.html anew"),
    "quickstart": ("quickstart", "train on the embedded digits, export and report"),
    "convert": ("convert", "take weights of another library, or give them, with a certificate"),
    "study": ("study", "compare nets, and see why deep ones train"),
    "bench": ("bench", "measure speed beside others, what depth costs, and counts"),
    "tune": ("tune", "search nets and recipes within limits and a budget"),
    "list": ("list_nets", "list the nets"),
    "info": ("info", "say what a net is and costs"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 0 for success; 1 after one line that names the error; 2 for a wrong use of
        the options; 130 after an interrupt, when the state of a training run is saved.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Before anything imports Keras or TensorFlow: both read these once.
    if importlib.util.find_spec("tensorflow"):
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    name = words[0] if words and words[0] in COMMANDS else None
    if name is None:
        _overview().parse_args(words)
        return 2  # not reached: the overview has no command that it could run
    debug = "--debug" in words
    with reported(name, debug=debug) as outcome:
        with _quiet_start():
            module = importlib.import_module(f".commands.{COMMANDS[name][0]}", __package__)
            _look_for_devices()
        parser = argparse.ArgumentParser(
            prog=f"keras-resnet {name}", description=module.COMMAND.help
        )
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.COMMAND.add_arguments(parser)
        outcome.status = module.COMMAND.run(parser.parse_args(words[1:]))
    return outcome.status


def _overview() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-resnet", description="Train, evaluate and export residual networks."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("keras3-resnet")
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _look_for_devices() -> None:
    """Makes TensorFlow say now, where it is held back, that a machine without a GPU has none."""
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Holds back what TensorFlow's C++ code prints while it loads; shows it if that fails.

    It logs before any level applies: which CPU instructions it has, that there is no GPU.
    """
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception as error:
            held.seek(0)
            if not isinstance(error, ModuleNotFoundError):
                os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
