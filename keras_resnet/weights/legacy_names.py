"""Names of older libraries, translated to those of a library in `layouts`.

Each translation states the spec fields in which the older library's net differs.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.other_nets import check_built

Arrays = Mapping[str, np.ndarray]

# Layers of Keras 2.0 to 2.2: `res2a_branch2a`, `bn3b1_branch1`.
_KERAS_UNIT = re.compile(r"(.*/)?(res|bn)(\d)([a-z])(\d*)_branch(1|2[abc])/(.+)")
_KERAS_OTHERS = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions"}
_CAFFE2_UNIT = re.compile(r"(.*\.)?res(\d)_(\d+)_branch(1|2[abc])_(w|bn_s|bn_b|bn_rm|bn_riv)")
_CAFFE2_OTHERS = {
    "conv1_w": "conv1.weight",
    "res_conv1_bn_s": "bn1.weight",
    "res_conv1_bn_b": "bn1.bias",
    "fc1000_w": "fc.weight",
    "fc1000_b": "fc.bias",
}
_DETECTRON_UNIT = re.compile(r"(.*\.)?res(\d)\.(\d+)\.(conv\d|shortcut)\.(norm\.)?(\w+)")
_DETECTRON_STEM = re.compile(r"(.*\.)?stem\.conv1\.(norm\.)?(\w+)")
_DETECTRON_EPS = 1e-5
# OpenMMLab's deep stems and squeeze-and-excitation, and its first projection without a pool.
_OPENMMLAB = re.compile(
    r"(.*\.)?(stem\.0\.conv\.weight|stem\.7\.running_mean|layer1\.0\.se_layer\.conv1\.conv\.weight)"
)
_OPENMMLAB_STEM = re.compile(r"(.*\.)?stem\.(\d)\.(?:(conv|bn)\.)?(\w+)")
_OPENMMLAB_GATE = re.compile(r"(.*)\.se_layer\.conv([12])\.conv\.(\w+)")
_OPENMMLAB_FIRST = re.compile(r"(.*\.)?layer1\.0\.downsample\.([01])\.(\w+)")


@dataclasses.dataclass(frozen=True, eq=False)
class Translated:
    """Tensors with the names of a library in `layouts`.

    Attributes:
        tensors: Arrays by name.
        library: The older library, or None if the names were left as they are.
        changes: Values of spec fields that the older library's nets have.
        assumed: Fields of the spec that the file does not determine.
        preprocess: The preprocessing that the older library's nets have, if they have one.
    """

    tensors: Arrays
    library: str | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    preprocess: PreprocessSpec | None = None


def translate(tensors: Arrays, *, source: str) -> Translated:
    """Translates the names of an older library.

    Raises:
        ValueError: If the names are those of a net that this package does not build.
    """
    check_built(tensors, source=source)
    if any(_KERAS_UNIT.fullmatch(name) for name in tensors):
        return _keras_2(tensors, source)
    if any(_CAFFE2_UNIT.fullmatch(name) for name in tensors):
        return _caffe2(tensors)
    if any(_DETECTRON_UNIT.fullmatch(name) for name in tensors):
        return _detectron2(tensors)
    if any(_OPENMMLAB.fullmatch(name) for name in tensors):
        return _openmmlab(tensors)
    return Translated(tensors)


def _keras_2(tensors: Arrays, source: str) -> Translated:
    """Translates keras.applications of Keras 2.0 to 2.2 to the names of today."""
    renamed = {}
    biased = False
    for name, array in tensors.items():
        match = _KERAS_UNIT.fullmatch(name)
        if match is None:
            place, _, rest = name.rpartition("/")
            above, _, layer = place.rpartition("/")
            new = _KERAS_OTHERS.get(layer, layer)
            renamed["/".join(filter(None, (above, new, rest)))] = array
            continue
        above, kind, stage, letter, number, branch, role = match.groups()
        # ResNet-101's third stage is a, b1, b2, ...
        unit = int(number) + 1 if number else ord(letter) - ord("a") + 1
        convolution = 0 if branch == "1" else " abc".index(branch[1])
        end = "conv" if kind == "res" else "bn"
        biased |= end == "conv" and role in ("bias", "1")
        renamed[f"{above or ''}conv{stage}_block{unit}_{convolution}_{end}/{role}"] = array
    if not biased:
        return _keras_retinanet(renamed, source)
    return Translated(
        renamed, "keras.applications of Keras 2.0 to 2.2", {"norm_eps": 1e-3}, ("stem_pool",)
    )


def _keras_retinanet(renamed: Arrays, source: str) -> Translated:
    """Returns the net of keras-resnet, the backbone of keras-retinanet, which has no biases.

    Its stem's convolution and pool are padded as TensorFlow's `same`; every 3x3 of its bottlenecks
    has stride 1, where both paddings are equal. Its basic branches stride in a 3x3 that is padded
    on both sides.

    Source: github.com/broadinstitute/keras-resnet, `models/_2d.py` and `blocks/_2d.py`;
    preprocessing: keras-retinanet, `models/resnet.py`, mode "caffe".
    """
    if not any(name.rpartition("/")[0].endswith("_block1_3_conv") for name in renamed):
        raise ValueError(
            f"{source} holds a net of keras-resnet with basic branches (18 or 34 layers). Its "
            "stem is padded as TensorFlow's `same` and its later convolutions symmetrically; nets "
            "with both are not built"
        )
    changes = {
        "padding": "same",
        "conv_bias": False,
        "norm_eps": 1e-5,
        "stride_placement": "1x1",
    }
    preprocess = PreprocessSpec(
        (224, 224), (103.939, 116.779, 123.68), (1.0,) * 3, channel_order="bgr", crop_fraction=0.875
    )
    return Translated(renamed, "keras-resnet (keras-retinanet)", changes, (), preprocess)


def _caffe2(tensors: Arrays) -> Translated:
    """Translates detectron2's MSRA nets in Caffe2's names; their norms are an affine map.

    detectron2 reads them with a variance of 1 - eps, so that the norm adds nothing to the map.
    """
    renamed: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        place, _, last = name.rpartition(".")
        match = _CAFFE2_UNIT.fullmatch(name)
        if match is None:
            new = _CAFFE2_OTHERS.get(last)
            full = name if new is None else ".".join(filter(None, (place, new)))
            renamed[full] = array
            continue
        above, stage, unit, branch, role = match.groups()
        prefix = f"{above or ''}layer{int(stage) - 1}.{unit}."
        number = " abc".index(branch[-1]) if branch != "1" else 0
        end = {"w": "weight", "bn_s": "weight", "bn_b": "bias"}.get(role)
        if end is None:
            continue  # statistics that detectron2 does not read
        if branch == "1":
            module = "downsample.0" if role == "w" else "downsample.1"
        else:
            module = f"conv{number}" if role == "w" else f"bn{number}"
        renamed[f"{prefix}{module}.{end}"] = array
    _add_statistics(renamed)
    grouped = any(
        name.endswith("layer1.0.conv2.weight") and array.shape[1] != array.shape[0]
        for name, array in renamed.items()
    )
    changes = {"stride_placement": "3x3" if grouped else "1x1"}
    # BGR without division, but for its ResNeXts: `PIXEL_MEAN` and `PIXEL_STD` of
    # detectron2/config/defaults.py. The size is ImageNet's; detectors take any.
    preprocess = PreprocessSpec(
        (224, 224),
        (103.53, 116.28, 123.675),
        (57.375, 57.12, 58.395) if grouped else (1.0,) * 3,
        channel_order="bgr",
        crop_fraction=0.875,
    )
    library = "detectron2 (Caffe2)"
    return Translated(renamed, library, changes, ("stride_placement",), preprocess)


def _add_statistics(tensors: dict[str, np.ndarray]) -> None:
    for name in list(tensors):
        module = name.removesuffix(".weight")
        is_norm = tensors[name].ndim == 1 and name.endswith(".weight")
        if is_norm and f"{module}.running_mean" not in tensors:
            tensors[f"{module}.running_mean"] = np.zeros_like(tensors[name])
            tensors[f"{module}.running_var"] = np.full_like(tensors[name], 1 - _DETECTRON_EPS)


def _detectron2(tensors: Arrays) -> Translated:
    """Translates detectron2's own names to torchvision's."""
    renamed = {}
    for name, array in tensors.items():
        stem = _DETECTRON_STEM.fullmatch(name)
        unit = _DETECTRON_UNIT.fullmatch(name)
        if stem is not None:
            above, norm, role = stem.groups()
            renamed[f"{above or ''}{'bn1' if norm else 'conv1'}.{role}"] = array
        elif unit is not None:
            above, stage, number, module, norm, role = unit.groups()
            if module == "shortcut":
                module = "downsample.1" if norm else "downsample.0"
            elif norm:
                module = module.replace("conv", "bn")
            renamed[f"{above or ''}layer{int(stage) - 1}.{number}.{module}.{role}"] = array
        else:
            renamed[name] = array
    _add_statistics(renamed)
    return Translated(renamed, "detectron2", {}, ("stride_placement",))


def _openmmlab(tensors: Arrays) -> Translated:
    """Translates mmpretrain's, mmdetection's and mmsegmentation's deep and SE nets to timm's names.

    Source: mmpretrain, `models/backbones/resnet.py` and `seresnet.py`.
    """
    averaged = any(name.endswith("layer2.0.downsample.2.weight") for name in tensors)
    renamed = {}
    for name, array in tensors.items():
        stem = _OPENMMLAB_STEM.fullmatch(name)
        gate = _OPENMMLAB_GATE.fullmatch(name)
        first = _OPENMMLAB_FIRST.fullmatch(name) if averaged else None
        new = name
        if stem is not None:
            above, number, kind, role = stem.groups()
            # Either three modules with a convolution and a norm, or all of them in one list.
            place = int(number) if kind is None else 3 * int(number) + (kind == "bn")
            new = f"{above or ''}{'bn1' if place == 7 else f'conv1.{place}'}.{role}"
        elif gate is not None:
            new = f"{gate[1]}.se.fc{gate[2]}.{gate[3]}"
        elif first is not None:
            new = f"{first[1] or ''}layer1.0.downsample.{int(first[2]) + 1}.{first[3]}"
        renamed[new] = array
    return Translated(renamed, "OpenMMLab", {}, ("stride_placement",))
