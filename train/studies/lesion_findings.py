"""Figures, tables and sentences of the lesion study."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_resnet import ResNetSpec

from ..presentation import Findings, Line, Plot, Table


@dataclasses.dataclass(frozen=True)
class NetLesions:
    """The lesions of one net.

    Attributes:
        label: Name in figures and tables.
        spec: The net.
        images: Number of images.
        error: Error of the whole net, 0..1.
        single: Position (0 for the first unit of the net, 1 for the last), name and error for each
            unit deleted alone.
        several: Number of deleted units -> errors of the draws.
        moved: Kendall's rank correlation with the trained order, and the error, of each draw.
        chance: Error of a constant guess of the most frequent class.
    """

    label: str
    spec: ResNetSpec
    images: int
    error: float
    single: tuple[tuple[float, str, float], ...]
    several: dict[int, tuple[float, ...]]
    moved: tuple[tuple[float, float], ...]
    chance: float

    @property
    def plain(self) -> bool:
        """Whether the net has no shortcuts."""
        return self.spec.merge == "none"

    @property
    def mean_single(self) -> float:
        """Mean error after the deletion of one unit."""
        return float(np.mean([error for _, _, error in self.single]))


def findings(measured: Sequence[NetLesions], facts: dict[str, object]) -> Findings:
    """Returns the figures, tables and sentences."""
    return Findings(
        "Lesions: nets without some of their units",
        tuple(_words(measured)),
        (_single_plot(measured), _several_plot(measured), _moved_plot(measured)),
        (_table(measured), _units_table(measured)),
        facts,
    )


def _single_plot(measured: Sequence[NetLesions]) -> Plot:
    lines = []
    for colour, net in enumerate(measured):
        places = [place for place, _, _ in net.single]
        errors = [100 * error for _, _, error in net.single]
        lines.append(Line(net.label, places, errors, colour=colour, dashed=net.plain))
        lines.append(
            Line("", [0, 1], [100 * net.error] * 2, colour=colour, dashed=True, form="line")
        )
    return Plot(
        "lesion-single",
        "Test error after one unit is deleted; level lines: the whole net",
        "place of the deleted unit (0 = first, 1 = last)",
        "error (%)",
        tuple(lines),
        from_zero=True,
    )


def _several_plot(measured: Sequence[NetLesions]) -> Plot:
    lines = []
    for colour, net in enumerate(measured):
        numbers = sorted(net.several)
        values = [100 * np.asarray(net.several[number]) for number in numbers]
        lines.append(
            Line(
                net.label,
                [0, *numbers],
                [100 * net.error, *(float(each.mean()) for each in values)],
                [100 * net.error, *(float(each.min()) for each in values)],
                [100 * net.error, *(float(each.max()) for each in values)],
                colour=colour,
                dashed=net.plain,
            )
        )
    return Plot(
        "lesion-several",
        "Test error after units are deleted at random: mean and range",
        "deleted units",
        "error (%)",
        tuple(lines),
        from_zero=True,
    )


def _moved_plot(measured: Sequence[NetLesions]) -> Plot:
    lines = [
        Line(
            net.label,
            [correlation for correlation, _ in net.moved],
            [100 * error for _, error in net.moved],
            colour=colour,
            form="ring" if net.plain else "points",
        )
        for colour, net in enumerate(measured)
    ]
    return Plot(
        "lesion-moved",
        "Test error after units of a stage are exchanged",
        "Kendall's rank correlation with the trained order",
        "error (%)",
        tuple(lines),
        from_zero=True,
    )


def _table(measured: Sequence[NetLesions]) -> Table:
    records = []
    for net in measured:
        worst = max(net.single, key=lambda each: each[2])
        half = min(net.several, key=lambda number: abs(number - len(net.single) / 2))
        records.append(
            {
                "Net": net.label,
                "Units": len(net.single),
                "Error (%)": 100 * net.error,
                "Without one, mean (%)": 100 * net.mean_single,
                "Worst (%)": 100 * worst[2],
                "Worst unit": worst[1],
                "Deleted": half,
                "Error without them (%)": 100 * float(np.mean(net.several[half])),
            }
        )
    return Table.of(
        "lesions",
        "Errors of the whole net, without one of the units that keep the shape, and without about "
        "half of them",
        records,
    )


def _units_table(measured: Sequence[NetLesions]) -> Table:
    records = [
        {"Net": net.label, "Deleted": name, "Error (%)": 100 * error}
        for net in measured
        for _, name, error in net.single
    ]
    return Table.of("lesions-by-unit", "Error without each unit", records, shown=False)


def _words(measured: Sequence[NetLesions]) -> list[str]:
    words = []
    for net in measured:
        kind = "plain" if net.plain else "residual"
        words.append(
            f"{net.label} ({kind}): the error is {100 * net.error:.1f} %; without one of "
            f"{len(net.single)} units it is {100 * net.mean_single:.1f} % in the mean and "
            f"{100 * max(each[2] for each in net.single):.1f} % at most "
            f"({100 * net.chance:.1f} % is a constant guess)."
        )
    plain = [net for net in measured if net.plain]
    residual = [net for net in measured if not net.plain]
    if plain and residual:
        rise = {
            name: max(net.mean_single - net.error for net in nets)
            for name, nets in (("plain", plain), ("residual", residual))
        }
        words.append(
            f"The deletion of one unit raises the error by up to {100 * rise['residual']:.1f} "
            f"points in the mean of a residual net, and {100 * rise['plain']:.1f} of a plain one."
        )
    return words
