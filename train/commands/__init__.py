"""The commands of `keras-resnet`: one module each, imported only when the command is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """A row of the table of commands.

    Attributes:
        help: What the command does.
        module: The module, below `train`, that holds its `COMMAND`; "" for a group of commands.
        commands: The commands of a group.
    """

    help: str
    module: str = ""
    commands: Mapping[str, Entry] | None = None


STUDIES: Mapping[str, Entry] = {
    "degradation": Entry("plain against residual nets at several depths", "studies.degradation"),
    "shortcuts": Entry(
        "kinds of shortcuts and places of the activation, at one depth", "studies.shortcuts"
    ),
    "alternatives": Entry(
        "the shortcut against possible replacements, at equal depth and budget",
        "studies.alternatives",
    ),
    "bottleneck": Entry(
        "basic against bottleneck units, at equal depth and at equal cost", "studies.bottleneck"
    ),
    "gradient-flow": Entry(
        "gradients by unit, in new nets and along training", "studies.gradient_flow"
    ),
    "responses": Entry("how strongly the layers of trained runs respond", "studies.responses"),
    "identity": Entry("how far each unit is from the identity", "studies.identity"),
    "lesion": Entry("trained nets with units deleted or exchanged", "studies.lesion"),
    "depth-cost": Entry(
        "time to build, first step, step and memory against depth", "studies.depth_cost"
    ),
}

COMMANDS: Mapping[str, Entry] = {
    "train": Entry("train a net, or resume its training", "commands.train"),
    "launch": Entry(
        "start several workers of a training here, and again when one is lost", "commands.launch"
    ),
    "ray": Entry("train on the workers of a Ray cluster, restarted by Ray", "commands.ray"),
    "shards": Entry(
        "write a data set as ArrayRecord shards, which are read in any order", "commands.shards"
    ),
    "evaluate": Entry(
        "measure a run, weights, an exported file or an ensemble", "commands.evaluate"
    ),
    "export": Entry("write verified SavedModel, LiteRT and ONNX files", "commands.export"),
    "predict": Entry("classify image files, folders and data sets", "commands.predict"),
    "demo": Entry("classify pictures in a web page, by a file or a run", "commands.demo"),
    "prune": Entry("make a run's net smaller, and fine-tune it", "commands.prune"),
    "latency": Entry("time exported files and runs in turns", "commands.latency"),
    "report": Entry("write a run's report.html again", "commands.report"),
    "runs": Entry("list the runs below a folder: state, step, accuracy, age", "commands.runs"),
    "compare": Entry("write the curves of several runs into one page", "commands.compare"),
    "quickstart": Entry("train on the embedded digits, export and report", "commands.quickstart"),
    "convert": Entry(
        "convert weights from or to another library, with a certificate", "commands.convert"
    ),
    "publish": Entry(
        "write a run as a folder for the Hugging Face hub, and upload it", "commands.publish"
    ),
    "study": Entry("compare nets, and analyse why deep ones train", commands=STUDIES),
    "tune": Entry("search nets and recipes within limits and a budget", "commands.tune"),
    "list": Entry("list the nets", "commands.list_nets"),
    "info": Entry("describe a net and its cost", "commands.info"),
    "recipes": Entry("list the recipes, or print one as JSON", "commands.recipes"),
}
