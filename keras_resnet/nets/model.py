"""`ResNet`: a functional Keras model that knows its spec and may be thousands of layers deep."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_resnet.nets.named_weights import HoldsUnits, assign, is_stacked, read_h5
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec

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
    """A functional model made by `build`: a `keras.Model` that knows what it is.

    Saving, loading and cloning keep the layer graph as any functional model does, so a net that a
    user has extended or cut survives them; spec and preprocessing travel along in the config.
    """

    _spec: ResNetSpec | None = None
    _taps: tuple[tuple[str, str], ...] = ()
    _preprocess: PreprocessSpec | None = None

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

    @property
    def stacked(self) -> bool:
        """Whether units that are alike are one layer (`build(..., stacked=True)`)."""
        return any(isinstance(layer, HoldsUnits) for layer in self.layers)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Loads a `.weights.h5` file as Keras does, of this form of the net or of the other.

        Raises:
            ValueError: If the file is damaged or of another net.
        """
        path = os.fspath(filepath)
        by_name = path.endswith(".weights.h5") and (self.stacked or is_stacked(path))
        if skip_mismatch or not by_name:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        else:
            assign(read_h5(path), self, source=repr(path))

    @property
    def preprocess(self) -> PreprocessSpec | None:
        """What is done to images before the net sees them; None where no weights have said it.

        `weights=` sets it, files carry it, and it may be assigned. `model.preprocess(images)`
        applies it to RGB pixels of 0..255.
        """
        return self._preprocess

    @preprocess.setter
    def preprocess(self, value: PreprocessSpec | None) -> None:
        if value is not None and not isinstance(value, PreprocessSpec):
            raise TypeError(
                f"`preprocess` must be a PreprocessSpec or None. Received: preprocess={value!r}"
            )
        self._preprocess = value

    @property
    def pyramid_outputs(self) -> dict[str, Any]:
        """Keras tensors of the stages' outputs by level: `"P2"` is the first stage's.

        KerasHub's detectors and segmenters take a net with this property as image encoder.
        """
        return {f"P{level[1:]}": self.get_layer(layer).output for level, layer in self._taps}

    def _describe(self, spec: ResNetSpec, taps: Iterable[tuple[str, str]]) -> None:
        """Says what the net is, and which layers end its stages."""
        names = {layer.name for layer in self.layers}
        self._spec = spec
        self._taps = tuple((level, layer) for level, layer in taps if layer in names)

    def get_config(self) -> dict[str, Any]:
        """Returns the layer graph, the spec, the stages' ends and the preprocessing."""
        config = super().get_config()
        config["spec"] = self._spec and self._spec.to_dict()
        config["taps"] = [list(tap) for tap in self._taps]
        config["preprocess"] = self._preprocess and self._preprocess.to_dict()
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ResNet:
        """Makes the model from what `get_config` returned."""
        config = dict(config)
        spec = config.pop("spec", None)
        taps = config.pop("taps", ())
        preprocess = config.pop("preprocess", None)
        model = super().from_config(config, custom_objects=custom_objects)
        model._spec = spec and ResNetSpec.from_dict(spec)
        model._taps = tuple((level, layer) for level, layer in taps)
        model._preprocess = preprocess and PreprocessSpec.from_dict(preprocess)
        return model


def check_net(model: Any) -> None:
    """Checks that a model is a net.

    Raises:
        TypeError: If it was not made by `build`.
    """
    if not isinstance(model, ResNet):
        raise TypeError(f"`model` must be a net made by `build`. Received: {type(model).__name__}")
