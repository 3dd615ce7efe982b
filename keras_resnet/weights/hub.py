"""Repositories of the Hugging Face hub: the configs of timm, transformers and KerasHub."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any, get_args

from keras_resnet.nets.catalog import VARIANTS
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.preprocessing import Interpolation, PreprocessSpec

_NAME = re.compile(r"hf://([\w.-]+)/([\w.-]+)(?:@([\w.-]+))?")
# timm's nets that are built, and the values of spec fields that their tensors do not show.
_TIMM: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"resnet\d+[cdst]?|resnet50_gn|resnext\d+d?_\d+x\d+d|wide_resnet(50|101)_2|resnetrs\d+", {}),
    (r"seresnet\d+[dt]?|seresnext\d+[dt]?_\d+x\d+d", {}),
    (r"ecaresnet\d+[dt]|ecaresnetlight|ecaresnext\d+t_\d+x\d+d", {}),
    (r"resnetblur\d+d?", {"blur": 3, "blur_shortcut": False}),
    (
        r"resnetaa\d+d?|seresnetaa\d+d|seresnextaa\d+d_\d+x\d+d",
        {"blur": 2, "blur_shortcut": False, "stem_pool": "avg"},
    ),
    (r"resnetv2_\d+|repvgg_(a[0-2]|b[0-3])", {}),
    (r"resnetv2_\d+[dt]|resnetv2_50d_gn", {"shortcut": "D"}),
)
# Why others are not.
_TIMM_REFUSED: tuple[tuple[str, str], ...] = (
    (r".*bit.*", "BiT: its convolutions have standardised weights"),
    (r"resnetv2_.*_(evos|frn)", "its norms are EvoNorm or filter response norm"),
    (r".*_clip.*", "CLIP: it ends in attention over positions, or pools before strides"),
    (r"resnet50_mlp", "its classifier has two layers"),
    (r"skresne.*", "its branches are selective kernels (two convolutions and a choice)"),
    (r"gcresne.*|bat_resne.*", "it has global context or bilinear attention"),
    (r"lambda_resne.*|halonet.*|botnet.*|sehalonet.*", "its branches contain self-attention"),
    (r".*\d(ts|q|rpt_256)$", "its activation is SiLU and its stem has no form here"),
    (r"ecaresne.*_pruned", "its widths differ from unit to unit"),
    (
        r"legacy_sene.*|legacy_seresne.*|senet154",
        "its stem, pool or projections are those of SENet",
    ),
    (r"repvgg_.*g4", "its convolutions are grouped"),
    (r"repvgg_d2se", "RepVGG with squeeze-and-excitation"),
    (r"hrnet.*", "its branches of several resolutions are mixed"),
    (r"res2ne.*|resnest.*|dla.*|csp.*|tresnet.*", "its branches are split, mixed or nested"),
    (r"nf_.*", "its weights are standardised, in place of norms"),
    (r"test_resnet", "its stages have different branches"),
    (r"mobileone.*|efficientnet.*|regnet.*|densenet.*|vit.*", "it is not a residual net of 3x3s"),
)
# Names that timm had before version 0.9.
_TIMM_OLD = re.compile(
    r"(?:tv|ssl|swsl|ig|gluon)_(resnet\d+|resnext\d+_\d+x\d+d|seresnext\d+_\d+x\d+d)"
    r"(?:_v1([bcds]))?"
)
# Arguments of timm's models that do not change the function, or that shapes show.
_TIMM_HARMLESS = {
    *("num_classes", "in_chans", "drop_rate", "drop_path_rate", "drop_block_rate"),
    *("zero_init_last", "pretrained", "img_size", "channels", "layers"),
}
# Values that change nothing. timm 1.0.31 writes the pool into each config.
_TIMM_DEFAULTS = {"global_pool": "avg", "output_stride": 32}
# The numbers of PIL's resampling filters, as transformers' processors store them.
_RESAMPLE: dict[int, Interpolation] = {0: "nearest", 1: "lanczos3", 2: "bilinear", 3: "bicubic"}


@dataclasses.dataclass(frozen=True)
class HubNet:
    """The net of a repository, as its config describes it.

    Attributes:
        library: `"timm"`, `"transformers"` or `"keras_hub"`.
        files: Possible names of the weights file, in the order in which they are tried.
        changes: Values of spec fields that the tensors do not show.
        preprocess: The preprocessing that the net was evaluated with, or None if not stated.
        licence: As the repository states it, or "see the model card".
        head: Name of a separate file with the classifier, or None.
        shown: Values of spec fields that the config states and the tensors show too.
    """

    library: str
    files: tuple[str, ...]
    changes: dict[str, Any]
    preprocess: PreprocessSpec | None
    licence: str = "see the model card"
    head: str | None = None
    shown: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def differences(self, spec: ResNetSpec) -> list[str]:
        """Returns the fields in which the net of the tensors is another, as messages."""
        return [
            f"{field}={value!r}, not {getattr(spec, field)!r}"
            for field, value in self.shown.items()
            if getattr(spec, field) != value
        ]


def parse(name: str) -> tuple[str, str]:
    """Returns repository and revision of `hf://owner/repository[@revision]`.

    Raises:
        ValueError: If the name has another form.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            "The name of a net of the hub must be `hf://owner/repository` or "
            f"`hf://owner/repository@revision`. Received: {name!r}"
        )
    return f"{match[1]}/{match[2]}", match[3] or "main"


