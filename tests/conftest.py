"""What the tests of both packages share: backends, seeds, global settings and outside data."""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

# Importing Keras takes seconds, and the process that hands the tests out runs none.
if TYPE_CHECKING:
    import keras

ROOT = pathlib.Path(__file__).parents[1]


def _backend() -> str:
    """Returns the backend that Keras will choose: that of the environment or of `keras.json`."""
    config = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras"), "keras.json").expanduser()
    stored = json.loads(config.read_text()) if config.is_file() else {}
    return os.environ.get("KERAS_BACKEND") or stored.get("backend", "tensorflow")


BACKEND = _backend()

# The training application is written for TensorFlow and imports it when it is collected.
collect_ignore_glob = [] if BACKEND == "tensorflow" else ["train/*", "benchmarks/*"]


def pytest_report_header() -> str:
    left_out = "" if BACKEND == "tensorflow" else "; tests/train needs tensorflow, not collected"
    return f"keras {importlib.metadata.version('keras')} on {BACKEND}{left_out}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this backend or this environment cannot run."""
    for item in items:
        if item.get_closest_marker("tf") and BACKEND != "tensorflow":
            item.add_marker(pytest.mark.skip(reason=f"needs TensorFlow; the backend is {BACKEND}"))
        for library in ("torch", "jax"):
            if item.get_closest_marker(library) and importlib.util.find_spec(library) is None:
                item.add_marker(pytest.mark.skip(reason=f"{library} is not installed"))


@pytest.fixture(scope="session", autouse=True)
def keras_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what is cached between runs out of the user's home, and apart from other sessions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras_home")))
        yield


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """Leaves what is alive before a module out of later garbage collections.

    Libraries and the caches of earlier tests are 400,000 objects and more. Each export collects
    garbage several times, which took almost half of its time.
    """
    gc.collect()
    gc.freeze()


def _set_seed() -> None:
    """Seeds Python, NumPy, Keras and the backend.

    With its seed TensorFlow drops its kernels, and making them anew doubles the time of building
    and calling a small net. Only random operations with a state need that; no test draws with one.
    """
    import keras

    with pytest.MonkeyPatch.context() as patch:
        if BACKEND == "tensorflow":
            from tensorflow.python.eager import context

            patch.setattr(context.pywrap_tfe, "TFE_ContextClearCaches", lambda handle: None)
        keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Starts every test from the same seed, and gives Keras's global settings back."""
    import keras

    policy, layout = keras.config.dtype_policy(), keras.config.image_data_format()
    _set_seed()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(layout)


@pytest.fixture
def eager() -> Iterator[None]:
    """Runs a few steps without tracing them, which would take most of the time."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions")
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills kernels with zeros, for large nets of which a test reads names and sizes alone."""
    import keras

    def zeros(self: object, shape: tuple[int, ...], dtype: str | None = None) -> object:
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)


@pytest.fixture
def randomize() -> Callable[[keras.Model, int], None]:
    """A function that draws all weights of a model anew, its batch-norm statistics included."""
    import keras

    def draw(model: keras.Model, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for layer in model.layers:
            shapes = [tuple(weight.shape) for weight in layer.weights]
            if isinstance(layer, keras.layers.BatchNormalization):
                size = shapes[0]
                gamma, variance = rng.uniform(0.5, 1.0, size), rng.uniform(0.5, 1.5, size)
                beta, mean = rng.normal(0, 0.1, size), rng.normal(0, 0.1, size)
                layer.set_weights([gamma, beta, mean, variance])
            elif shapes:
                kernel, *biases = shapes
                deviation = np.sqrt(2 / np.prod(kernel[:-1]))
                values = [rng.normal(0, deviation, kernel)]
                layer.set_weights(values + [rng.normal(0, 0.1, bias) for bias in biases])

    return draw


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The directory of data and weights beside the project, which the project never copies."""
    path = pathlib.Path(os.environ.get("KERAS_RESNET_SHARED", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path} (set KERAS_RESNET_SHARED)")
    return path


@pytest.fixture(scope="session")
def cifar10_sample(shared: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """The 1,017 test images, (1017, 32, 32, 3) of 0..255, and their labels."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="reading TFDS needs it")
    if not (shared / "tfds" / "cifar10_sample").is_dir():
        pytest.skip(f"no cifar10_sample under {shared / 'tfds'}")
    data = tfds.load(
        "cifar10_sample", split="test", data_dir=shared / "tfds", batch_size=-1, download=False
    )
    return np.asarray(data["image"]), np.asarray(data["label"])
