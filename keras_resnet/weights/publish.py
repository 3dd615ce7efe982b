"""Weights out: a net trained here as the file that another library reads."""

from __future__ import annotations

import json
import os
from typing import Any, Literal

from keras_resnet.nets.model import ResNet
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.weights.files.tensors import write_safetensors
from keras_resnet.weights.layouts import LAYOUTS, Layout
from keras_resnet.weights.transfer import dump_tensors

Target = Literal["torchvision", "timm", "hf"]


def save(
    model: ResNet, path: str | os.PathLike[str], *, layout: Target = "torchvision"
) -> dict[str, tuple[int, ...]]:
    """Writes a net's weights as safetensors with another library's names and axes.

    In PyTorch, `model.load_state_dict(safetensors.torch.load_file(path))` takes them whole. The
    spec and the preprocessing stand in the file's metadata.

    Args:
        model: A net made by `build`.
        path: The file; ends in `.safetensors`.
        layout: `"torchvision"`, `"timm"` (`resnet.py`, `resnetv2.py` or `byobnet.py`, as the net
            demands) or `"hf"` (`transformers.ResNetForImageClassification`).

    Returns:
        Names and shapes of what was written.

    Raises:
        ImportError: If safetensors is not installed.
        ValueError: If the library has no such net; says what it cannot express.
    """
    path = os.fspath(path)
    if not path.endswith(".safetensors"):
        raise ValueError(f"`path` must end in `.safetensors`. Received: path={path!r}")
    tensors = dump_tensors(model, target_layout(layout, model.spec))
    config = os.path.join(os.path.dirname(path) or ".", "config.json")
    if layout == "hf" and os.path.exists(config):
        raise ValueError(
            f"{config!r} exists: transformers wants the net's config beside its weights; choose a "
            "folder of its own"
        )
    metadata = {"format": "pt", "keras_resnet.nets.spec": json.dumps(model.spec.to_dict())}
    if model.preprocess is not None:
        metadata["keras_resnet.preprocess"] = json.dumps(model.preprocess.to_dict())
    if layout != "hf":
        write_safetensors(path, tensors, metadata)
    else:
        described = json.dumps(_config_of(model), indent=2)
        with open(config, "x", encoding="utf-8") as file:
            file.write(described)
        try:
            write_safetensors(path, tensors, metadata)
        except BaseException:
            os.remove(config)
            raise
    return {name: tuple(array.shape) for name, array in tensors.items()}


def hf_config(spec: ResNetSpec, *, classes: int) -> dict[str, Any]:
    """Returns transformers' `ResNetConfig` of a net, as its `config.json` writes it."""
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": spec.input_channels,
        "embedding_size": spec.stem_filters,
        "hidden_sizes": [width * spec.expansion for width in spec.widths],
        "depths": list(spec.depths),
        "layer_type": spec.branch,
        "hidden_act": "relu",
        "downsample_in_first_stage": spec.first_stride == 2,
        "downsample_in_bottleneck": spec.stride_placement == "1x1",
        "id2label": {str(index): f"class {index}" for index in range(classes)},
        "label2id": {f"class {index}": index for index in range(classes)},
    }


def _config_of(model: ResNet) -> dict[str, Any]:
    head = next((layer for layer in model.layers if layer.name == "logits"), None)
    if head is None:
        raise ValueError(
            f"transformers' ResNetForImageClassification has a classifier, {model.name!r} none"
        )
    channels = model.inputs[0].shape[channel_axis()]
    return {**hf_config(model.spec, classes=head.units), "num_channels": channels}


def target_layout(layout: str, spec: ResNetSpec) -> Layout:
    """Returns the name map of a library for a net.

    Raises:
        ValueError: If there is no such layout to write.
    """
    if layout not in ("torchvision", "timm", "hf"):
        raise ValueError(
            f"`layout` must be 'torchvision', 'timm' or 'hf'. Received: layout={layout!r}"
        )
    if layout == "timm":
        if spec.branch == "repvgg":
            return LAYOUTS["timm_repvgg"]
        return LAYOUTS["timm_v2" if spec.order == "pre" else "timm"]
    return LAYOUTS["hf" if layout == "hf" else "torchvision"]
