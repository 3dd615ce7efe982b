"""What a net costs: build, first step, step, memory and inference, each net in its own process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class CostQuery:
    """A net to be measured.

    Attributes:
        model: Name of the net.
        spec: Fields of the spec that differ from the named net's.
        batch_size: Images a step.
        size: Height and width of the images, pixels.
        channels: Of the images.
        classes: Outputs.
        steps: Steps whose median time counts.
        inference: Whether the deployed net's inference is measured too.
        stacked: Of `build`: whether equal units of a stage are one loop; its default where None.
    """

    model: str
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = 32
    size: int = 32
    channels: int = 3
    classes: int = 10
    steps: int = 5
    inference: bool = False
    stacked: bool | None = None


def measure_cost(query: CostQuery, limit: float, cache: Path) -> dict[str, float]:
    """Measures a net, or reads what an earlier session measured.

    Args:
        query: The net.
        limit: Seconds after which the process is stopped.
        cache: File that the result is kept in.

    Returns:
        Seconds and bytes: `build_seconds`, `first_step_seconds` (tracing, optimizing and running
        it), `step_seconds` (median), `peak_bytes` of the process and `training_bytes` above what
        TensorFlow takes by itself; with inference `inference_seconds` of one image (median),
        `deployed_multiply_adds` and `deployed_parameters`. What the limit cut off is missing, and
        `stopped_after` says the limit.

    Raises:
        RuntimeError: If the net fails; says how.
    """
    wanted = {"query": dataclasses.asdict(query), "limit": limit}
    if cache.is_file():
        kept = read_json(cache)
        if kept.get("query") == json.loads(json.dumps(wanted["query"])) and (
            "stopped_after" not in kept["cost"] or kept["limit"] >= limit
        ):
            return dict(kept["cost"])
    cost = _run(query, limit)
    write_json(cache, {**wanted, "cost": cost})
    return cost


def _run(query: CostQuery, limit: float) -> dict[str, float]:
    words = [sys.executable, "-m", f"{__package__}.probe", json.dumps(dataclasses.asdict(query))]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        ended = subprocess.run(words, env=environment, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        return {**_read(late.stdout or b""), "stopped_after": limit}
    if ended.returncode:
        complaints = ended.stderr.decode(errors="replace").splitlines()
        last = next((text.strip() for text in reversed(complaints) if text.strip()), "no message")
        raise RuntimeError(f"{query.model} could not be measured: {last}")
    return _read(ended.stdout)


def _read(told: bytes) -> dict[str, float]:
    """Merges the JSON objects that the process printed, one a line."""
    cost: dict[str, float] = {}
    for line in told.decode(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            cost |= json.loads(line)
    return cost
