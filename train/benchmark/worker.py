"""The process of one contender: sets it up, then takes a turn whenever its standard input says so.

The first argument is JSON, `{"factory": "package.module:function", "job": {...}}`. What it tells,
one JSON object a line on what was its standard output: `{"ready": ...}` once; for each line
`turn N` of its input `{"seconds": {...}}`; `{"error": ...}` if it fails. It ends with its input, so
also when its parent is killed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

from .job import Clock, Job, Ready, peak_bytes


def main() -> int:
    """Serves until the input ends."""
    told = _own_output()
    try:
        order = json.loads(sys.argv[1])
        clock = Clock()
        ready = _factory(order["factory"])(Job(**order["job"]), clock)
        _tell(
            told,
            ready={
                "seconds": clock.seconds,
                "multiply_adds": ready.multiply_adds,
                "peak_bytes": peak_bytes() - clock.memory,
            },
        )
        for line in sys.stdin:
            seconds = _turn(ready, int(line.split()[1]))
            _tell(told, seconds=seconds, peak_bytes=peak_bytes() - clock.memory)
    except ModuleNotFoundError as error:
        _tell(told, error=f"not installed: {error.name}")
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _tell(told, error=f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300])
        raise
    return 0


def _own_output() -> TextIO:
    """Keeps standard output for our own lines; what libraries print goes to standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


def _factory(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _turn(ready: Ready, count: int) -> dict[str, float]:
    started = time.perf_counter()
    parts = ready.turn(count)
    return {"": time.perf_counter() - started} if parts is None else dict(parts)


def _tell(told: TextIO, **values: Any) -> None:
    print(json.dumps(values), file=told, flush=True)


if __name__ == "__main__":
    sys.exit(main())
