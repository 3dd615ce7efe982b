"""Installs the package into the environments that users have and checks that it works there.

Each environment is a list of versions in this folder. It is made with the first Python that is
found among those of its row, and checked in stages; a table says what passed. For the lists in
`lists/`, of images that others publish, pip only says what it would change. Run by
`make environments`; needs the standard library only.

    python environments/check.py                    # all environments, all stages
    python environments/check.py --quick oldest newest
    python environments/check.py colab --stages training
    python environments/check.py colab-2026-08 kaggle-2026-08
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from resolver import canonical, plan, read_list

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "environments"
EXTRAS = "train,export,onnx,weights,tune"
PYTEST = ("pytest>=9.2", "pytest-timeout>=2.4", "pytest-xdist>=3.8")

# What saves, loads, builds, exports and reads files; the rest does not depend on versions as much.
LIBRARY = (
    "tests/environments",
    "tests/keras_resnet/test_model.py",
    "tests/keras_resnet/test_network.py",
    "tests/keras_resnet/test_norms.py",
    "tests/keras_resnet/test_stacked.py",
    "tests/keras_resnet/test_features.py",
    "tests/keras_resnet/test_finetune.py",
    "tests/keras_resnet/test_export_formats.py",
    "tests/keras_resnet/weights/test_tensor_file.py",
    "tests/test_notebooks.py::test_a_notebook_runs[app]",
)
TRAINING = (
    "tests/train/test_checkpoint.py",
    "tests/train/test_training.py",
    "tests/train/test_data.py",
    "tests/train/test_commands.py",
    "tests/train/test_tuning.py",
)
QUICK = ("tests/keras_resnet/test_model.py", "tests/keras_resnet/test_norms.py")

STAGES = ("library", "save and load", "quickstart", "exports", "resolver", "training")


class Environment(NamedTuple):
    """The versions of an environment, and the Pythons that it may be made with."""

    constraints: str
    pythons: tuple[str, ...]


ENVIRONMENTS = {
    "oldest": Environment("environments/oldest.txt", ("3.11",)),
    "colab": Environment("environments/colab.txt", ("3.13",)),
    "newest": Environment("constraints.txt", ("3.13", "3.12", "3.11")),
}
# Images that others publish: only what pip would change in them is asked.
LISTS = {
    "colab-2025-08": Environment("environments/lists/colab-2025-08.txt", ("3.12",)),
    "colab-2026-08": Environment("environments/lists/colab-2026-08.txt", ("3.13",)),
    "kaggle-2026-08": Environment("environments/lists/kaggle-2026-08.txt", ("3.12",)),
}
# Each format once, through the same command that users give.
FORMATS = ("--formats", "saved_model,tflite,onnx", "--precision", "float32")


class Failed(Exception):
    """A stage did not pass; holds its last line."""


class Checks:
    """The stages of one environment.

    Args:
        name: Its name, for messages and folders.
        environment: Its row of the table.
        quick: Whether to run few tests.
        venv: An existing environment with the package installed; made if None.
    """

    def __init__(
        self, name: str, environment: Environment, *, quick: bool, venv: Path | None
    ) -> None:
        self.environment, self.quick = environment, quick
        self.venv = venv or BUILD / name
        self.made = venv is None
        self.python = self.venv / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.work = Path(tempfile.mkdtemp(prefix=f"{name}-"))

    def stages(self) -> dict[str, Callable[[], str]]:
        """Returns the stages in order; each returns a note or raises `Failed`."""
        if self.environment in LISTS.values():
            return {"resolver": self.resolve}
        full = {} if self.quick else {"resolver": self.resolve, "training": self.training}
        return {
            "install": self.install,
            "versions": self.versions,
            "library": self.library,
            "save and load": self.save_and_load,
            "quickstart": self.quickstart,
            "exports": self.export,
            **full,
        }

    def install(self) -> str:
        """Makes the environment with its list of versions as constraints."""
        if not self.made:
            return "existing"
        found = self.interpreter()
        if not self.python.exists():
            run(found, "-m", "venv", str(self.venv))
        pip = (str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        constraints = str(ROOT / self.environment.constraints)
        run(*pip, "-c", constraints, "-e", f"{ROOT}[{EXTRAS}]", *PYTEST)
        return ""

    def interpreter(self) -> str:
        """Returns a Python of one of the environment's versions."""
        found = next(filter(None, map(find_python, self.environment.pythons)), None)
        if found is None:
            raise Failed(f"no Python {' or '.join(self.environment.pythons)} found")
        return found

    def versions(self) -> str:
        """Says what is installed."""
        code = (
            "import platform; from importlib.metadata import version as v; "
            "print(platform.python_version(), *(f'{n} {v(n)}' for n in "
            "('keras', 'tensorflow', 'numpy', 'protobuf')))"
        )
        return self.execute("-c", code)

    def resolve(self) -> str:
        """Asks pip what it would install; none of the listed versions may change."""
        constraints = ROOT / self.environment.constraints
        listed = read_list(constraints)
        try:
            chosen = plan(self.interpreter(), constraints, f"{ROOT}[{EXTRAS}]", self.work)
        except subprocess.CalledProcessError as error:
            raise Failed("pip finds no solution") from error
        changed = [
            f"{name} {listed[canonical(name)]} to {version}"
            for name, version in chosen.items()
            if canonical(name) in listed
        ]
        if changed:
            raise Failed(f"would change {', '.join(changed)}")
        return f"would add {', '.join(sorted(chosen, key=str.lower))}; none of the list changes"

    def library(self) -> str:
        """Runs tests of the library."""
        return self.test(QUICK if self.quick else LIBRARY)

    def training(self) -> str:
        """Runs tests of the application."""
        return self.test(TRAINING)

    def test(self, files: Sequence[str]) -> str:
        """Runs test files; returns pytest's last line."""
        words = ("-q", "-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider")
        return self.execute("-m", "pytest", *words, "-m", "not slow and not multi_process", *files)

    def save_and_load(self) -> str:
        """Saves a net with preprocessing to `.keras` and loads it in another process."""
        save = """
            import sys, numpy as np, keras, keras_resnet
            net = keras_resnet.build("cifar_resnet8", seed=1)
            net.preprocess = keras_resnet.PreprocessSpec((32, 32))
            x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
            net.save(sys.argv[1])
            np.savez(sys.argv[2], x=x, y=keras.ops.convert_to_numpy(net(x)))
        """
        load = """
            import sys, numpy as np, keras, keras_resnet
            net = keras.saving.load_model(sys.argv[1])
            assert (net.spec.name, net.preprocess.size) == ("cifar_resnet8", (32, 32))
            stored = np.load(sys.argv[2])
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(net(stored["x"])), stored["y"])
        """
        files = (str(self.work / "net.keras"), str(self.work / "logits.npz"))
        for code in (save, load):
            self.execute("-c", textwrap.dedent(code), *files)
        return ""

    def quickstart(self) -> str:
        """Trains on the digits; few steps if quick."""
        run_directory = str(self.work / "run")
        length = ("--steps", "20") if self.quick else ("--epochs", "4")
        net = ("--model", "mlperf_tiny_resnet8", "--dataset", "digits", *length)
        return self.execute("-m", "keras_resnet_train", "train", *net, "--output", run_directory)

    def export(self) -> str:
        """Exports the run as SavedModel, LiteRT and ONNX; each file is verified by its runtime."""
        command = ("-m", "keras_resnet_train", "export", str(self.work / "run"), *FORMATS)
        return self.execute(*command)

    def execute(self, *words: str) -> str:
        """Runs the environment's Python; returns the last line of its output."""
        return run(str(self.python), *words, path=self.work)


