"""`ResNet`: a functional Keras model that knows its spec and may have thousands of layers."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NoReturn

import keras

from keras_resnet.hdf5 import read_hdf5_file
from keras_resnet.nets.aliases import own_name
from keras_resnet.nets.named_weights import (
    HoldsUnits,
    assign,
    assign_fitting,
    check_finite,
    group_by_layer,
    holds_stack,
    is_own_name,
    layer_names,
    own_layers,
)
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


class UnsetPreprocess:
    """The preprocessing of a net that has none: false in conditions, an error in use."""

    def __init__(self, net: str) -> None:
        self._net = net

    def __bool__(self) -> Literal[False]:
        return False

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises the error that says how to set the preprocessing."""
        raise ValueError(
            f"{self._net!r} has no preprocessing, because no published weights set it. Set "
            "`model.preprocess = keras_resnet.PreprocessSpec(size, mean, std)`, or normalise the "
            "images as those that the net was trained on"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self()

    def __repr__(self) -> str:
        return "<no preprocessing>"


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
    _front: tuple[str, ...] = ()
    _preprocess: PreprocessSpec | None = None

    # Keras before 3.15 saves the layer graph only for a constructor with exactly this signature.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with deep_graph():
            super().__init__(*args, **kwargs)

    @property
    def spec(self) -> ResNetSpec:
        """The spec that the model was built from.

        Raises:
            ValueError: If the model was not made by `build`. `describe_as` gives the spec back to
                a clone.

        Example:
            >>> keras_resnet.build("resnet18").spec.depths
            (2, 2, 2, 2)
        """
        if self._spec is None:
            raise ValueError(
                f"Model {self.name!r} has no ResNetSpec: it was cloned or rewired. "
                "Use the spec of the model that it was made from, or give it to a model of the "
                "same layers by `model.describe_as(source)`."
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

    @property
    def front(self) -> tuple[str, ...]:
        """The names of the layers before the net, which `input_tensor=` brought in."""
        return self._front

    @property
    def front_output(self) -> Tensor:
        """The Keras tensor that the net starts from: the input, or the output of `front`."""
        first = next(
            layer
            for layer in self.layers
            if layer.name not in self._front and not isinstance(layer, keras.layers.InputLayer)
        )
        return first.input

    def describe_as(self, source: ResNet) -> ResNet:
        """Takes the spec and the preprocessing of a net with the same layers, in place.

        `keras.models.clone_model` and the constructor of a subclass copy layers only.

        Args:
            source: The net that this one was cloned or rewired from.

        Returns:
            This model.

        Raises:
            ValueError: If the names of the layers differ.

        Example:
            >>> model = keras_resnet.build("cifar_resnet20")
            >>> clone = keras.models.clone_model(model).describe_as(model)
            >>> clone.spec.name
            'cifar_resnet20'
        """
        ours, theirs = ([layer.name for layer in net.layers] for net in (self, source))
        if ours != theirs:
            differing = sorted({*ours} ^ {*theirs}) or ["their order"]
            raise ValueError(
                f"{self.name!r} and {source.name!r} must have the same layers. They differ in: "
                f"{', '.join(differing[:4])}"
            )
        self._spec, self._taps, self._front = source._spec, source._taps, source._front
        self._preprocess = source._preprocess
        return self

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.layers.Layer:
        """Returns a layer by its name, or by the one that this package or keras.applications has.

        Args:
            name: Name of the layer, such as `"stage4_unit3_out"` or `"conv5_block3_out"`.
            index: Place of the layer, in place of the name.

        Raises:
            ValueError: If there is no such layer; says what the net calls it.

        Example:
            >>> keras_resnet.build("resnet50").get_layer("conv5_block3_out").name
            'stage4_unit3_out'
            >>> keras_resnet.ResNet50().get_layer("stage4_unit3_out").name
            'conv5_block3_out'
        """
        names = [layer.name for layer in self.layers]
        if name is None or name in names:
            return super().get_layer(name, index)
        own = dict(own_layers(self))
        if name in own:
            return own[name]
        preactivated = self._spec is not None and self._spec.activates_first
        given = {ours: layer.name for ours, layer in own.items()}
        return own[own_name(name, given, layer_names(self), preactivated=preactivated)]

    def load_weights(
        self,
        filepath: Any,
        skip_mismatch: bool = False,
        *,
        allow_nonfinite: bool = False,
        **kwargs: Any,
    ) -> None:
        """Loads a weights file as Keras does, written by a stacked or an unrolled network.

        HDF5 files and `.keras` archives are checked first: they may not refer to other files, nor
        declare more than they hold.

        Args:
            filepath: Path of the file.
            skip_mismatch: Whether to skip layers whose shapes differ. Between a stacked and an
                unrolled network, layers that either side lacks are skipped too; a warning names
                the first and their number.
            allow_nonfinite: Whether to load weights that are NaN or infinite.
            **kwargs: See `keras.Model.load_weights`.

        Raises:
            ValueError: If the file is damaged, holds values that are not finite, or the weights of
                another network.

        Example:
            >>> keras_resnet.build("cifar_resnet20").save_weights("net.weights.h5")
            >>> stacked = keras_resnet.build("cifar_resnet20", stacked=True)
            >>> stacked.load_weights("net.weights.h5")
        """
        path = os.fspath(filepath)
        tensors = read_hdf5_file(path) if path.endswith((".h5", ".keras")) else {}
        if not allow_nonfinite:
            check_finite({name: [array] for name, array in tensors.items()}, repr(path))
        stacked = holds_stack(tensors)
        by_name = path.endswith(".weights.h5") and (self.stacked or stacked)
        if not by_name or (self._front and stacked == self.stacked):
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
            return
        stored = group_by_layer(tensors)
        before = self._load_front(path) if self._front else []
        if self._front:  # the other layers of the file belong to the user
            stored = {name: stored[name] for name in stored if is_own_name(name)}
        if skip_mismatch:
            assign_fitting(stored, self, source=repr(path))
            return
        try:
            assign(stored, self, source=repr(path))
        except ValueError:
            for weight, value in before:
                weight.assign(value)
            raise

    def _load_front(self, path: str) -> list[tuple[Any, Any]]:
        """Loads the layers before the net; returns their weights with the earlier values."""
        front = keras.Model(self.inputs, self.front_output)
        before = [(weight, keras.ops.convert_to_numpy(weight)) for weight in front.weights]
        front.load_weights(path)
        return before

    @property
    def preprocess(self) -> PreprocessSpec | UnsetPreprocess:
        """The preprocessing of the images; false in conditions unless weights or the user set it.

        `weights=` sets it and files store it. `model.preprocess(images)` applies it to RGB pixels
        of 0..255, and raises a `ValueError` where it is not set.

        Raises:
            TypeError: If it is set to anything but a `PreprocessSpec` or None.

        Example:
            >>> model = keras_resnet.ResNet50(weights="torchvision/v2")
            >>> probabilities = model.predict(model.preprocess(images))
        """
        return self._preprocess or UnsetPreprocess(self.name)

    @preprocess.setter
    def preprocess(self, value: PreprocessSpec | UnsetPreprocess | None) -> None:
        value = None if isinstance(value, UnsetPreprocess) else value
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

    def _describe(
        self, spec: ResNetSpec, taps: Iterable[tuple[str, str]], front: Iterable[str] = ()
    ) -> None:
        """Sets the spec, by level the layers that end the stages, and the layers before the net."""
        names = {layer.name for layer in self.layers}
        self._spec = spec
        self._front = tuple(front)
        self._taps = tuple((level, layer) for level, layer in taps if layer in names)

    def get_config(self) -> dict[str, Any]:
        """Returns the layer graph, the spec, the ends of the stages and the preprocessing."""
        config = super().get_config()
        config["spec"] = self._spec and self._spec.to_dict()
        config["front"] = list(self._front)
        config["taps"] = [list(tap) for tap in self._taps]
        config["preprocess"] = self._preprocess and self._preprocess.to_dict()
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ResNet:
        """Creates a model from the result of `get_config`."""
        config = dict(config)
        spec = config.pop("spec", None)
        taps = config.pop("taps", ())
        front = config.pop("front", ())
        preprocess = config.pop("preprocess", None)
        model = super().from_config(config, custom_objects=custom_objects)
        model._spec = spec and ResNetSpec.from_dict(spec)
        model._front = tuple(front)
        model._taps = tuple((level, layer) for level, layer in taps)
        model._preprocess = preprocess and PreprocessSpec.from_dict(preprocess)
        return model


# Keras writes whole-model HDF5 files with the bare name of the class.
keras.saving.get_custom_objects()["ResNet"] = ResNet


def check_net(model: Any) -> None:
    """Checks that a model is a `ResNet`.

    Raises:
        TypeError: If the model was not made by `build`.
    """
    if not isinstance(model, ResNet):
        raise TypeError(f"`model` must be a net made by `build`. Received: {type(model).__name__}")
