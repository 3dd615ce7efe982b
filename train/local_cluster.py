"""What the workers on one machine share out: ports and GPUs."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence

# Below the ports that systems give to outgoing connections (from 32,768 on Linux).
_PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Returns different TCP ports that are free on this machine now.

    Raises:
        OSError: If there are not as many.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    if len(found) < count:
        raise OSError(f"This machine has {len(found)} of {count} free ports for the workers")
    return found


def worker_environments(
    addresses: Sequence[str], devices: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Returns the environment variables that make processes the workers of one cluster.

    Args:
        addresses: Host and port of each worker.
        devices: CUDA_VISIBLE_DEVICES of each worker; None where there are no GPUs.
    """
    variables = []
    for index in range(len(addresses)):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": list(addresses)}, "task": task})
        own = {"TF_CONFIG": config, "PYTHONUNBUFFERED": "1"}
        variables.append(
            own | ({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices[index]})
        )
    return variables


def divide_gpus(gpus: Sequence[str], workers: int) -> list[str] | None:
    """Returns CUDA_VISIBLE_DEVICES for each worker; None without GPUs.

    Raises:
        ValueError: If the GPUs do not divide by the workers.
    """
    if not gpus:
        return None
    if len(gpus) % workers:
        raise ValueError(
            f"`--workers` must divide the {len(gpus)} GPU(s) of this machine; choose some with "
            f"CUDA_VISIBLE_DEVICES, or none with CUDA_VISIBLE_DEVICES=. Received: {workers}"
        )
    share = len(gpus) // workers
    return [",".join(gpus[index * share : (index + 1) * share]) for index in range(workers)]


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Returns the NVIDIA GPUs that the workers may use, as CUDA_VISIBLE_DEVICES names them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part.strip() and part.strip() != "-1"]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))] if listed.returncode == 0 else []
