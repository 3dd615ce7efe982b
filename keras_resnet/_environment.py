"""Checks of the environment before anything else is imported; each failure is one clear line."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings

_BACKENDS = ("tensorflow", "jax", "torch")
_OLDEST_PYTHON = (3, 11)
_OLDEST_KERAS = (3, 8)


def check() -> None:
    """Checks Python, Keras and its backend.

    Warns if `tf.keras` is Keras 2, whose layers and models do not accept those of Keras 3.

    Raises:
        ImportError: If Python or Keras is too old. A `ModuleNotFoundError` if Keras or its
            backend is not installed.
    """
    if sys.version_info[:2] < _OLDEST_PYTHON:
        raise ImportError(
            f"keras_resnet needs Python {_dotted(_OLDEST_PYTHON)} or later. "
            f"Received: Python {_dotted(sys.version_info[:2])}"
        )
    try:
        import keras
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    if _numbers(keras.__version__) < _OLDEST_KERAS:
        raise ImportError(
            f"keras_resnet needs Keras {_dotted(_OLDEST_KERAS)} or later: "
            f"`pip install --upgrade keras`. Received: Keras {keras.__version__}"
        )
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        warnings.warn(
            "TF_USE_LEGACY_KERAS is set: `tf.keras` is Keras 2, which does not accept nets of "
            "keras_resnet. Use `import keras`, or unset it",
            stacklevel=2,
        )


def _not_installed(error: ModuleNotFoundError) -> ModuleNotFoundError:
    if error.name == "keras":
        return ModuleNotFoundError(
            "keras_resnet needs Keras 3, which is not installed: `pip install keras`", name="keras"
        )
    if error.name not in _BACKENDS:
        return error
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name)]
    advice = (
        f"set KERAS_BACKEND={installed[0]}, which is installed"
        if installed
        else "`pip install tensorflow`, or `pip install jax` (or torch) and set KERAS_BACKEND=jax "
        "(or torch)"
    )
    return ModuleNotFoundError(
        f"Keras needs a backend, and {error.name} is not installed: {advice}", name=error.name
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


check()