def run(*words: str, path: Path | None = None) -> str:
    """Runs a command in the checkout; returns the last line of its output.

    Raises:
        Failed: If it ends with an error; the whole output goes to stderr.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    if path is not None:  # the checkout's application under its installed name
        link = path / "keras_resnet_train"
        if not link.exists():
            link.symlink_to(ROOT / "train", target_is_directory=True)
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(path)))
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        print(done.stdout[-6000:], file=sys.stderr, flush=True)
        raise Failed(lines[-1] if lines else f"exit status {done.returncode}")
    return lines[-1] if lines else ""


def find_python(version: str) -> str | None:
    """Returns an interpreter of a version: on the path, this one, or one of pyenv."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = shutil.which(f"python{version}")
    # A shim of pyenv is on the path even where it leads nowhere.
    if found and subprocess.run([found, "-V"], capture_output=True, check=False).returncode == 0:
        return found
    return str(pyenv[-1]) if pyenv else None


def check(
    checks: Checks, chosen: Sequence[str] | None = None
) -> tuple[bool, list[tuple[str, str, str, float]]]:
    """Runs the stages of an environment, or the chosen ones and those that all need.

    Stages after a failed installation are not run.
    """
    rows, passed = [], True
    for stage, work in checks.stages().items():
        if chosen and stage not in ("install", "versions", *chosen):
            continue
        if rows and rows[0][1] == "failed":
            rows.append((stage, "not run", "", 0.0))
            continue
        started = time.monotonic()
        try:
            result, note = "passed", work()
        except Failed as error:
            result, note, passed = "failed", str(error), False
        rows.append((stage, result, note, time.monotonic() - started))
    shutil.rmtree(checks.work, ignore_errors=True)
    return passed, rows


def main() -> int:
    """Checks the environments of the command line; returns 1 if a stage failed."""
    known = ENVIRONMENTS | LISTS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="few tests and a short run")
    parser.add_argument(
        "--venv", type=Path, help="use an existing environment instead of making the one NAME"
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        metavar="STAGE",
        choices=STAGES,
        help=f"run only these, after the installation: {', '.join(STAGES)}; exports need the "
        "quickstart",
    )
    args = parser.parse_args()
    unknown = set(args.names) - set(known)
    if unknown or (args.venv and len(args.names) != 1):
        parser.error(f"give names of {', '.join(known)}, and one with --venv")
    all_passed = True
    table = [f"{'environment':<16}{'stage':<15}{'result':<9}{'seconds':>7}  note"]
    for name in args.names or known:
        checks = Checks(name, known[name], quick=args.quick, venv=args.venv)
        passed, rows = check(checks, args.stages)
        all_passed &= passed
        table += [f"{name:<16}{s:<15}{r:<9}{t:7.0f}  {n}".rstrip() for s, r, n, t in rows]
        print("\n".join(table[-len(rows) :]), flush=True)
    print("\n".join(["", *table]))
    return 0 if all_passed else 1


if __name__ == "__main__":
    sys.exit(main())
