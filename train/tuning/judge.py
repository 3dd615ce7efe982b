"""Whether a candidate may be trained: it is a net, and keeps to the limits."""

from __future__ import annotations

import contextlib

from ..rundir import spec_of
from .candidates import Values
from .directory import Record, SearchDirectory
from .limits import CostBook
from .plan import Prepared


class Judge:
    """Says whether a candidate may be trained, and lists it where not."""

    def __init__(self, prepared: Prepared, directory: SearchDirectory, costs: CostBook) -> None:
        self._prepared = prepared
        self._directory = directory
        self._costs = costs

    def __call__(self, values: Values) -> bool:
        """Whether a candidate may be trained."""
        try:
            reason = self._broken(values)
        except (ValueError, TypeError) as error:
            reason = f"no such net: {' '.join(str(error).split())}"
        if reason:
            self._directory.reject(Record("", dict(values), "rejected", reason))
        return not reason

    def check_space(self) -> None:
        """Checks that the smallest candidate keeps to the limits.

        Raises:
            ValueError: If it does not; says what it costs.
        """
        smallest = ""
        for values in self._prepared.candidates.smallest():
            with contextlib.suppress(ValueError, TypeError):  # no such net
                broken = self._broken(values)
                if not broken:
                    return
                smallest = smallest or broken
        if smallest:
            plan = self._prepared.plan
            raise ValueError(
                f"No net of --space {plan.space} about {plan.base.model.name} keeps to the "
                f"limits. The smallest has {smallest}"
            )

    def _broken(self, values: Values) -> str:
        cost = self._costs.of(spec_of(self._prepared.trial(values)))
        return "; ".join(self._prepared.plan.limits.broken(cost))
