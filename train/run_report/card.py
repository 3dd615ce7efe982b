"""The model card of a run: `README.md` of a repository of the Hugging Face hub."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.texts import escaped

from ..files import read_object
from ..presentation.formats import is_number
from ..presentation.style import COLOURS, SERIES
from ..rundir import Run
from .curves import PANELS, curves

_SPLITS = ("test", "validation")
_MARKUP = re.compile(r"[\\`*\[\]>~]|^[#+-]")


@dataclasses.dataclass(frozen=True)
class Published:
    """What a published folder holds beside the run's own facts.

    Attributes:
        weights: Name of the weights' file.
        architecture: timm's name of the net; None if timm has no such net.
        why_not_timm: The reason then.
        licence: SPDX identifier, or None if not stated.
        certificate: The certificate as a dict, or None.
        repository: `owner/name` on the hub, or None.
        curves: Whether there is a picture `curves.png`.
    """

    weights: str
    architecture: str | None
    why_not_timm: str
    licence: str | None
    certificate: Mapping[str, Any] | None
    repository: str | None
    curves: bool


def model_card(run: Run, published: Published) -> str:
    """Returns the card as Markdown with the hub's metadata in front."""
    name = f"{run.spec.name} on {data_name(run.config.data.dataset)}"
    parts = [
        _front_matter(run, published, name),
        f"# {_plain(name)}",
        f"{_plain(run.spec.name)}, {run.spec.layers} layers, {run.model.count_params():,} "
        "parameters, trained with keras_resnet. It classifies images into "
        f"{len(run.class_names)} classes and returns logits.",
        "## Use",
        _use(published),
        "## Data",
        _data(run),
        "## Recipe",
        _recipe(run),
        "## Metrics",
        _metrics(run.directory.metrics),
    ]
    if published.curves:
        parts += ["## Curves", "![Accuracy and loss against the epoch](curves.png)"]
    parts += ["## Certificate", _certificate(published), "## Licence", _licence(published)]
    return "\n\n".join(parts) + "\n"


def data_name(dataset: str) -> str:
    """Returns the name of a data set; of a folder, its last part."""
    return Path(dataset).name if Path(dataset).is_absolute() or "\\" in dataset else dataset


def curves_png(history: Sequence[Mapping[str, float]]) -> bytes | None:
    """Returns accuracy and loss against the epoch as a PNG picture; None without history."""
    from matplotlib.figure import Figure

    plots = [plot for panel in PANELS[:2] if (plot := curves(history, panel)) is not None]
    if not plots:
        return None
    figure = Figure(figsize=(5.2 * len(plots), 3.4), layout="constrained")
    for position, plot in enumerate(plots, start=1):
        axes = figure.add_subplot(1, len(plots), position)
        axes.set(xlabel=plot.xlabel, ylabel=plot.ylabel, title=plot.title)
        for line in plot.lines:
            colour = COLOURS[SERIES[line.colour or 0]][0]
            style = "--" if line.dashed else "-"
            if line.form == "ring":
                axes.plot(line.x, line.y, "o", color=colour, markerfacecolor="none")
            else:
                axes.plot(line.x, line.y, style, color=colour, label=line.label)
        if plot.log_y:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def _front_matter(run: Run, published: Published, name: str) -> str:
    """Returns the metadata; JSON values are YAML."""
    metrics = run.directory.metrics
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {
                "name": data_name(run.config.data.dataset),
                "type": data_name(run.config.data.dataset),
                "split": split,
            },
            "metrics": [{"type": "accuracy", "value": metrics[split]["accuracy"]}],
        }
        for split in _SPLITS
        if split in metrics
    ]
    fields: dict[str, Any] = {
        "library_name": "timm" if published.architecture else "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "resnet", "keras", "keras_resnet"],
    }
    if published.licence:
        fields["license"] = published.licence
    if results:
        fields["model-index"] = [{"name": name, "results": results}]
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in fields.items()}
    rows = (f"{key}: {escaped(text)}" for key, text in texts.items())
    return "\n".join(["---", *rows, "---"])


