"""Cost of a net: build, first step, step, memory and inference, measured in a child process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_json, write_json
from ..measurement import child_environment, last_line


@dataclasses.dataclass(frozen=True)
class CostQuery:
    """A net whose cost is measured.

    Attributes:
        model: Name of the net.
        spec: Fields of the spec that differ from the named net's.
        batch_size: Images per step.
        size: Height and width of the images, pixels.
        channels: Channels of the images.
        classes: Number of classes.
        steps: Number of steps of which the median time is taken.
        inference: Whether the deployed net's inference is measured too.
        stacked: Argument of `build`: whether equal units of a stage are one loop; None for its
            default.
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
    """Measures a net, or reads an earlier measurement from the cache.

    Args:
        query: The net.
        limit: Seconds after which the child process is stopped.
        cache: JSON file of the result.

    Returns:
        Seconds and bytes: `build_seconds`, `first_step_seconds` (tracing and graph optimization
        included), `step_seconds` (median), `peak_bytes` of the process and `training_bytes` above
        the memory of TensorFlow alone; with inference also `inference_seconds` of one image
        (median), `deployed_multiply_adds` and `deployed_parameters`. After the limit, the values
        measured until then and `stopped_after`, the limit.

    Raises:
        RuntimeError: If the child process fails; the message has its last line.
    """
    asked = json.loads(json.dumps(dataclasses.asdict(query)))
    if cache.is_file():
        kept = read_json(cache)
        finished = "stopped_after" not in kept["cost"] or kept["limit"] >= limit
        if kept.get("query") == asked and finished:
            return dict(kept["cost"])
    cost = _run(query, limit)
    write_json(cache, {"query": asked, "limit": limit, "cost": cost})
    return cost


def _run(query: CostQuery, limit: float) -> dict[str, float]:
    command = [sys.executable, "-m", f"{__package__}.probe", json.dumps(dataclasses.asdict(query))]
    try:
        ended = subprocess.run(command, env=child_environment(), capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        return {**_read(late.stdout or b""), "stopped_after": limit}
    if ended.returncode:
        raise RuntimeError(f"{query.model} could not be measured: {last_line(ended.stderr)}")
    return _read(ended.stdout)


def _read(output: bytes) -> dict[str, float]:
    """Merges the JSON objects that the process printed, one per line."""
    cost: dict[str, float] = {}
    for line in output.decode(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            cost |= json.loads(line)
    return cost
