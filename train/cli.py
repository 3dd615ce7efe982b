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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .commands import COMMANDS, Entry
from .errors import reported
from .remote.arguments import remote_arguments
from .signals import stopped_by_signals
from .terminal import escaping_terminal

# In order of preference. Training needs the first; `list` and `info` run on any.
_BACKENDS = ("tensorflow", "jax", "torch")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 0 for success; 1 after one line that names the error; 2 for a wrong use of
        the options; 3 after training diverged; 130 after a signal that asks to stop, when the state
        of a training run is saved; 138 if another worker of the run was lost; 140 if a run has
        ended and some of its files could not be uploaded to its object store.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Before anything imports Keras or TensorFlow: both read these once.
    installed = (backend for backend in _BACKENDS if importlib.util.find_spec(backend))
    os.environ.setdefault("KERAS_BACKEND", next(installed, "tensorflow"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = _Parser(prog="keras-resnet", description="Train, evaluate and export residual nets.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    parser.add_commands(COMMANDS)
    debug = "--debug" in words
    name = words[0] if words else ""
    # A training is stopped by one status also while TensorFlow and the weights are loaded.
    stops = stopped_by_signals() if name == "train" else contextlib.nullcontext()
    with escaping_terminal(), reported(name, debug=debug) as outcome, stops:
        args, unknown = parser.parse_known_args(words)
        if unknown:
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        with remote_arguments(words[0], args):
            outcome.status = args.command.run(args)
    if argv is None:
        end_failed_worker(outcome.status)
    return outcome.status


def end_failed_worker(status: int) -> None:
    """Ends this process at once if it is one of several workers and has failed.

    TensorFlow may wait for the other workers, without limit, when the interpreter exits.
    """
    if status != 0 and os.environ.get("TF_CONFIG"):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


class _Parser(argparse.ArgumentParser):
    """A parser that imports its command's module, and adds its options, when it parses."""

    def __init__(self, *args: Any, module: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self._module = module

    def add_commands(self, table: Mapping[str, Entry]) -> None:
        """Adds one sub-command for each row of the table."""
        commands = self.add_subparsers(required=True, metavar="COMMAND")
        for name, entry in table.items():
            parser = commands.add_parser(
                name, help=entry.help, description=entry.help, module=entry.module
            )
            parser.add_argument("--debug", action="store_true", help="show an error's traceback")
            if entry.commands:
                parser.add_commands(entry.commands)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, but that options of a command may stand between its names."""
        if not self._module:
            return super().parse_known_args(args, namespace)
        with _quiet_start():
            command = importlib.import_module(f".{self._module}", __package__).COMMAND
            _look_for_devices()
        command.add_arguments(self)
        self.set_defaults(command=command, parser=self)
        if any(action.nargs == argparse.REMAINDER for action in self._actions):
            return super().parse_known_args(args, namespace)
        return self._parse_in_any_order(list(args), namespace)

    def _parse_in_any_order(self, words: list[str], namespace: Any) -> tuple[Any, list[str]]:
        """Parses the options first, and then the names between and behind them.

        argparse takes the names before the first option for all there are. Its
        `parse_known_intermixed_args` works as this does, but loses a name with a hyphen after `--`
        where no name precedes that.
        """
        end = words.index("--") if "--" in words else len(words)
        names = [action for action in self._actions if not action.option_strings]
        options = [action for action in self._actions if action.required and action.option_strings]
        kept = [(action.nargs, action.default) for action in names]
        usage, self.usage = self.usage, self.usage or self.format_usage().partition(": ")[2]
        for action in names:
            action.nargs = action.default = argparse.SUPPRESS
        try:
            namespace, rest = super().parse_known_args(words[:end], namespace)
        finally:
            for action, (nargs, default) in zip(names, kept, strict=True):
                action.nargs, action.default = nargs, default
        unknown = [word for word in rest if word.startswith("-") and word != "-"]
        found = [word for word in rest if word not in unknown] + words[end + 1 :]
        for action in options:
            action.required = False
        try:
            namespace, more = super().parse_known_args(["--", *found] if found else [], namespace)
        finally:
            self.usage = usage
            for action in options:
                action.required = True
        return namespace, [*unknown, *(word for word in more if word != "--")]


def _version() -> str:
    try:
        return importlib.metadata.version("keras3-resnet")
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _look_for_devices() -> None:
    """Has TensorFlow log here, where it is held back, that a machine has no GPU."""
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Holds back what TensorFlow's C++ code prints while it loads; shows it if that fails.

    It logs before any log level applies: the CPU's instructions, and that there is no GPU.
    """
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception as error:
            held.seek(0)
            if not isinstance(error, ModuleNotFoundError):
                os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


if __name__ == "__main__":
    sys.exit(main())
