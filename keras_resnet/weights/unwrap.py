"""The net in a set of tensors: found by its structure, under whatever prefix it lies."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from keras_resnet.weights.legacy_names import Translated, translate
from keras_resnet.weights.recognize import SIGNS, recognize

Arrays = Mapping[str, np.ndarray]

_HF_SIGN = "embedder.embedder.convolution.weight"
_NUMBERED = re.compile(r"(|.*\.)(\d+)\.0\.conv1\.weight")
_LISTED = 6
_MAX_PLACES = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Unwrapped:
    """The tensors of one net.

    Attributes:
        prefix: The prefix that was removed from their names.
        tensors: Arrays by the names of the net's library.
        left_out: Number of other tensors, by the first part of the name that tells them apart.
        translated: The names of an older library, if it had them; without its tensors.
    """

    prefix: str
    tensors: dict[str, np.ndarray]
    left_out: dict[str, int]
    translated: Translated


def unwrap(tensors: Arrays, *, source: str, prefix: str | None = None) -> Unwrapped:
    """Finds the one residual net in a set of tensors.

    Wrappers (DataParallel, torch.compile, Lightning), frameworks (mmpretrain, detectors) and
    methods (MoCo, DINO, exponential averages) put a net under a prefix. A prefix counts if the
    tensors under it are those of a net that this package builds.

    Args:
        tensors: Arrays by name; nested keys are joined by dots.
        source: Name of the source, for messages.
        prefix: The prefix to use, where there are several nets.

    Raises:
        ValueError: If there is no net, or several and no `prefix`.
    """
    translated = translate(tensors, source=source)
    tensors = translated.tensors
    places = _places(tensors)
    if prefix is not None:
        chosen = _under(places, prefix)
        if not chosen:
            raise ValueError(
                f"{source} has no net under prefix={prefix!r}. Prefixes with the names of a net: "
                f"{', '.join(map(repr, places)) or 'none'}"
            )
        places = {place: places[place] for place in chosen}
    errors = []
    nets = {}
    for place, net in places.items():
        try:
            recognize(net, source=source)
        except ValueError as error:
            errors.append(error)
        else:
            nets[place] = net
    if len(nets) > 1:
        listed = [f"prefix={place!r}" for place in nets]
        more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
        raise ValueError(
            f"{source} holds {len(nets)} nets; choose one: {', '.join(listed[:_LISTED])}{more}"
        )
    if not nets:
        if errors:
            raise errors[0]
        recognize(tensors, source=source)  # raises: there are no names of a net
    ((place, net),) = nets.items()
    head = _sibling_head(tensors, place, net)
    left_out = _left_out({name: tensors[name] for name in tensors if name not in head}, place)
    net |= {f"fc.{name.rpartition('.')[2]}": array for name, array in head.items()}
    translated = dataclasses.replace(translated, tensors={})
    return Unwrapped(place, net, left_out, translated)


def _sibling_head(tensors: Arrays, place: str, net: Arrays) -> dict[str, np.ndarray]:
    """Returns the classifier that OpenMMLab keeps beside the net: `backbone.` and `head.fc.`."""
    if not place.endswith("backbone.") or "fc.weight" in net or "layer1.0.conv1.weight" not in net:
        return {}
    start = f"{place.removesuffix('backbone.')}head.fc."
    head = {name: tensors[name] for name in tensors if name.startswith(start)}
    kernel = head.get(f"{start}weight")
    width = _width(net)
    return head if kernel is not None and kernel.ndim == 2 and kernel.shape[1] == width else {}


def _width(net: Arrays) -> int:
    """Returns the channels of the last stage of a net in torchvision's names."""
    stage = 1
    while f"layer{stage + 1}.0.conv1.weight" in net:
        stage += 1
    bottleneck = f"layer{stage}.0.conv3.weight"
    return int(net[bottleneck if bottleneck in net else f"layer{stage}.0.conv2.weight"].shape[0])


