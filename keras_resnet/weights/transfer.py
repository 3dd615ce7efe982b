"""Conversion of weights: tensors of other libraries into a net, and back."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import (
    layer_names,
    read_weights,
    weighted_layers,
    write_weights,
)
from keras_resnet.weights.layouts import Layout
from keras_resnet.weights.rebuild import HEAD

# Names that begin like those of a stem or stage; all others belong to heads.
_BODY = re.compile(
    r"(conv1|bn1|maxpool|layer\d+|stem|stages|norm|resnet|identity|downsample)\."
    r"|conv\d_|stack\d|post_bn|conv2d|batch_normalization"
)
Conv = keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """The result of loading weights: what was loaded, and what did not fit.

    Names are those of tensors for files of other libraries, and of layers for files of this
    package.

    Attributes:
        loaded: Names that were loaded.
        missing: Names that the net needs and the source does not have.
        unexpected: Names that the source has and the net does not need.
        misshaped: Name, shape in the source and shape that the net needs.
        left_out: Names of tensors of the classifier and of other heads, if the net has no
            classifier.
        prefix: The prefix that was removed from the names.
        outside: Number of tensors and objects beside the net, by the first part of their names.
        assumed: Fields of the spec that neither the tensors nor a config determine; they have the
            usual values of the tensors' library.
        explicit: Fields of the spec that only the requested net determines.

    Example:
        >>> report = keras_resnet.weights.load(model, "net.safetensors", strict=False)
        >>> if not report.complete:
        ...     print(report.describe())
        1 missing: bn1.bias; 1 unexpected: extra.weight
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    left_out: tuple[str, ...] = ()
    prefix: str = ""
    outside: Mapping[str, int] = dataclasses.field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    explicit: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, unexpected or misshaped."""
        return not (self.missing or self.unexpected or self.misshaped)

    def describe(self, limit: int = 4) -> str:
        """Returns what did not fit, on one line, with at most `limit` names of each kind."""
        parts = []
        shapes = [f"{name} {shape}, not {needed}" for name, shape, needed in self.misshaped]
        for kind, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", shapes),
        ):
            if names:
                more = f" and {len(names) - limit} more" if len(names) > limit else ""
                parts.append(f"{len(names)} {kind}: {', '.join(names[:limit])}{more}")
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class _Slot:
    """One weight of the net and the name of the tensor that corresponds to it."""

    layer: str
    kind: str
    position: int
    tensor: str
    shape: tuple[int, ...]

    @property
    def is_kernel(self) -> bool:
        return self.kind != "norm" and self.position == 0


def _kind_of(layer: keras.layers.Layer) -> str | None:
    """Returns the kind of a layer, a key of `Layout.roles`, or None."""
    if isinstance(layer, Conv):
        return "conv"
    if isinstance(layer, keras.layers.Dense):
        return "dense"
    norms = keras.layers.BatchNormalization | keras.layers.GroupNormalization
    return "norm" if isinstance(layer, norms) else None


def _slots(model: ResNet, layout: Layout) -> Iterator[_Slot]:
    if len(model.inputs[0].shape) != 4 and not layout.torch:
        raise ValueError(
            f"{layout.library} only has nets for images. Received: {model.name!r} for inputs of "
            f"shape {tuple(model.inputs[0].shape)}"
        )
    for own, layer in weighted_layers(model):
        kind, prefix = _kind_of(layer), layout.translate(own, model.spec)
        if kind is None or prefix is None:
            raise ValueError(f"{layout.library} has no place for layer {own!r} of {model.name!r}")
        roles = layout.roles[kind]
        if kind != "norm" and not layer.use_bias:
            roles = roles[:1]
        if isinstance(layer, keras.layers.GroupNormalization):
            roles = roles[:2]  # it has no moving statistics
        for position, (role, weight) in enumerate(zip(roles, layer.weights, strict=True)):
            name = f"{prefix}{layout.separator}{role}"
            yield _Slot(own, kind, position, name, tuple(weight.shape))


def to_keras(array: np.ndarray, kind: str) -> np.ndarray:
    """Returns a PyTorch kernel with Keras's axes: OIHW to HWIO; a dense kernel transposed.

    A classifier that is stored as a 1x1 convolution, `(out, in, 1, 1)`, becomes a dense kernel.
    """
    if kind == "dense":
        return array.reshape(array.shape[:2]).T if set(array.shape[2:]) <= {1} else array
    return np.moveaxis(array, (0, 1), (-1, -2))


def to_torch(array: np.ndarray, kind: str, *, as_conv: bool = False) -> np.ndarray:
    """Returns a Keras kernel with PyTorch's axes."""
    if kind == "dense":
        return array.T[..., None, None] if as_conv else array.T
    return np.moveaxis(array, (-1, -2), (0, 1))


