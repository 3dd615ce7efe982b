"""`ResNet`: a functional Keras model that knows its spec and may have thousands of layers."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_resnet.nets.named_weights import HoldsUnits, assign, is_stacked, read_h5
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec

# Keras walks a functional graph recursively when it creates a model, with one Python frame per
# layer. No network here has this many layers (ResNet-1202 has 4,210); frames are on the heap.
_RECURSION_LIMIT = 100_000
_lock = threading.RLock()


@contextlib.contextmanager
def deep_graph() -> Iterator[None]:
    """Raises Python's recursion limit for graphs of any depth; restore it afterwards."""
    with _lock:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _RECURSION_LIMIT))
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)


@keras.saving.register_keras_serializable(package="keras_resnet")
class ResNet(keras.Model):
    """A functional model made by `build`: a `keras.Model` with a spec and its preprocessing.

    Saving, loading and cloning keep the layer graph as for any functional model, so a model that
    was extended or cut can be saved. The config also holds the spec and the preprocessing.

    Example:
        >>> model = keras_resnet.build("cifar_resnet20")
        >>> model.save("net.keras")
        >>> keras.saving.load_model("net.keras").spec.name
        'cifar_resnet20'
    """

    _spec: ResNetSpec | None = None
    _taps: tuple[tuple[str, str], ...] = ()
    _preprocess: PreprocessSpec | None = None

    def __init__(
        self, inputs: Tensor, outputs: Tensor, name: str | None = None, **kwargs: Any
    ) -> None:
        with deep_graph():
            super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)

    @property
    def spec(self) -> ResNetSpec:
        """The spec that the model was built from.

        Raises:
            ValueError: If the model was not made by `build` (a clone, for instance).

        Example:
            >>> keras_resnet.build("resnet18").spec.depths
            (2, 2, 2, 2)
        """
        if self._spec is None:
            raise ValueError(
                f"Model {self.name!r} has no ResNetSpec: it was cloned or rewired. "
                "Use the spec of the model that it was made from."
            )
        return self._spec

    @property
    def stacked(self) -> bool:
        """Whether equal units are one layer (`build(..., stacked=True)`)."""
        return any(isinstance(layer, HoldsUnits) for layer in self.layers)

    def summary(self, *args: Any, stages: bool = False, **kwargs: Any) -> None:
        """Prints Keras's table of the layers, or a table of the stages.

        Args:
            *args: See `keras.Model.summary`.
            stages: Whether to print one row per stage: units, output shape, parameters and
                multiply-adds (`keras_resnet.analysis.stage_table`). Of the other arguments, only
                `print_fn` applies then.
            **kwargs: See `keras.Model.summary`.

        Example:
            >>> keras_resnet.build("resnet50").summary(stages=True)
        """
        if not stages:
            super().summary(*args, **kwargs)
            return
        # The analyses import this module.
        analysis = importlib.import_module("keras_resnet.analysis")
        (kwargs.get("print_fn") or print)(analysis.stage_table(self))

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Loads a `.weights.h5` file as Keras does, written by a stacked or an unrolled network.

        Args:
            filepath: Path of the file.
            skip_mismatch: Whether to skip layers whose shapes differ; the file must then have
                the model's own form.
            **kwargs: See `keras.Model.load_weights`.

        Raises:
            ValueError: If the file is damaged or holds the weights of another network.

        Example:
            >>> keras_resnet.build("cifar_resnet20").save_weights("net.weights.h5")
            >>> stacked = keras_resnet.build("cifar_resnet20", stacked=True)
            >>> stacked.load_weights("net.weights.h5")
        """
        path = os.fspath(filepath)
        by_name = path.endswith(".weights.h5") and (self.stacked or is_stacked(path))
        if skip_mismatch or not by_name:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        else:
            assign(read_h5(path), self, source=repr(path))

    @property
    def preprocess(self) -> PreprocessSpec | None:
        """The preprocessing of the images; None unless weights or the user set it.

        `weights=` sets it and files store it. `model.preprocess(images)` applies it to RGB pixels
        of 0..255.

        Raises:
            TypeError: If it is set to anything but a `PreprocessSpec` or None.

        Example:
            >>> model = keras_resnet.ResNet50(weights="torchvision/v2")
            >>> probabilities = model.predict(model.preprocess(images))
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
    def pyramid_outputs(self) -> dict[str, Tensor]:
        """Keras tensors of the stages' outputs by level: `"P2"` is the output of the first stage.

        KerasHub's detectors and segmenters accept a model with this property as image encoder.
        """
        return {f"P{level[1:]}": self.get_layer(layer).output for level, layer in self._taps}

    def _describe(self, spec: ResNetSpec, taps: Iterable[tuple[str, str]]) -> None:
        """Sets the spec, and by level the names of the layers that end the stages."""
        names = {layer.name for layer in self.layers}
        self._spec = spec
        self._taps = tuple((level, layer) for level, layer in taps if layer in names)

    def get_config(self) -> dict[str, Any]:
        """Returns the layer graph, the spec, the ends of the stages and the preprocessing."""
        config = super().get_config()
        config["spec"] = self._spec and self._spec.to_dict()
        config["taps"] = [list(tap) for tap in self._taps]
        config["preprocess"] = self._preprocess and self._preprocess.to_dict()
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ResNet:
        """Creates a model from the result of `get_config`."""
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
    """Checks that a model is a `ResNet`.

    Raises:
        TypeError: If the model was not made by `build`.
    """
    if not isinstance(model, ResNet):
        raise TypeError(f"`model` must be a net made by `build`. Received: {type(model).__name__}")
