"""The rules of the house that a reader of imports can hold the two packages to."""

from __future__ import annotations

import ast
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[2]
LIBRARY, APPLICATION = ROOT / "keras_resnet", ROOT / "train"

# A module imports only modules of a lower rank. `nets` and `weights.files` are ranked file by file,
# other folders as a whole.
RANKS = {
    "version": 0,
    "_environment": 0,
    "partial_resize": -1,
    "hdf5": -1,
    "hdf5_strings": -2,
    "texts": -1,
    "preprocessing": 0,
    "comparison": 0,
    "nets.spec": 1,
    "nets.spec_rules": 0,
    "nets.tensor": -1,
    "nets.aliases": -1,
    "nets.named_weights": 0,
    "nets.precision": 0,
    "nets.catalog": 2,
    "nets.geometry": 2,
    "nets.model": 2,
    "nets.budget": 3,
    "nets.segments": 3,
    "nets.draws": 1,
    "nets.layers": 2,
    "nets.batch_norm": 2,
    "nets.primitives": 3,
    "nets.hampered_shortcuts": 4,
    "nets.branches": 4,
    "nets.shortcuts": 4,
    "nets.merges": 5,
    "nets.comparison_units": 6,
    "nets.fixup": 6,
    "nets.repvgg": 6,
    "nets.residual_unit": 7,
    "nets.stem": 8,
    "nets.remat": 5,
    "nets.unit_loop": 5,
    "nets.stacked": 8,
    "nets.network": 9,
    "functional": 9,
    "weights.files": 2,
    "weights": 10,
    "imagenet_utils": 11,
    "finetune": 11,
    "application_factory": 11,
    "applications": 12,
    "resnet": 13,
    "resnet50": 13,
    "resnet_v2": 13,
    "analysis": 12,
    "reparam": 12,
    "pruning": 13,
    "quantize": 13,
    "features": 13,
    "gradcam": 14,
    "export": 14,
}
# The application's modules from the bottom up, folders as a whole: a module imports only modules of
# lower layers.
APPLICATION_LAYERS = (
    {"terminal"},
    {
        *(
            "arrays",
            "console",
            "errors",
            "files",
            "local_cluster",
            "measurement",
            "profiler",
            "provenance",
        ),
        *("background", "replica_statistics", "resizing", "signals", "snapshot"),
    },
    {"checkpoint_files", "launcher", "slurm", "worker_messages"},
    {"leaving", "rendezvous"},
    {"run_log", "strategies", "throughput"},
    {"agreement", "workers"},
    {"checkpoint", "config", "presentation", "tensorboard"},
    {"augment", "best_weights", "length", "losses", "optimizers", "recipes", "remote", "schedules"},
    {"averaging", "data", "divergence", "phases", "quantization", "steps", "tracking"},
    {
        *("batch_norm_statistics", "data_record", "effective", "linear_probe", "memory_check"),
        *("runs", "samples"),
    },
    {"run_directory"},
    {"rundir"},
    {"pretrained"},
    {"evaluation", "teacher"},
    {"finetuning", "starting_net"},
    {"learner"},
    {"epoch_evaluation", "feeding", "reporting", "saving"},
    {"command", "demo", "file_options", "latency", "prediction", "run_report", "trainer"},
    {"preparation", "run_options"},
    {"session"},
    {"cross_validation", "dry_run", "pruning", "ray_reports", "studies", "tuning"},
    {"ray_worker"},
    {"ray_training"},
    {"commands"},
    {"cli"},
    {"__main__", "launched"},
)
WITHOUT_KERAS = {"nets.spec", "nets.spec_rules", "nets.catalog", "nets.geometry", "version"}
EVERYWHERE = {"keras", "numpy", "keras_resnet"}
BACKENDS = {"tensorflow", "jax", "torch"}
# What differentiates or loops, and what writes for TensorBoard.
DERIVATIVES = {
    ("analysis", "autodiff.py"),
    ("analysis", "callback.py"),
    ("nets", "batch_norm.py"),
    ("nets", "draws.py"),
    ("nets", "remat.py"),
    ("nets", "unit_loop.py"),
}


def _files(package: pathlib.Path) -> list[pathlib.Path]:
    return sorted(package.rglob("*.py"))