def file_url(repository: str, revision: str, file: str) -> str:
    """Returns the URL of a file of a repository; `HF_ENDPOINT` overrides the hub's address."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{endpoint}/{repository}/resolve/{revision}/{file}"


def describe(repository: str, config: Mapping[str, Any], processor: Mapping[str, Any]) -> HubNet:
    """Returns the net that a config describes.

    Args:
        repository: Name of the repository, for messages.
        config: Contents of `config.json`.
        processor: Contents of the image processor's config, of transformers and KerasHub; may be
            empty.

    Raises:
        ValueError: If it is not a residual net that this package builds.
    """
    try:
        if "pretrained_cfg" in config or "architecture" in config:
            return _timm(repository, config)
        if config.get("model_type") == "resnet":
            return _transformers(repository, config, processor)
        if config.get("class_name") == "ResNetBackbone":
            return _keras_hub(config, processor)
    except (TypeError, AttributeError, LookupError, OverflowError) as error:
        raise ValueError(f"hf://{repository} has a value of a wrong type: {error}") from error
    kind = config.get("model_type") or config.get("class_name") or "unknown"
    raise ValueError(
        f"hf://{repository} is not a residual net of timm, transformers or KerasHub: its config "
        f"names {kind!r}"
    )


# Fields that both a name in the catalog and the tensors show.
_SHOWN = ("depths", "widths", "branch", "groups", "base_width")


def _timm_changes(
    repository: str, config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the spec fields that the tensors of a net of timm do not show, and that they do.

    Raises:
        ValueError: If the net is not built; says why.
    """
    name = str(config.get("architecture"))
    old = _TIMM_OLD.fullmatch(name)
    current = old[1] + (old[2] or "").replace("b", "") if old else name.removesuffix("_v1b")
    current = current.replace("seresnext26tn", "seresnext26t")
    changes = next((each for form, each in _TIMM if re.fullmatch(form, current)), None)
    arguments = config.get("model_args") or {}
    unusual = {
        key: value
        for key, value in arguments.items()
        if key not in _TIMM_HARMLESS and value != _TIMM_DEFAULTS.get(key, ...)
    }
    pool = config.get("global_pool") or "avg"
    if pool != "avg":
        unusual["global_pool"] = pool
    if changes is not None and not unusual:
        listed = VARIANTS.get(current)
        shown = {field: getattr(listed, field) for field in _SHOWN} if listed else {}
        if "channels" in arguments:
            shown.pop("widths", None)
        if "layers" in arguments:
            shown["depths"] = tuple(arguments["layers"])
        return dict(changes), shown
    cause = ""
    if changes is None:
        cause = next((f": {why}" for form, why in _TIMM_REFUSED if re.fullmatch(form, name)), "")
    form = f" with {unusual}" if unusual else ""
    raise ValueError(
        f"hf://{repository} is timm's {name!r}{form}, which is not supported{cause}. Supported are "
        "resnet, resnext, wide_resnet, seresnet, seresnext, ecaresnet, resnetblur, resnetaa, "
        "resnetrs, resnetv2 and repvgg with ReLU and batch norm, and timm's `_gn` nets"
    )


