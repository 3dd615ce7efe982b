"""The `config.json` with which timm builds a net and preprocesses its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.nets.catalog import VARIANTS
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights import hub
from keras_resnet.weights.publish import target_layout
from keras_resnet.weights.recognize import Recognized, same_shapes
from keras_resnet.weights.transfer import dump_tensors

# timm's names of PIL's resampling filters.
_FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest"}
_FIRST_CONVS = ("conv1", "conv1.0", "stem.conv", "stem.conv1")


def timm_config(
    model: ResNet, *, class_names: Sequence[str] = (), licence: str | None = None
) -> dict[str, Any]:
    """Returns the `config.json` of a net for timm, to stand beside `model.safetensors`.

    `timm.create_model("local-dir:FOLDER", pretrained=True)` reads both, and
    `"hf-hub:owner/name"` once they are on the Hugging Face hub. Write the weights with
    `keras_resnet.weights.save(model, "model.safetensors", layout="timm")`.

    Args:
        model: A net made by `build`, with its classifier and its `preprocess`.
        class_names: Names of the classes, in the order of the logits; none are written if empty.
        licence: SPDX identifier of the weights' licence.

    Returns:
        Architecture, number of classes and `pretrained_cfg`, as values that JSON can store.

    Raises:
        ValueError: If timm has no architecture that computes the net's function, cannot express
            its preprocessing, or the net has no classifier.

    Source: timm 1.0, `timm/models/_hub.py`, `save_config_for_hf`.

    Example:
        >>> model = keras_resnet.build("resnet50_v1_5", classes=2)
        >>> model.preprocess = keras_resnet.PreprocessSpec((224, 224), (127.5,), (127.5,))
        >>> keras_resnet.weights.timm_config(model, class_names=["cat", "dog"])["architecture"]
        'resnet50'
    """
    architecture = _architecture(model.spec)
    tensors = dump_tensors(model, target_layout("timm", model.spec))
    classifier = next((name for name in ("fc", "head.fc") if f"{name}.weight" in tensors), None)
    if classifier is None:
        raise ValueError(f"{model.name!r} has no classifier, which timm's config describes")
    classes, width = tensors[f"{classifier}.weight"].shape[:2]
    if class_names and len(class_names) != classes:
        raise ValueError(
            f"`class_names` needs one name per class ({classes}). Received: {len(class_names)}"
        )
    channels = int(model.inputs[0].shape[channel_axis()])
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": width,
    }
    if channels != 3:
        config["model_args"] = {"in_chans": channels}
    config["pretrained_cfg"] = {
        **_preprocessing(model.preprocess or None, channels),
        "num_classes": classes,
        "classifier": classifier,
        **_first_conv(tensors),
        **({"license": licence} if licence else {}),
    }
    if class_names:
        config["label_names"] = list(class_names)
    return config


def _architecture(spec: ResNetSpec) -> str:
    """Returns timm's name of the net that computes a spec's function."""
    layout = target_layout("timm", spec)
    misfits = layout.misfits(spec)
    if misfits:
        raise ValueError(f"timm has no net like {spec.name}: {'; '.join(misfits)}")
    for name, listed in VARIANTS.items():
        if not same_shapes(listed, spec) or target_layout("timm", listed).misfits(listed):
            continue
        if Recognized(layout, listed, (), None).differences(spec):
            continue  # timm's filters, for one, do not show in the shapes
        architecture = name.removesuffix("_v1_5")
        try:
            hub.describe("local", {"architecture": architecture}, {})
        except ValueError:
            continue
        return architecture
    raise ValueError(f"timm has no architecture with the units and widths of {spec.name}")


def _preprocessing(preprocess: PreprocessSpec | None, channels: int) -> dict[str, Any]:
    if preprocess is None:
        raise ValueError("The net has no `preprocess`, which timm's config describes")
    if preprocess.channel_order != "rgb":
        raise ValueError("timm feeds RGB images, and the net takes BGR")
    if preprocess.interpolation not in _FILTERS:
        raise ValueError(f"timm has no interpolation {preprocess.interpolation!r}")
    return {
        "input_size": [channels, *preprocess.size],
        "fixed_input_size": False,
        "interpolation": _FILTERS[preprocess.interpolation],
        "crop_pct": preprocess.crop_fraction,
        "crop_mode": "center",
        "mean": _per_channel(preprocess.mean, channels),
        "std": _per_channel(preprocess.std, channels),
    }


def _per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    """Returns one value per channel, in units of the largest pixel value."""
    return [value / 255 for value in (values * channels if len(values) == 1 else values)]


def _first_conv(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns the name of the first convolution; timm's own for RepVGG, which has two."""
    found = [name for name in _FIRST_CONVS if f"{name}.weight" in tensors]
    return {"first_conv": found[0]} if found else {}
