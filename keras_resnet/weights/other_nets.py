"""Names of tensors by which nets are known that this package does not build, and the cause."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Under any prefix: the name of a tensor that all nets of a kind have, and what the kind is.
_SIGNS: tuple[tuple[str, str], ...] = (
    (
        r"(.*/)?bn_data/.*",
        "a net of qubvel's classification_models (segmentation_models), converted from MXNet: it "
        "norms its input, and both its stem and its first unit end or begin with a norm and ReLU. "
        "Neither is built; keras_resnet.build('resnet34v2') is the nearest net, without weights",
    ),
    (
        r"(.*\.)?layer1\.0\.conv1\.0\.weight",
        "a video net of torchvision (r3d_18, mc3_18 or r2plus1d_18), whose stem and units are not "
        "built",
    ),
    (
        r"(.*\.)?stage2\.0\.branches\.0\.0\.conv1\.weight",
        "HRNet, whose branches of several resolutions are mixed: it is not built",
    ),
    (
        r"(.*\.)?layer1\.0\.se_module\.fc1\.weight",
        "a net of pretrainedmodels or of timm's `legacy_` names (SENet): its stem, pool or "
        "projections are not built",
    ),
    (
        r"(.*\.)?layer1\.0\.convs\.0\.weight",
        "Res2Net, whose branches are split into scales: it is not built",
    ),
    (
        r"(.*\.)?layer1\.0\.conv2\.fc1\.weight",
        "ResNeSt, whose branches are split and attended to: it is not built",
    ),
    (
        r"(.*\.)?layer1\.0\.conv[12]\.paths\.0\.conv\.weight",
        "a net with selective kernels (two convolutions and a choice): it is not built",
    ),
    (
        r"(.*\.)?stages\.0\.0\.conv1_1x1\.conv\.weight",
        "a net of timm's `ByobNet` (resnet33ts, resnet51q, gcresnet50t, halonet, botnet and "
        "others): its stem, activation or attention is not built",
    ),
    (
        r"(.*\.)?stages\.0\.blocks\.0\.norm1\.(v|tau)",
        "a net with EvoNorm or filter response norm: these norms are not built",
    ),
    (
        r"(.*\.)?stages\.0\.blocks\.0\.conv1\.conv\.weight",
        "a cross-stage partial net (CSPNet, DarkNet), whose stages are split: it is not built",
    ),
    (
        r"(.*\.)?attnpool\.positional_embedding",
        "CLIP's image encoder, which ends in attention over positions and pools before strides: "
        "it is not built",
    ),
)
_PATTERNS = tuple((re.compile(sign), kind) for sign, kind in _SIGNS)


def check_built(names: Iterable[str], *, source: str) -> None:
    """Checks that names are not those of a net that is known and not built.

    Args:
        names: Names of tensors.
        source: Name of their source, for messages.

    Raises:
        ValueError: If they are; says which net it is, and why it is not built.

    Example:
        >>> check_built(["layer1.0.convs.0.weight"], source="'net.pth'")
        Traceback (most recent call last):
        ValueError: 'net.pth' holds Res2Net, whose branches are split into scales: it is not built
    """
    listed = tuple(names)
    for pattern, kind in _PATTERNS:
        if any(pattern.fullmatch(name) for name in listed):
            raise ValueError(f"{source} holds {kind}")
