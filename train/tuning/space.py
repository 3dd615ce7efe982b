"""Search spaces as data: axes of a net and numbers of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_resnet import ResNetSpec
from keras_resnet.nets.catalog import nearest

_SPEC = "model.spec."


@dataclasses.dataclass(frozen=True)
class Choice:
    """An axis of a few values.

    Attributes:
        name: Name of the hyperparameter.
        values: Values, the cheapest net's first; the base's own value is added.
        field: Dotted field of `RunConfig`; empty for `depth` and `width`, which scale the base.
        when: Name of another axis, and its values for which this axis has an effect.
        off: Value of the field where it has no effect; None keeps the base's.
        stems: Stems of a base for which the axis exists; empty for all.
    """

    name: str
    values: tuple[Any, ...]
    field: str = ""
    when: tuple[str, tuple[Any, ...]] | None = None
    off: Any = None
    stems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Factor:
    """A number of the recipe, drawn on a logarithmic scale around the base's; 0 stays 0.

    Attributes:
        name: Name of the hyperparameter.
        field: Dotted field of `RunConfig`.
        low: Smallest value, as a multiple of the base's.
        high: Largest value, as a multiple of the base's.
    """

    name: str
    field: str
    low: float
    high: float


Axis = Choice | Factor


@dataclasses.dataclass(frozen=True)
class Space:
    """A search space, relative to a base net and its recipe."""

    name: str
    help: str
    axes: tuple[Axis, ...]


_WITH_SHORTCUT = ("merge", ("add", "skipinit", "rezero", "highway"))

# `ResNetSpec` refuses invalid combinations, such as norm=fixup with order=pre; the search then
# draws another candidate.
_ARCHITECTURE: tuple[Axis, ...] = (
    Choice("depth", (0.33, 0.67, 1.0, 1.5)),
    Choice("width", (0.25, 0.5, 0.75, 1.0, 1.5)),
    Choice("branch", ("basic", "bottleneck"), f"{_SPEC}branch"),
    Choice("order", ("post", "pre"), f"{_SPEC}order"),
    Choice("merge", ("none", "add", "skipinit", "rezero", "highway"), f"{_SPEC}merge"),
    Choice("norm", ("batch", "fixup"), f"{_SPEC}norm", when=("merge", ("add",))),
    Choice("shortcut", ("A", "B", "C", "D"), f"{_SPEC}shortcut", when=_WITH_SHORTCUT),
    Choice("stem", ("imagenet", "deep"), f"{_SPEC}stem", stems=("imagenet", "deep")),
    Choice(
        "stride_placement",
        ("1x1", "3x3"),
        f"{_SPEC}stride_placement",
        when=("branch", ("bottleneck",)),
    ),
    Choice(
        "se_reduction",
        (0, 16, 4),
        f"{_SPEC}se_reduction",
        when=("merge", ("none", "add", "skipinit", "rezero", "highway")),
        off=0,
    ),
    Choice(
        "zero_init_residual",
        (False, True),
        f"{_SPEC}zero_init_residual",
        when=("merge", ("add", "highway")),
        off=False,
    ),
    Choice(
        "stochastic_depth",
        (0.0, 0.1, 0.2),
        f"{_SPEC}stochastic_depth",
        when=_WITH_SHORTCUT,
        off=0.0,
    ),
)

# The batch size is not an axis: in trials of a fixed number of steps it would change the number
# of images that a net is trained on.
_NUMBERS: tuple[Axis, ...] = (
    Factor("learning_rate", "schedule.learning_rate", 0.1, 4.0),
    Factor("weight_decay", "optimizer.weight_decay", 0.1, 10.0),
    Choice("label_smoothing", (0.0, 0.05, 0.1, 0.2), "optimizer.label_smoothing"),
)

SPACES: Mapping[str, Space] = {
    space.name: space
    for space in (
        Space("residual", "axes of the net and numbers of the recipe", _ARCHITECTURE + _NUMBERS),
        Space("recipe", "numbers of the recipe, the net as it is", _NUMBERS),
        Space(
            "width",
            "depth and width of the net, the recipe as it is",
            (
                Choice("depth", (0.33, 0.67, 1.0, 1.5, 2.0)),
                Choice("width", (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)),
            ),
        ),
    )
}


def get_space(name: str) -> Space:
    """Returns a space by name.

    Raises:
        ValueError: If there is no such space; the message lists the nearest names.
    """
    try:
        return SPACES[name]
    except KeyError:
        raise ValueError(f"Unknown space {name!r}. {nearest(name, SPACES)}") from None


def scaled(spec: ResNetSpec, depth: float, width: float) -> dict[str, Any]:
    """Returns the fields of a net `depth` times as deep and `width` times as wide.

    At least one unit per stage; numbers of filters are multiples of 4, which suits grouped and
    integer kernels.
    """

    def filters(count: int) -> int:
        return max(4, 4 * round(count * width / 4))

    # An unscaled base keeps widths that are not multiples of 4.
    fields: dict[str, Any] = {"depths": [max(1, round(units * depth)) for units in spec.depths]}
    fields["widths"] = list(spec.widths) if width == 1 else list(map(filters, spec.widths))
    if spec.stem_width is not None:
        fields["stem_width"] = spec.stem_width if width == 1 else filters(spec.stem_width)
    return fields
