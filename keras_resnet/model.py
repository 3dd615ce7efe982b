"""`ResNet`: a functional Keras model that knows its spec and may be thousands of layers deep."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import keras

from keras_resnet.spec import ResNetSpec

# Keras walks a functional graph recursively, one Python frame a layer, when a model is made. No
# net here comes near this many layers (ResNet-1202 has 4,210); Python frames live on the heap.
_DEEP = 100_000
_lock = threading.RLock()


@contextlib.contextmanager
def deep_graph() -> Iterator[None]:
    """Lets Keras walk graphs of any depth; Python's recursion limit is as before afterwards."""
    with _lock:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _DEEP))
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)


@keras.saving.register_keras_serializable(package="keras_resnet")
class ResNet(keras.Model):
    """A functional model made by `build`: all of `keras.Model`, and `spec`.

    Saving, loading and cloning keep the layer graph as any functional model does, so a net that a
    user has extended or cut survives them; the spec travels along in the config.
    """

    _spec: ResNetSpec | None = None

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        with deep_graph():
            super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)

    @property
    def spec(self) -> ResNetSpec:
        """What the net is.

        Raises:
            ValueError: If the model was not made by `build` (a clone, for instance).
        """
        if self._spec is None:
            raise ValueError(
                f"Model {self.name!r} carries no ResNetSpec: it was cloned or rewired. "
                "Take the spec of the model that it was made from."
            )
        return self._spec

    def get_config(self) -> dict[str, Any]:
        """Returns the layer graph and the spec."""
        config = super().get_config()
        config["spec"] = self._spec and self._spec.to_dict()
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ResNet:
        """Makes the model from what `get_config` returned."""
        config = dict(config)
        spec = config.pop("spec", None)
        model = super().from_config(config, custom_objects=custom_objects)
        model._spec = spec and ResNetSpec.from_dict(spec)
        return model
