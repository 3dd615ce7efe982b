"""The names that keras.applications gives to layers, translated to ours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

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
    name: str, names: Sequence[str], unrolled: Sequence[str], *, preactivated: bool
) -> str:
    """Returns what a net calls the layer that keras.applications calls `name`.

    Args:
        name: A name of keras.applications, such as `"conv5_block3_out"`, or another.
        names: The names of the net's layers, in order.
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
    similar = difflib.get_close_matches(ours or name, names, n=4, cutoff=0.4)
    hint = f"this package calls it {ours!r}, which this net does not have. " if ours else ""
    raise ValueError(
        f"No such layer: {name!r}. {hint}Similar names: {', '.join(similar or names[-4:])}"
    )


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
