"""Saving a net's weights as a file that another library reads."""

from __future__ import annotations

import json
import os
from typing import Any, Literal

from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import classifier_of
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.weights.files.tensor_file import write_safetensors
from keras_resnet.weights.layouts import LAYOUTS, Layout
from keras_resnet.weights.local_files import PREPROCESS_KEY, SPEC_KEY
from keras_resnet.weights.transfer import dump_tensors

Target = Literal["torchvision", "timm", "hf"]


def save(
    model: ResNet, path: str | os.PathLike[str], *, layout: Target = "torchvision"
) -> dict[str, tuple[int, ...]]:
    """Writes a net's weights as safetensors with another library's names and axes.

    In PyTorch, `model.load_state_dict(safetensors.torch.load_file(path))` loads the file. The spec
    and the preprocessing are stored in its metadata, so `from_pretrained` restores both. The
    layout `"hf"` also writes `config.json` beside the file.

    Args:
        model: A net made by `build`.
        path: The file; ends in `.safetensors`.
        layout: `"torchvision"`; `"timm"` (names of its `resnet.py`, `resnetv2.py` or
            `byobnet.py`, depending on the net); or `"hf"`
            (`transformers.ResNetForImageClassification`).

    Returns:
        Shapes of the tensors by name.

    Raises:
        ImportError: If safetensors is not installed.
        ValueError: If the library cannot express the net; names the fields of the spec.

    Example:
        >>> model = keras_resnet.build("resnet50_v1_5", classes=10)
        >>> shapes = keras_resnet.weights.save(model, "net.safetensors")
        >>> shapes["conv1.weight"]
        (64, 3, 7, 7)
    """
    path = os.fspath(path)
    if not path.endswith(".safetensors"):
        raise ValueError(f"`path` must end in `.safetensors`. Received: path={path!r}")
    tensors = dump_tensors(model, target_layout(layout, model.spec))
    config = os.path.join(os.path.dirname(path) or ".", "config.json")
    if layout == "hf" and os.path.exists(config):
        raise ValueError(
            f"{config!r} exists: transformers needs the net's config beside its weights; choose "
            "another folder"
        )
    metadata = {"format": "pt", SPEC_KEY: json.dumps(model.spec.to_dict())}
    if model.preprocess:
        metadata[PREPROCESS_KEY] = json.dumps(model.preprocess.to_dict())
    if layout != "hf":
        write_safetensors(path, tensors, metadata)
    else:
        text = json.dumps(_config_of(model), indent=2)
        with open(config, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        try:
            write_safetensors(path, tensors, metadata)
        except BaseException:
            os.remove(config)
            raise
    return {name: tuple(array.shape) for name, array in tensors.items()}


def hf_config(spec: ResNetSpec, *, classes: int) -> dict[str, Any]:
    """Returns transformers' `ResNetConfig` of a net, as in its `config.json`."""
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
    head = classifier_of(model)
    if head is None:
        raise ValueError(
            "transformers' ResNetForImageClassification needs a classifier, which "
            f"{model.name!r} does not have"
        )
    channels = model.inputs[0].shape[channel_axis()]
    return {**hf_config(model.spec, classes=head.units), "num_channels": channels}


def target_layout(layout: str, spec: ResNetSpec) -> Layout:
    """Returns the layout in which a library stores a net.

    Raises:
        ValueError: If `layout` is not one of `save`.
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
