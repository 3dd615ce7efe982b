"""The names that keras.applications gives to layers, and ours: each translated to the other.

Nets of the functions named as in keras.applications have layers of these names, so that code which
goes by `layer.name` does what it does there. The rest of the package knows layers by its own names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

LayerNames = Literal["own", "keras.applications"]

_FIXED = {
    "conv1_pad": "stem_pad",
    "conv1_conv": "stem_conv",
    "conv1_bn": "stem_norm",
    "conv1_relu": "stem_act",
    "pool1_pad": "stem_pool_pad",
    "pool1_pool": "stem_pool",
    "post_bn": "final_norm",
    "post_relu": "final_act",
    "avg_pool": "pool",
    "max_pool": "pool",
    "predictions": "logits",
    "logits": "predictions",
}
_UNIT = re.compile(r"conv(\d+)_block(\d+)_(\w+)")
_NUMBERED = re.compile(r"(\d)_(conv|bn|relu)")
_KINDS = {"conv": "conv", "bn": "norm", "relu": "act"}


def own_name(
    name: str, names: Mapping[str, str], unrolled: Sequence[str], *, preactivated: bool
) -> str:
    """Returns what a net calls the layer that keras.applications calls `name`.

    Args:
        name: A name of keras.applications, such as `"conv5_block3_out"`, or another.
        names: The names of the net's layers, in order, by the names that this package gives them.
        unrolled: The names that its unrolled form would have.
        preactivated: Whether the net's units begin with their norm and activation.

    Raises:
        ValueError: If the net does not have this layer; names it, or the most similar ones.
    """
    ours = _translated(name, unrolled, preactivated)
    if ours in names:
        return str(ours)
    if ours in unrolled or name in unrolled:
        raise ValueError(
            f"{ours or name!r} is inside a layer that holds several units. Build the net with "
            "`stacked=False` to get it as a layer"
        )
    hint = f"this package calls it {ours!r}, which this net does not have. " if ours else ""
    if ours:
        similar = [names[each] for each in difflib.get_close_matches(ours, names, 4, cutoff=0.4)]
    else:
        known = dict.fromkeys([*names.values(), *names])
        similar = difflib.get_close_matches(name, known, 4, cutoff=0.4)
    listed = ", ".join(similar or list(names.values())[-4:])
    raise ValueError(f"No such layer: {name!r}. {hint}Similar names: {listed}")


def _translated(name: str, unrolled: Sequence[str], preactivated: bool) -> str | None:
    """Returns our name of the layer; None if the name is not one of keras.applications."""
    if name in _FIXED:
        return _FIXED[name]
    match = _UNIT.fullmatch(name)
    if match is None:
        return None
    unit = f"stage{int(match[1]) - 1}_unit{int(match[2])}"
    role = match[3]
    if role == "out":
        own = [each for each in unrolled if each.startswith(f"{unit}_")]
        return own[-1] if own else f"{unit}_out"
    fixed = {"add": "merge", "preact_bn": "norm1", "preact_relu": "act1"}
    if role in fixed:
        return f"{unit}_{fixed[role]}"
    numbered = _NUMBERED.fullmatch(role)
    if numbered is None:
        return None
    number, kind = int(numbered[1]), numbered[2]
    if number == 0:
        return f"{unit}_shortcut_{_KINDS[kind]}"
    # In pre-activation nets, theirs have the number of the convolution before, ours of that after.
    shift = 1 if preactivated and kind != "conv" else 0
    return f"{unit}_{_KINDS[kind]}{number + shift}"


_OWN_UNIT = re.compile(r"stage(\d+)_unit(\d+)_(\w+)")
_OWN_NUMBERED = re.compile(r"(conv|pad|norm|act)(\d)")
_THEIR_NUMBERED = re.compile(r"(\d)_(conv|pad|bn|relu)")
_THEIR_KINDS = {"conv": "conv", "pad": "pad", "norm": "bn", "act": "relu"}
_OWN_KINDS = {theirs: ours for ours, theirs in _THEIR_KINDS.items()}
_STEM_AND_HEAD = {
    "stem_pad": "conv1_pad",
    "stem_conv": "conv1_conv",
    "stem_norm": "conv1_bn",
    "stem_act": "conv1_relu",
    "stem_pool_pad": "pool1_pad",
    "stem_pool": "pool1_pool",
    "final_norm": "post_bn",
    "final_act": "post_relu",
    "pool": "avg_pool",
}
_OWN_STEM_AND_HEAD = {theirs: ours for ours, theirs in _STEM_AND_HEAD.items()} | {
    "max_pool": "pool"
}


def applications_name(name: str, *, preactivated: bool) -> str:
    """Returns the name that keras.applications gives to a layer of ours, or would give to it.

    Layers of units that keras.applications does not have keep their role: `stage2_unit1_se_fc1`
    becomes `conv3_block1_se_fc1`. Other names are returned as they are.

    Args:
        name: Our name, such as `"stage4_unit3_out"`.
        preactivated: Whether the net's units begin with their norm and activation.

    Source: keras/src/applications/resnet.py, `residual_block_v1` and `residual_block_v2`.
    """
    unit = _OWN_UNIT.fullmatch(name)
    if unit is None:
        return _STEM_AND_HEAD.get(name, name)
    stage, index, role = unit.groups()
    return f"conv{int(stage) + 1}_block{index}_{_their_role(role, preactivated)}"


def _their_role(role: str, preactivated: bool) -> str:
    if role in ("shortcut_conv", "shortcut_norm"):
        return f"0_{_THEIR_KINDS[role.removeprefix('shortcut_')]}"
    if role == "merge":  # a pre-activation unit ends with it
        return "out" if preactivated else "add"
    numbered = _OWN_NUMBERED.fullmatch(role)
    if numbered is None:
        return role
    kind, number = numbered[1], int(numbered[2])
    if preactivated and kind in ("norm", "act"):
        if number == 1:
            return f"preact_{_THEIR_KINDS[kind]}"
        number -= 1  # theirs have the number of the convolution before, ours of that after
    return f"{number}_{_THEIR_KINDS[kind]}"


def own_names(names: Iterable[str], *, preactivated: bool | None = None) -> dict[str, str]:
    """Returns our names of a net's layers, by the names that they have.

    Args:
        names: The names, ours or those of keras.applications.
        preactivated: Whether the net's units begin with their norm and activation; None decides
            by the names.
    """
    names = list(names)
    if not any(_UNIT.fullmatch(name) for name in names):
        return {name: name for name in names}
    if preactivated is None:
        preactivated = any("_preact_" in name for name in names)
    return {name: from_applications_name(name, preactivated=preactivated) for name in names}


def from_applications_name(name: str, *, preactivated: bool) -> str:
    """Returns our name of the layer that `applications_name` named; others as they are."""
    unit = _UNIT.fullmatch(name)
    if unit is None:
        return _OWN_STEM_AND_HEAD.get(name, name)
    role = unit[3]
    return f"stage{int(unit[1]) - 1}_unit{unit[2]}_{_own_role(role, preactivated)}"


def _own_role(role: str, preactivated: bool) -> str:
    fixed = {"add": "merge", "preact_bn": "norm1", "preact_relu": "act1"}
    if preactivated:
        fixed["out"] = "merge"
    numbered = _THEIR_NUMBERED.fullmatch(role)
    if numbered is None:
        return fixed.get(role, role)
    number, kind = int(numbered[1]), _OWN_KINDS[numbered[2]]
    if number == 0:
        return f"shortcut_{kind}"
    return f"{kind}{number + 1 if preactivated and kind in ('norm', 'act') else number}"
