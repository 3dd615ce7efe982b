"""The filter of candidates: which of them are valid nets within the limits."""

from __future__ import annotations

import contextlib

from ..rundir import spec_of
from .candidates import Values
from .directory import SearchDirectory, TrialRecord
from .limits import CostBook
from .plan import PreparedSearch


class CandidateFilter:
    """Decides whether a candidate may be trained, and records those that may not."""

    def __init__(
        self, prepared: PreparedSearch, directory: SearchDirectory, costs: CostBook
    ) -> None:
        self._prepared = prepared
        self._directory = directory
        self._costs = costs

    def __call__(self, values: Values) -> bool:
        """Whether a candidate may be trained."""
        try:
            reason = self._broken_limits(values)
        except (ValueError, TypeError) as error:
            reason = f"no such net: {' '.join(str(error).split())}"
        if reason:
            self._directory.reject(TrialRecord("", dict(values), "rejected", reason))
        return not reason

    def check_space(self) -> None:
        """Checks that the smallest candidate keeps to the limits.

        Raises:
            ValueError: If it does not; the message has its cost.
        """
        smallest = ""
        for values in self._prepared.candidates.smallest():
            with contextlib.suppress(ValueError, TypeError):  # not a valid net
                broken = self._broken_limits(values)
                if not broken:
                    return
                smallest = smallest or broken
        if smallest:
            plan = self._prepared.plan
            raise ValueError(
                f"No net of --space {plan.space} around {plan.base.model.name} keeps to the "
                f"limits. The smallest has {smallest}"
            )

    def _broken_limits(self, values: Values) -> str:
        cost = self._costs.of(spec_of(self._prepared.trial(values)))
        return "; ".join(self._prepared.plan.limits.broken(cost))
