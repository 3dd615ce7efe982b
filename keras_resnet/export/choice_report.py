"""The table and the plot of an automatic choice."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_resnet.export.artifacts import write_text
from keras_resnet.weights.files.file_system import replace

if TYPE_CHECKING:
    from keras_resnet.export.choose import Candidate, Wanted


def rows(candidates: Sequence[Candidate], chosen: Candidate | None) -> list[tuple[str, ...]]:
    """Returns the cells of the table, its head first."""
    head = ("file", "precision", "KB", "ms per image", "accuracy, %", "agreement, %", "verdict")
    table: list[tuple[str, ...]] = [head]
    for each in candidates:
        v = each.verification
        verdict = "; ".join(each.reasons) or "keeps the limits, slower or larger"
        if each is chosen:
            verdict = "chosen: the fastest that keeps the limits, or as fast and smaller"
        if v is None:
            table.append((each.file, "", "", "", "", "", verdict))
            continue
        table.append(
            (
                each.file,
                v.precision,
                f"{v.bytes / 1000:.1f}",
                "" if each.latency_ms is None else f"{each.latency_ms:.3g}",
                "" if v.accuracy is None else f"{100 * v.accuracy:.2f}",
                f"{100 * v.agreement:.2f}",
                verdict,
            )
        )
    return table


def write_table(
    path: Path,
    candidates: Sequence[Candidate],
    chosen: Candidate | None,
    wanted: Wanted,
    threads: int,
) -> None:
    """Writes the table as Markdown, with the limits and the conditions of the measurement."""
    head, *body = rows(candidates, chosen)
    limits = []
    if wanted.accuracy_drop is not None:
        limits.append(f"accuracy drop at most {100 * wanted.accuracy_drop:g} points")
    if wanted.latency_ms is not None:
        limits.append(f"latency at most {wanted.latency_ms:g} ms")
    if wanted.bytes is not None:
        limits.append(f"size at most {wanted.bytes / 1000:g} KB")
    measured = [each.verification for each in candidates if each.verification is not None]
    images = measured[0].images if measured else 0
    lines = [
        f"# {'No file keeps the limits' if chosen is None else chosen.file}",
        "",
        f"Limits: {', '.join(limits) or 'none'}. Accuracy on {images} images; latency: median of "
        f"one image on this machine, {threads} threads, the files in turns.",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in body),
        "",
    ]
    write_text(path, "\n".join(lines))


def write_plot(
    path: Path, candidates: Sequence[Candidate], chosen: Candidate | None, wanted: Wanted
) -> bool:
    """Writes accuracy against size and latency; returns whether matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None or not candidates:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    kinds = (("size, KB", wanted.bytes and wanted.bytes / 1000), ("latency, ms", wanted.latency_ms))
    for axis, (name, limit) in zip(axes, kinds, strict=True):
        for each in candidates:
            v = each.verification
            if v is None:
                continue
            x = v.bytes / 1000 if name.startswith("size") else each.latency_ms
            y = 100 * (v.agreement if v.accuracy is None else v.accuracy)
            marker = "*" if each is chosen else "o" if not each.reasons else "x"
            axis.plot([x], [y], marker, color="tab:blue", markersize=12 if marker == "*" else 6)
            label = each.file.removeprefix("model_")
            axis.annotate(label, (x, y), (4, 4), textcoords="offset points", fontsize=8)
        if limit is not None:
            axis.axvline(limit, color="grey", linestyle="--")
        axis.set_xscale("log")
        axis.set_xlabel(name)
    labelled = any(v.accuracy is not None for v in (each.verification for each in candidates) if v)
    axes[0].set_ylabel("accuracy, %" if labelled else "agreement with the Keras model, %")
    figure.suptitle("star: chosen; circle: keeps the limits; cross: does not", fontsize=9)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    figure.savefig(temporary)
    replace(temporary, path)
    return True