def _timm(repository: str, config: Mapping[str, Any]) -> HubNet:
    changes, shown = _timm_changes(repository, config)
    cfg = {**config, **(config.get("pretrained_cfg") or {})}
    cfg = {key: value for key, value in cfg.items() if value is not None}
    size = tuple(cfg.get("input_size", (3, 224, 224)))[-2:]
    interpolation = cfg.get("interpolation", "bilinear")
    return HubNet(
        "timm",
        ("model.safetensors", "pytorch_model.bin"),
        changes,
        PreprocessSpec(
            size,
            _scaled(cfg.get("mean", (0.485, 0.456, 0.406)), 255),
            _scaled(cfg.get("std", (0.229, 0.224, 0.225)), 255),
            crop_fraction=float(cfg.get("crop_pct", 0.875)),
            interpolation=interpolation if interpolation in get_args(Interpolation) else "bicubic",
        ),
        str(cfg.get("license", "see the model card")),
        shown=shown,
    )


def _scaled(values: Any, scale: int) -> tuple[float, ...]:
    """Returns numbers times a factor; a text would be repeated."""
    return tuple(scale * float(value) for value in values)


def _transformers(
    repository: str, config: Mapping[str, Any], processor: Mapping[str, Any]
) -> HubNet:
    if config.get("hidden_act", "relu") != "relu":
        raise ValueError(
            f"hf://{repository} has the activation {config['hidden_act']!r}; this package builds "
            "these nets with 'relu'"
        )
    changes = {
        "stride_placement": "1x1" if config.get("downsample_in_bottleneck") else "3x3",
        "first_stride": 2 if config.get("downsample_in_first_stage") else 1,
    }
    preprocess = None
    processor = {key: value for key, value in processor.items() if value is not None}
    # Other processors crop differently; nets of this architecture come with ConvNeXt's.
    kind = processor.get("image_processor_type", processor.get("feature_extractor_type"))
    if processor and "ConvNext" in str(kind or "ConvNext"):
        side = processor.get("size", 224)
        if isinstance(side, Mapping):
            side = side.get("shortest_edge") or side.get("height", 224)
        scale = 255 if processor.get("do_rescale", True) else 1
        constants = processor if processor.get("do_normalize", True) else {}
        preprocess = PreprocessSpec(
            (side, side),
            _scaled(constants.get("image_mean", (0.0,) * 3), scale),
            _scaled(constants.get("image_std", (1.0,) * 3), scale),
            # The processor crops only below 384 pixels.
            crop_fraction=float(processor.get("crop_pct") or 0.875) if side < 384 else 1.0,
            interpolation=_RESAMPLE.get(processor.get("resample", 2), "bilinear"),
        )
    files = ("model.safetensors", "pytorch_model.bin")
    return HubNet("transformers", files, changes, preprocess, shown=_shown_by_transformers(config))


def _shown_by_transformers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the spec fields of transformers' config that its tensors show too."""
    shown: dict[str, Any] = {}
    branch = config.get("layer_type")
    if branch in ("basic", "bottleneck"):
        shown["branch"] = branch
    if isinstance(config.get("depths"), list):
        shown["depths"] = tuple(config["depths"])
    if isinstance(config.get("hidden_sizes"), list) and "branch" in shown:
        expansion = 4 if branch == "bottleneck" else 1
        shown["widths"] = tuple(size // expansion for size in config["hidden_sizes"])
    return shown


def _keras_hub(config: Mapping[str, Any], processor: Mapping[str, Any]) -> HubNet:
    inner = config.get("config", {})
    changes: dict[str, Any] = {"conv_bias": False}
    if str(inner.get("block_type", "")).endswith("_vd"):
        changes.update(shortcut="D", stage_projection=True)
    converter = processor.get("config", {}).get("image_converter") or {}
    rescaling = converter.get("config", {})
    preprocess = None
    if rescaling.get("image_size"):
        preprocess = PreprocessSpec(tuple(rescaling["image_size"]), *_mean_and_std(rescaling))
    keys = {"depths": "stackwise_num_blocks", "widths": "stackwise_num_filters"}
    shown = {field: tuple(inner[key]) for field, key in keys.items() if key in inner}
    # KerasHub stores the backbone and the classifier in separate files.
    return HubNet(
        "keras_hub",
        ("model.weights.h5",),
        changes,
        preprocess,
        head="task.weights.h5",
        shown=shown,
    )


def _mean_and_std(rescaling: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and standard deviation that equal `scale * pixels + offset`."""
    scale, offset = rescaling.get("scale"), rescaling.get("offset")
    scales = tuple(scale) if isinstance(scale, list | tuple) else (float(scale or 1),) * 3
    offsets = tuple(offset) if isinstance(offset, list | tuple) else (float(offset or 0),) * 3
    return (
        tuple(-b / a for a, b in zip(scales, offsets, strict=True)),
        tuple(1 / a for a in scales),
    )
