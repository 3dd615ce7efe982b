"""What the tests of both packages share: backends, seeds, global settings and outside data."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
BACKEND = keras.backend.backend()

# The training application is written for TensorFlow and imports it when it is collected.
collect_ignore_glob = [] if BACKEND == "tensorflow" else ["train/*", "benchmarks/*"]


def pytest_report_header() -> str:
    left_out = "" if BACKEND == "tensorflow" else "; tests/train needs tensorflow, not collected"
    return f"keras {keras.__version__} on {BACKEND}{left_out}"


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


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Starts every test from the same seed, and gives Keras's global settings back."""
    policy, layout = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(layout)


@pytest.fixture
def randomize() -> Callable[[keras.Model, int], None]:
    """A function that draws all weights of a model anew, its batch-norm statistics included."""

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