def _id(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def _module(path: pathlib.Path) -> str:
    """Name of the ranked module that a file of keras_resnet belongs to."""
    return _ranked(path.relative_to(LIBRARY).with_suffix("").parts)


def _ranked(parts: Sequence[str]) -> str:
    """The longest ranked name that a dotted path begins with, or the path's first part."""
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in RANKS:
            return ".".join(parts[:length])
    return parts[0]


def _imports(path: pathlib.Path) -> list[tuple[int, str, bool]]:
    """Level, dotted name and whether it stands at the top, for each import of a file."""
    tree = ast.parse(path.read_text())
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        top = id(node) not in inner
        if isinstance(node, ast.Import):
            found += [(0, alias.name, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found += [(node.level, f"{base}.{alias.name}".strip("."), top) for alias in node.names]
    return found


def test_there_is_something_to_read():
    assert len(_files(LIBRARY)) >= 15
    assert len(_files(APPLICATION)) >= 5


@pytest.mark.parametrize("path", _files(LIBRARY), ids=_id)
def test_library_imports_run_one_way(path):
    own = _module(path)
    if path.name == "__init__.py" and own not in RANKS:
        return  # the package's face may show everything
    assert own in RANKS, f"{own} is new: give it a rank among the others"
    for level, name, _ in _imports(path):
        assert level == 0, f"relative import of {name!r}: the library's are absolute"
        parts = name.split(".")
        if parts[0] != "keras_resnet":
            continue
        assert len(parts) > 1, "the package's face is imported from inside"
        other = _ranked(parts[1:])
        assert other in RANKS, f"{name!r} is imported from the package's face, not its module"
        assert other == own or RANKS[other] < RANKS[own], f"{own} must not import {other}"


@pytest.mark.parametrize("path", _files(LIBRARY), ids=_id)
def test_library_needs_keras_and_numpy_alone(path):
    for _, name, top in _imports(path):
        package = name.split(".")[0]
        if package in sys.stdlib_module_names or package in EVERYWHERE:
            assert package not in ("keras", "numpy") or _module(path) not in WITHOUT_KERAS
            continue
        assert package not in ("train", "keras_resnet_train"), "the library imports the application"
        assert not top, f"{package} must be imported inside the function that needs it"
        if package in ("h5py", "safetensors") and _module(path) in ("hdf5", "weights.files"):
            continue  # Keras itself depends on the one; the other's files ask for it by name
        if package in BACKENDS and path.parts[-2:] in DERIVATIVES:
            continue  # Keras has no derivatives of its own, and its loops have none to rely on
        assert _module(path) == "export", f"{package} belongs to export alone"


@pytest.mark.parametrize("path", _files(APPLICATION), ids=_id)
def test_application_imports_itself_relatively(path):
    depth = len(path.relative_to(APPLICATION).parts)
    for level, name, _ in _imports(path):
        package = name.split(".")[0]
        assert level or package not in ("train", "keras_resnet_train"), f"{name!r} is absolute"
        assert level <= depth, f"{name!r} leaves the package"


def test_application_imports_run_one_way():
    layers = {name: at for at, names in enumerate(APPLICATION_LAYERS) for name in names}
    modules = {
        path.relative_to(APPLICATION).parts[0].removesuffix(".py") for path in _files(APPLICATION)
    }
    assert modules - {"__init__"} == set(layers), "give a new module its layer"
    upwards = []
    for path in _files(APPLICATION):
        parts = path.relative_to(APPLICATION).parts
        own = parts[0].removesuffix(".py")
        for level, name, _ in _imports(path):
            if not level:
                continue
            other = [*parts[: len(parts) - level], *name.split(".")][0]
            if other != own and layers[other] >= layers[own]:
                upwards.append(f"{_id(path)} imports {name}")
    assert upwards == []


@pytest.mark.parametrize("package", [LIBRARY, APPLICATION], ids=_id)
def test_no_file_for_leftovers(package):
    names = {"utils", "util", "helpers", "misc"}
    assert [_id(path) for path in _files(package) if path.stem in names] == []


@pytest.mark.multi_process
def test_import_is_light():
    """Beyond what Keras loads by itself, nothing but this package and the standard library."""
    code = (
        "import sys, keras, numpy\n"
        "before = set(sys.modules)\n"
        "import keras_resnet\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'keras'}))\n"
        "print([name for name in ('tensorflow_datasets', 'keras_tuner') if name in sys.modules])\n"
        "print('tensorflow' in sys.modules)\n"
        "print('keras_resnet.export' in sys.modules)\n"
        "print(keras_resnet.export.ExportRequest.__name__)"
    )
    backend = keras.backend.backend()
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    new, never, tensorflow, early, request = run.stdout.splitlines()
    assert new == "['keras_resnet']"
    assert never == "[]"
    assert tensorflow == str(backend == "tensorflow")
    assert (early, request) == ("False", "ExportRequest")  # on first use alone