def _places(tensors: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Returns the tensors under each prefix that has the sign of a library, by prefix."""
    places: dict[str, dict[str, np.ndarray]] = {}
    for name in tensors:
        for place, form in _signs(name, tensors):
            if place in places:
                continue
            if len(places) == _MAX_PLACES:
                raise ValueError(f"More than {_MAX_PLACES} prefixes have the names of a net")
            below = {key[len(place) :]: tensors[key] for key in tensors if key.startswith(place)}
            if form == "hf":
                below = {_with_root(key): array for key, array in below.items()}
            elif form == "numbers":
                below = _with_names(below)
            places[place] = below
    return places


def _under(places: Iterable[str], prefix: str) -> list[str]:
    """Returns the place that is a prefix, those below it, or those that end in it.

    The last separator may be missing, and so may outer keys such as `state_dict.`.
    """
    places = list(places)
    exact = [place for place in places if prefix in (place, place[:-1])]
    whole = prefix if prefix.endswith((".", "/")) else f"{prefix}."
    starts = (whole, f"{prefix}/")
    below = [place for place in places if place.startswith(starts)]
    return exact or below or [place for place in places if f".{place}".endswith(f".{whole}")]


def _signs(name: str, tensors: Arrays) -> Iterator[tuple[str, str]]:
    """Yields the prefixes before the sign of a library at the end of a name, and their form."""
    if name.endswith(_HF_SIGN):
        place = name.removesuffix(_HF_SIGN)
        if not place or place.endswith("."):
            if not place.endswith("regnet."):
                yield place.removesuffix("resnet."), "hf"
            return
    for sign, layout in SIGNS:
        if name.endswith(sign):
            place = name.removesuffix(sign)
            if not place or (place[-1] in "./" and layout != "mlperf_tiny"):
                yield place, "names"
    match = _NUMBERED.fullmatch(name)
    if match is not None:
        place = match[1]
        stem = {f"{place}0.weight", f"{place}1.running_mean"}
        earlier = f"{place}{int(match[2]) - 1}.0.conv1.weight"
        if stem <= set(tensors) and earlier not in tensors:
            yield place, "numbers"


def _with_root(name: str) -> str:
    """Returns the name that `ResNetForImageClassification` gives a tensor of `ResNetModel`."""
    return f"resnet.{name}" if name.startswith(("embedder.", "encoder.")) else name


def _with_names(tensors: Arrays) -> dict[str, np.ndarray]:
    """Returns the tensors of a `Sequential` of torchvision's modules with torchvision's names.

    The modules are the stem's convolution, its norm, ReLU, perhaps the pool, the stages, and
    perhaps the classifier.
    """
    first = min(
        int(key.split(".")[0]) for key in tensors if re.match(r"\d+\.0\.conv1\.weight", key)
    )
    kernel = tensors["0.weight"]
    if first not in (3, 4) or (first == 3 and kernel.shape[2:] == (7,) * (kernel.ndim - 2)):
        raise ValueError(
            f"A `Sequential` of a residual net has its first stage at 4, behind convolution, norm, "
            f"ReLU and pool, or at 3 without a pool behind a 3x3 convolution. Received: {first}, "
            f"with a kernel of shape {tuple(kernel.shape)}"
        )
    numbers = {int(key.split(".")[0]) for key in tensors if key.split(".")[0].isdigit()}
    names = {0: "conv1", 1: "bn1"}
    stage = first
    while f"{stage}.0.conv1.weight" in tensors:
        names[stage] = f"layer{stage - first + 1}"
        stage += 1
    dense = [number for number in numbers if number >= stage and f"{number}.weight" in tensors]
    if len(dense) == 1:
        names[dense[0]] = "fc"
    renamed = {}
    for key, array in tensors.items():
        head, _, rest = key.partition(".")
        known = names.get(int(head)) if head.isdigit() else None
        renamed[f"{known}.{rest}" if known else key] = array
    return renamed


def _left_out(tensors: Arrays, prefix: str) -> dict[str, int]:
    """Counts the tensors outside a prefix, by the part of the name that tells them apart."""
    separator = "/" if prefix.endswith("/") else "."
    path = prefix.split(separator)[:-1]
    counts: collections.Counter[str] = collections.Counter()
    for name in tensors:
        if name.startswith(prefix):
            continue
        parts = name.split(separator)
        common = 0
        while common < min(len(path), len(parts) - 1) and path[common] == parts[common]:
            common += 1
        counts[separator.join(parts[: common + 1])] += 1
    return dict(counts)


def count_left_out(counts: Mapping[str, int], limit: int = 6) -> str:
    """Returns counts on one line: `3 of head, 1 of n_averaged`."""
    listed = [f"{count} of {name}" for name, count in counts.items()]
    more = f" and {len(listed) - limit} more groups" if len(listed) > limit else ""
    return f"{', '.join(listed[:limit])}{more}"
