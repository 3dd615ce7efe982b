"""The cluster of a SLURM job step as TF_CONFIG, from the variables that `srun` sets.

See "OUTPUT ENVIRONMENT VARIABLES" in the manual of srun.
`tf.distribute.cluster_resolver.SlurmClusterResolver` asks `scontrol` for the names of the hosts,
which containers do not have; this reads the list itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Below the ports that systems give to outgoing connections.
_FIRST_PORT, _PORTS = 20_000, 12_000
_MOST_HOSTS = 100_000
# Parts of a list that are not between brackets.
_COMMA = re.compile(r",(?![^\[]*\])")


def is_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether `srun` has started this process as one of several tasks."""
    return int(environment.get("SLURM_STEP_NUM_TASKS", "1") or 1) > 1


def slurm_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the content of TF_CONFIG for one task of a SLURM job step.

    Each task is a worker; task 0 is the chief. The port follows from the job's number and the
    task's place on its host, so that two jobs on one host seldom meet.

    Args:
        environment: The environment variables of the task.

    Raises:
        ValueError: If a variable is missing or malformed.

    Example:
        >>> step = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "n[1-2]",
        ...         "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
        >>> slurm_config(step)["cluster"]
        {'worker': ['n1:20007', 'n2:20007']}
    """
    names = ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise ValueError(
            f"A task of a SLURM job step has no {', '.join(missing)}: start it with srun"
        )
    job, index, nodes, tasks = (environment[name] for name in names)
    hosts, counts = host_names(nodes), tasks_per_node(tasks)
    if len(hosts) != len(counts):
        raise ValueError(
            f"SLURM names {len(hosts)} hosts and the tasks of {len(counts)}. "
            f"Received: SLURM_STEP_NODELIST={nodes}, SLURM_STEP_TASKS_PER_NODE={tasks}"
        )
    first = int(job) * 16 % _PORTS if max(counts) > 1 else int(job) % _PORTS
    workers = [
        f"{host}:{_FIRST_PORT + (first + place) % _PORTS}"
        for host, count in zip(hosts, counts, strict=True)
        for place in range(count)
    ]
    if not int(index) < len(workers):
        raise ValueError(f"SLURM_PROCID must be below {len(workers)}. Received: {index}")
    return {"cluster": {"worker": workers}, "task": {"type": "worker", "index": int(index)}}


def host_names(text: str) -> list[str]:
    """Returns the hosts of a SLURM list such as `gpu[01-03,07],login1`.

    Raises:
        ValueError: If it is not such a list.
    """
    hosts: list[str] = []
    for part in _COMMA.split(text.strip()):
        hosts += _expanded(part, text)
        if len(hosts) > _MOST_HOSTS:
            raise ValueError(f"A list of hosts names more than {_MOST_HOSTS}. Received: {text}")
    return hosts


def _expanded(part: str, text: str) -> list[str]:
    """Returns the hosts of one name with any number of brackets."""
    before, bracket, rest = part.partition("[")
    if not bracket:
        if not re.fullmatch(r"[A-Za-z0-9._-]*", part):
            raise ValueError(f"A list of hosts is like n[1-3,7],m1. Received: {text}")
        return [part]
    inside, closed, after = rest.partition("]")
    numbers = [_numbers(each, text) for each in inside.split(",")] if closed else []
    if not numbers:
        raise ValueError(f"A list of hosts is like n[1-3,7],m1. Received: {text}")
    ends = _expanded(after, text)
    return [before + number + end for group in numbers for number in group for end in ends]


def _numbers(text: str, whole: str) -> list[str]:
    """Returns the numbers of `07` or `01-03`, with their leading zeros."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not found:
        raise ValueError(f"A list of hosts is like n[1-3,7],m1. Received: {whole}")
    first, last = found[1], found[2] or found[1]
    if int(last) - int(first) > _MOST_HOSTS:
        raise ValueError(f"A list of hosts names more than {_MOST_HOSTS}. Received: {whole}")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def tasks_per_node(text: str) -> list[int]:
    """Returns the tasks of each host, from SLURM's `2(x3),1`.

    Raises:
        ValueError: If it is not such a list.
    """
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if not found or int(found[2] or 1) > _MOST_HOSTS:
            raise ValueError(f"Tasks per node are like 2(x3),1. Received: {text}")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts
