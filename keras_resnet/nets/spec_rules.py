"""Which values of a spec's fields exclude one another: one table.

A rule reads: when the fields on the left have these values, the fields in the middle need those,
because of the reason on the right. What relates numbers rather than values stands in `spec`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Not(NamedTuple):
    """Every value but one."""

    value: object


class Rule(NamedTuple):
    """Values that go together.

    Attributes:
        when: Field to its values, one of which has to be there for the rule to apply.
        needs: Field to the values that it may then have.
        why: The reason, as it ends an error message.
    """

    when: Mapping[str, tuple[object, ...] | Not]
    needs: Mapping[str, tuple[object, ...]]
    why: str

    def broken(self, spec: Any) -> str | None:
        """Returns the message for a spec that breaks the rule, or None."""
        if not all(_holds(getattr(spec, field), values) for field, values in self.when.items()):
            return None
        broken = {
            field: values
            for field, values in self.needs.items()
            if getattr(spec, field) not in values
        }
        if not broken:
            return None
        condition = " and ".join(f"{field}={getattr(spec, field)!r}" for field in self.when)
        needs = ", ".join(
            f"{field}={' or '.join(map(repr, values))}" for field, values in broken.items()
        )
        return f"{condition} needs {needs}: {self.why}"


def _holds(value: object, values: tuple[object, ...] | Not) -> bool:
    return value != values.value if isinstance(values, Not) else value in values


_UNHAMPERED = {"shortcut_scale": (1,), "branch_scale": (1,), "shortcut_dropout": (0,)}
_COMPARED_ORDERS = ("norm_after_add", "relu_before_add", "relu_only_pre")

RULES = (
    # Merges and what stands on their paths.
    Rule(
        {"merge": ("none",)},
        {"zero_init_residual": (False,), "stochastic_depth": (0,)},
        "without a shortcut, a branch that is zero or dropped passes nothing on",
    ),
    Rule(
        {"merge": ("rezero", "skipinit")},
        {"zero_init_residual": (False,)},
        "this merge starts at the shortcut already; two zeros in a row never get a gradient",
    ),
    Rule(
        {"merge": Not("add")},
        _UNHAMPERED,
        "constant factors and dropout belong to the addition",
    ),
    # Norms, and nets without them.
    Rule(
        {"norm": ("fixup",)},
        {
            "branch": ("basic", "bottleneck"),
            "order": ("post",),
            "merge": ("add",),
            "conv_bias": (False,),
            "se_reduction": (0,),
            "eca": (False,),
            "blur": (0,),
            "zero_init_residual": (False,),
            **_UNHAMPERED,
        },
        "Fixup has scalars of its own in place of norms and biases",
    ),
    # Orders that exist to be compared with.
    Rule(
        {"order": _COMPARED_ORDERS},
        {"norm": ("batch",), "se_reduction": (0,), "eca": (False,)},
        "He et al. 2016 compare places of the norm, in nets without squeeze-and-excitation",
    ),
    Rule(
        {"order": ("relu_before_add",)},
        {"zero_init_residual": (False,)},
        "a branch that ends in ReLU gets no gradient at zero",
    ),
    # RepVGG.
    Rule(
        {"branch": ("single",)},
        {"merge": ("none",)},
        "a fused RepVGG has no shortcuts",
    ),
    Rule(
        {"branch": ("repvgg",)},
        {"merge": ("add",), "norm": ("batch",), "shortcut": ("B",)},
        "RepVGG adds up normed paths",
    ),
    Rule(
        {"branch": ("repvgg", "single")},
        {
            "order": ("post",),
            "stride_unit": ("first",),
            "se_reduction": (0,),
            "eca": (False,),
            "blur": (0,),
            "zero_init_residual": (False,),
            "stochastic_depth": (0,),
            **_UNHAMPERED,
        },
        "the unit is fused to one convolution after training",
    ),
    Rule(
        {"stem": ("unit",)},
        {"branch": ("repvgg", "single")},
        "only RepVGG has a unit as its stem",
    ),
    # Branches.
    Rule(
        {"branch": Not("bottleneck")},
        {"groups": (1,), "base_width": (64,)},
        "both apply to the 3x3 convolution of a bottleneck",
    ),
    Rule(
        {"inner_widths": Not(None)},
        {"branch": ("basic", "bottleneck"), "groups": (1,)},
        "they are the channels between a unit's convolutions, not those of groups",
    ),
    Rule(
        {"init": ("delta_orthogonal",)},
        {"groups": (1,)},
        "an orthogonal matrix maps all channels",
    ),
    Rule(
        {"eca": (True,)},
        {"se_reduction": (0,)},
        "a branch has one kind of channel attention",
    ),
    # Stems.
    Rule(
        {"stem_activation": (False,)},
        {"order": ("pre",)},
        "the first unit has to begin with the activation that the stem leaves out",
    ),
    Rule(
        {"stem": ("cifar", "unit")},
        {"stem_pool": ("max",)},
        "this stem has no pool; leave `stem_pool` at its default",
    ),
    Rule(
        {"stem_pool": ("conv",)},
        {"stem_activation": (True,)},
        "two convolutions in a row are one",
    ),
    Rule(
        {"stem_pool": ("max_zero",)},
        {"padding": ("symmetric",), "blur": (0,)},
        "only a pool of stride 2 that is padded on both sides meets the border of zeros",
    ),
    # Strides and shortcuts.
    Rule(
        {"blur": Not(0)},
        {"shortcut": ("B", "C", "D"), "stride_unit": ("first",)},
        "the low-pass filter precedes a projection",
    ),
    Rule(
        {"shortcut": ("C",)},
        {"stride_unit": ("first",)},
        "a unit with stride_unit='last' subsamples its input without a projection",
    ),
    Rule(
        {"stride_unit": ("last",)},
        {"first_stride": (1,), "max_stride": (None,)},
        "the stride stands in the last unit of a stage",
    ),
)


def broken_rules(spec: Any) -> Iterator[str]:
    """Yields a message for each rule that a spec breaks."""
    for rule in RULES:
        message = rule.broken(spec)
        if message is not None:
            yield message
