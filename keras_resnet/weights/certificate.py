"""Certificates: a net's logits compared with those of the library that its weights are from."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.comparison import EXACT, largest, permitted_by, ratio, rounded_anew, spread_of
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.version import __version__
from keras_resnet.weights import reference
from keras_resnet.weights.layouts import Layout
from keras_resnet.weights.pretrained import Weights
from keras_resnet.weights.publish import hf_config

Tensors = Mapping[str, np.ndarray]


class NoReferenceError(ValueError):
    """No other implementation is available to compare a net with."""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The result of comparing a net's logits with those of another implementation.

    Attributes:
        source: Name, licence and files (URL, SHA-256) of the weights; `assumed` and `explicit`,
            the fields of the spec that the library's custom or the user determined.
        layout: Name of the layout of the weights.
        spec: The spec of the net, as a dict.
        preprocess: The preprocessing that the weights were evaluated with, as a dict, or None.
        inputs: The compared inputs: `shape`, and `seed` or `given`.
        compared_with: The other implementation and its version.
        max_difference: Largest absolute difference between two logits.
        max_logit: Largest absolute logit of the other implementation.
        agreement: Share of the inputs with the same top-1 class, 0..1.
        limit: Largest difference that is allowed, by the rule for exported files: 1e-4 of the
            spread of the logits over the classes, or 4 times the change of the net's logits when
            its input is rounded otherwise, if that is more.
        spread: Largest standard deviation of a logit over the inputs. If it is not above the
            limit, the logits hardly depend on the inputs and prove nothing.
        versions: Versions of this package, Keras and NumPy, and the backend.

    Example:
        >>> certificate.holds, certificate.max_difference < certificate.limit
        (True, True)
        >>> pathlib.Path("certificate.json").write_text(certificate.to_json())
    """

    source: dict[str, Any]
    layout: str
    spec: dict[str, Any]
    preprocess: dict[str, Any] | None
    inputs: dict[str, Any]
    compared_with: str
    max_difference: float
    max_logit: float
    agreement: float
    limit: float
    spread: float
    versions: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether the difference is within the limit, and logits depend on the inputs."""
        return self.max_difference <= self.limit < self.spread

    @property
    def assumed(self) -> tuple[str, ...]:
        """Fields of the spec that neither the tensors nor a config determine.

        They have the library's usual values, or those of the net that the user named.
        """
        return (*self.source.get("assumed", ()), *self.source.get("explicit", ()))

    @property
    def proves(self) -> bool:
        """Whether the logits are the publisher's: `holds`, and nothing was assumed.

        The other implementation is set up by the same spec. Where a field of it was assumed, both
        compute the assumed function, and equal logits do not show that it is the publisher's.
        """
        return self.holds and not self.assumed

    def describe(self) -> str:
        """Returns in one sentence what the certificate shows."""
        if not self.holds:
            return f"The logits differ from those of {self.compared_with}, or show nothing."
        if not self.assumed:
            return f"The logits are those of {self.compared_with}."
        fields = ", ".join(f"{field}={self.spec[field]!r}" for field in self.assumed)
        return (
            f"The logits are those of {self.compared_with} if the publisher's net has {fields}, "
            "which neither the tensors nor a config show: this is no proof."
        )

    def to_json(self) -> str:
        """Returns the certificate as JSON."""
        shown = {"holds": self.holds, "proves": self.proves, "description": self.describe()}
        return json.dumps({**dataclasses.asdict(self), **shown}, indent=2) + "\n"


def source_of(weights: Weights) -> dict[str, Any]:
    """Returns the `source` of a certificate for weights."""
    return {
        "name": weights.name,
        "licence": weights.licence,
        "assumed": list(weights.assumed),
        "explicit": list(weights.explicit),
        "files": [dataclasses.asdict(file) for file in weights.files],
    }


def certify(
    model: ResNet,
    tensors: Tensors,
    layout: Layout,
    *,
    source: Mapping[str, Any],
    images: np.ndarray | None = None,
    seed: int = 0,
) -> Certificate:
    """Compares a net's logits with those of the library that its tensors come from.

    keras.applications, KerasHub and transformers compute the logits for their own tensors if they
    are installed. For PyTorch's other nets, `reference` computes them from the original tensors,
    in NumPy and float64, independently of this package's specs, name maps and layers.

    Args:
        model: The net, with logits as outputs.
        tensors: The original tensors, as in `Weights.tensors`.
        layout: Their layout, as in `Weights.layout`.
        source: Description of the weights for the certificate.
        images: Normalised inputs `(batch, height, width, channels)`; None draws four from a normal
            distribution.
        seed: Seed of the drawn inputs.

    Raises:
        ValueError: If no other implementation is available; the message says what to install.

    Example:
        >>> opened = keras_resnet.weights.open_weights("resnet50-0676ba61.pth")
        >>> model = keras_resnet.from_pretrained(opened)
        >>> certificate = keras_resnet.weights.certify(
        ...     model, opened.tensors, opened.layout, source={"name": opened.name}
        ... )
        >>> certificate.holds
        True
    """
    channels_first = keras.config.image_data_format() == "channels_first"
    origin: dict[str, Any] = {"seed": seed} if images is None else {"given": True}
    if images is None:
        axes = list(model.inputs[0].shape[1:])
        channels = axes.pop(0 if channels_first else -1)
        shape = (4, *(size or model.spec.input_size for size in axes), channels)
        images = np.random.default_rng(seed).normal(size=shape).astype("float32")
    inputs = np.moveaxis(images, -1, 1) if channels_first else images
    ours = keras.ops.convert_to_numpy(model(inputs))
    stated = tuple(source.get("explicit", ()))
    theirs, name = _original_logits(model.spec, tensors, layout, images, stated)
    if theirs.shape != ours.shape:
        raise ValueError(
            f"{name} returns {theirs.shape}, the net {ours.shape}: build it with its classifier "
            "and without an activation"
        )
    difference, unit = largest(ours, theirs), spread_of(theirs)
    permitted = EXACT
    if EXACT * unit < difference:
        anew = keras.ops.convert_to_numpy(model(rounded_anew(inputs)))
        permitted = max(EXACT, permitted_by(ratio(largest(anew, ours), unit)))
    return Certificate(
        source=dict(source),
        layout=layout.name,
        spec=model.spec.to_dict(),
        preprocess=model.preprocess.to_dict() if model.preprocess else None,
        inputs={"shape": list(images.shape), **origin},
        compared_with=name,
        max_difference=difference,
        max_logit=float(np.abs(theirs).max()),
        agreement=float((ours.argmax(-1) == theirs.argmax(-1)).mean()),
        limit=permitted * unit,
        spread=float(theirs.std(axis=0).max()),
        versions={
            "keras_resnet": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "numpy": np.__version__,
        },
    )


def _original_logits(
    spec: ResNetSpec,
    tensors: Tensors,
    layout: Layout,
    images: np.ndarray,
    stated: tuple[str, ...],
) -> tuple[np.ndarray, str]:
    """Returns the logits of another implementation, and its name."""
    if layout.name == "keras":
        return _keras_applications(spec, tensors, layout, images)
    if layout.name == "keras_hub":
        if importlib.util.find_spec("keras_hub") is None:
            raise NoReferenceError(
                "KerasHub's nets are compared with KerasHub: pip install keras-hub"
            )
        return _keras_hub(spec, tensors, images)
    if layout.name == "mlperf_tiny":
        raise NoReferenceError("there is no other implementation of MLPerf Tiny's net here")
    if layout.name == "hf" and all(map(importlib.util.find_spec, ("transformers", "torch"))):
        return _transformers(spec, tensors, images)
    return _reference_logits(spec, tensors, layout, images, stated)


def _reference_logits(
    spec: ResNetSpec,
    tensors: Tensors,
    layout: Layout,
    images: np.ndarray,
    stated: tuple[str, ...],
) -> tuple[np.ndarray, str]:
    """Returns the logits of the reference in NumPy, with the fields that the user stated."""
    if images.ndim != 4 or spec.max_stride is not None or spec.padding != "symmetric":
        raise NoReferenceError(
            "the reference in NumPy computes nets for images, without dilation and with symmetric "
            f"padding. Received: inputs of shape {images.shape}, max_stride={spec.max_stride}, "
            f"padding={spec.padding!r}"
        )
    free = layout.name == "hf"  # transformers' config states the strides
    early = spec.stride_placement == "1x1" and (free or "stride_placement" in stated)
    logits = reference.forward(
        tensors,
        images,
        stride_in_1x1=early,
        first_stride=spec.first_stride if free or "first_stride" in stated else 1,
        antialias=_antialias(spec),
        average_shortcut=spec.shortcut == "D",
        **({"eps": spec.norm_eps} if "norm_eps" in stated else {}),
    )
    return logits, f"NumPy {np.__version__} in float64, by the names of {layout.library}"


def _antialias(spec: ResNetSpec) -> reference.Antialias:
    if spec.blur == 2:
        return "avg"
    return "blur" if spec.blur else "none"


def _keras_applications(
    spec: ResNetSpec, tensors: Tensors, layout: Layout, images: np.ndarray
) -> tuple[np.ndarray, str]:
    kinds = {50: "ResNet50", 101: "ResNet101", 152: "ResNet152"}
    if spec.layers not in kinds:
        raise NoReferenceError(f"keras.applications has no net of {spec.layers} layers")
    name = kinds[spec.layers] + ("V2" if spec.order == "pre" else "")
    theirs = getattr(keras.applications, name)(
        weights=None,
        input_shape=images.shape[1:],
        classes=tensors[f"predictions/{layout.roles['dense'][0]}"].shape[-1],
        classifier_activation=None,
    )
    for layer in theirs.layers:
        if layer.weights:
            kind = "norm" if isinstance(layer, keras.layers.BatchNormalization) else "conv"
            roles = layout.roles[kind][: len(layer.weights)]
            layer.set_weights([tensors[f"{layer.name}/{role}"] for role in roles])
    logits = keras.ops.convert_to_numpy(theirs(images))
    return logits, f"keras.applications.{name} of Keras {keras.__version__}"


def _keras_hub(spec: ResNetSpec, tensors: Tensors, images: np.ndarray) -> tuple[np.ndarray, str]:
    keras_hub = importlib.import_module("keras_hub")
    vd = "_vd" if spec.shortcut == "D" else ""
    deep = spec.stem == "deep"
    width = spec.stem_filters
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[width // 2, width // 2, width] if deep else [width],
        input_conv_kernel_sizes=[3, 3, 3] if deep else [7],
        stackwise_num_filters=list(spec.widths),
        stackwise_num_blocks=list(spec.depths),
        stackwise_num_strides=[1] + [2] * (len(spec.depths) - 1),
        block_type=("basic_block" if spec.branch == "basic" else "bottleneck_block") + vd,
        use_pre_activation=spec.order == "pre",
        image_shape=images.shape[1:],
    )
    theirs = keras_hub.models.ResNetImageClassifier(
        backbone=backbone, num_classes=tensors["predictions/0"].shape[-1]
    )
    for layer in [*backbone.layers, *theirs.layers]:
        if layer.weights and layer is not backbone:
            count = len(layer.weights)
            layer.set_weights([tensors[f"{layer.name}/{index}"] for index in range(count)])
    logits = keras.ops.convert_to_numpy(theirs(images))
    return logits, f"keras_hub.models.ResNetImageClassifier of KerasHub {keras_hub.__version__}"


def _transformers(spec: ResNetSpec, tensors: Tensors, images: np.ndarray) -> tuple[np.ndarray, str]:
    torch, transformers = map(importlib.import_module, ("torch", "transformers"))
    config = hf_config(spec, classes=tensors["classifier.1.bias"].shape[0])
    config["num_channels"] = images.shape[-1]
    theirs = transformers.ResNetForImageClassification(transformers.ResNetConfig(**config)).eval()
    theirs.load_state_dict(
        {name: torch.tensor(np.asarray(array)) for name, array in tensors.items()}, strict=False
    )
    with torch.no_grad():
        logits = theirs(torch.tensor(np.moveaxis(images, -1, 1).copy())).logits.numpy()
    version = importlib.metadata.version("transformers")
    return logits, f"transformers.ResNetForImageClassification {version}"