def _use(published: Published) -> str:
    if published.architecture is None:
        file, imports = f'"{published.weights}"', "import keras\nimport keras_resnet"
        if published.repository:
            file = f'huggingface_hub.hf_hub_download("{published.repository}", {file})'
            imports = f"import huggingface_hub\n{imports}"
        return (
            f"RGB or gray images of 0..255, any size:\n\n```python\n{imports}\n\n"
            f"model = keras.saving.load_model({file})\n"
            "logits = model.predict(model.preprocess(images))\n```\n\n"
            f"timm cannot read it: {published.why_not_timm}."
        )
    place = f"hf://{published.repository}" if published.repository else published.weights
    timm = f"hf-hub:{published.repository}" if published.repository else "local-dir:FOLDER"
    return (
        "RGB or gray images of 0..255, any size:\n\n```python\nimport keras_resnet\n\n"
        f'model = keras_resnet.from_pretrained("{place}")\n'
        "logits = model.predict(model.preprocess(images))\n```\n\n"
        f"With timm ({published.architecture}):\n\n```python\nimport timm\n\n"
        f'model = timm.create_model("{timm}", pretrained=True).eval()\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n```"
    )


def _data(run: Run) -> str:
    record = read_object(run.directory.path / "dataset.json")
    examples = ", ".join(f"{count:,} {split}" for split, count in record["examples"].items())
    shown = ", ".join(map(_plain, run.class_names[:20]))
    more = len(run.class_names) - 20
    spec = run.preprocess
    rows = [
        ("Data set", _plain(data_name(run.config.data.dataset))),
        ("Images", examples),
        ("Classes", shown + (f" and {more} more (`labels.txt`)" if more > 0 else "")),
        ("Input", " x ".join(map(str, run.model.inputs[0].shape[1:]))),
        ("Mean, 0..255", ", ".join(f"{value:g}" for value in spec.mean)),
        ("Standard deviation", ", ".join(f"{value:g}" for value in spec.std)),
        ("Crop fraction, interpolation", f"{spec.crop_fraction:g}, {spec.interpolation}"),
        *(("Note", _plain(str(note))) for note in record.get("notes", ())),
    ]
    return _table(("", ""), rows)


def _recipe(run: Run) -> str:
    config, training = run.config, run.directory.metrics.get("training", {})
    environment = run.directory.metrics.get("environment", {})
    length = f"{config.epochs:g} epochs" if config.epochs else f"{config.steps} steps"
    software = ", ".join(
        f"{name} {environment[name]}"
        for name in ("keras_resnet", "keras", "tensorflow", "python")
        if name in environment
    )
    rows = [
        ("Recipe", _plain(config.recipe)),
        ("Length", f"{length}, batch {config.batch_size}, seed {config.seed}"),
        ("Learning rate", f"{config.schedule.learning_rate:g}, {config.schedule.kind}"),
        ("Weights chosen by", _plain(str(training.get("chosen_by", "not recorded")))),
        ("Software", _plain(software) or "not recorded"),
    ]
    return _table(("", ""), rows) + "\n\n`training.json` has every setting."


def _metrics(metrics: Mapping[str, Any]) -> str:
    rows = [
        (
            split,
            f"{measured['examples']:,}",
            *(_share(measured, name) for name in ("accuracy", "top5_accuracy")),
            f"{measured['loss']:.4f}",
        )
        for split in _SPLITS
        if (measured := metrics.get(split))
    ]
    if not rows:
        return "Not measured."
    table = _table(("split", "images", "top-1 accuracy", "top-5 accuracy", "loss"), rows)
    return table + "\n\nIn brackets: 95 % interval (Wilson)."


def _share(measured: Mapping[str, Any], name: str) -> str:
    value = measured.get(name)
    if value is None or not is_number(value):
        return "not measured"
    interval = measured.get({"accuracy": "accuracy_interval"}.get(name, "top5_interval"))
    shown = f"{100 * float(value):.2f} %"
    if not interval:
        return shown
    return f"{shown} ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"


def _certificate(published: Published) -> str:
    certificate = published.certificate
    if certificate is None:
        return "None: there is no other implementation of this net to compare its logits with."
    return (
        f"Largest difference of a logit from {certificate['compared_with']}: "
        f"{certificate['max_difference']:.2g}, at a largest logit of "
        f"{certificate['max_logit']:.3g}. `certificate.json` has the details."
    )


def _licence(published: Published) -> str:
    return _plain(published.licence or "") or "Not stated by the publisher."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in cells)


def _plain(text: str) -> str:
    """Returns a text that Markdown shows as it is: no HTML, links, images, code or emphasis."""
    text = _MARKUP.sub(r"\\\g<0>", escaped(" ".join(text.split())))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