def load_tensors(
    model: ResNet,
    tensors: Mapping[str, np.ndarray],
    layout: Layout,
    *,
    source: str,
    strict: bool = True,
    allow_nonfinite: bool = False,
) -> LoadReport:
    """Sets a net's weights from another library's tensors.

    Args:
        model: A net made by `build`.
        tensors: Arrays by the library's names.
        layout: The layout of the library.
        source: Name of the source, for messages.
        strict: Whether missing, unexpected or misshaped tensors are an error.
        allow_nonfinite: Whether to load values that are NaN or infinite.

    Returns:
        The tensors that were loaded, and those that did not fit. If the net has no classifier,
        the classifier's tensors are left out, which is not an error.

    Raises:
        ValueError: If something does not fit and `strict`; always if nothing fits or a value is
            not finite and not `allow_nonfinite`. The model is unchanged then.
    """
    values: dict[str, list[Any]] = {}
    missing, misshaped, loaded = [], [], []
    for slot in _slots(model, layout):
        array = tensors.get(slot.tensor)
        if array is None:
            missing.append(slot.tensor)
            continue
        if layout.torch and slot.is_kernel and array.ndim >= 2:
            array = to_keras(array, slot.kind)
        if array.shape != slot.shape:
            misshaped.append((slot.tensor, tuple(array.shape), slot.shape))
            continue
        if not allow_nonfinite and not np.isfinite(array).all():
            raise ValueError(
                f"{slot.tensor!r} of {source} contains values that are not finite; "
                "`allow_nonfinite=True` loads them"
            )
        loaded.append(slot.tensor)
        values.setdefault(slot.layer, []).append((slot.position, array))
    rest = set(tensors) - set(loaded) - {name for name, *_ in misshaped}
    head = _absent_head(model, layout)
    if head:
        head |= set(head_tensors(rest))
    counters = {name for name in rest if name.endswith("num_batches_tracked")}
    report = LoadReport(
        tuple(loaded),
        tuple(missing),
        tuple(sorted(rest - counters - head)),
        tuple(misshaped),
        tuple(sorted(rest & head)),
    )
    if not loaded or (strict and not report.complete):
        raise ValueError(f"{source} does not fit {model.spec.name}: {report.describe()}")
    stored = read_weights(model)
    for layer, pairs in values.items():
        for position, array in pairs:
            stored[layer][position] = np.ascontiguousarray(array, "float32")
    write_weights(model, {layer: stored[layer] for layer in values})
    return report


def head_tensors(names: Iterable[str]) -> list[str]:
    """Returns those names that are not of the stem or of a stage of any library's net."""
    return [
        name for name in names if not _BODY.match(name) and not name.endswith("num_batches_tracked")
    ]


def _absent_head(model: ResNet, layout: Layout) -> set[str]:
    """Returns the names of the classifier's tensors if the net has no classifier."""
    names = layer_names(model)
    prefixes = [layout.translate(name, model.spec) for name in HEAD if name not in names]
    return {
        f"{prefix}{layout.separator}{role}"
        for prefix in prefixes
        if prefix
        for role in layout.roles["dense"]
    }


def dump_tensors(model: ResNet, layout: Layout) -> dict[str, np.ndarray]:
    """Returns a net's weights with the names and axes of another library.

    For PyTorch, `num_batches_tracked` is included, so that a strict `load_state_dict` succeeds.

    Raises:
        ValueError: If the library cannot express the net.
    """
    misfits = layout.misfits(model.spec)
    if misfits:
        raise ValueError(
            f"{layout.library} has no net like {model.spec.name}: {'; '.join(misfits)}"
        )
    tensors = {}
    weights = read_weights(model)
    for slot in _slots(model, layout):
        array = np.asarray(weights[slot.layer][slot.position])
        if layout.torch and slot.is_kernel:
            array = to_torch(array, slot.kind, as_conv=layout.head_as_conv)
        tensors[slot.tensor] = np.ascontiguousarray(array)
        if layout.torch and slot.kind == "norm" and slot.position == 3:
            prefix = slot.tensor.removesuffix("running_var")
            tensors[f"{prefix}num_batches_tracked"] = np.asarray(0, "int64")
    return tensors
