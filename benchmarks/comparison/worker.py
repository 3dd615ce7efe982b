"""The process of one contender: sets it up, then measures it when asked on standard input.

The first argument is JSON: `{"factory": "package.module:function", "workload": {...}}`. The answers
are JSON, one object per line: `{"seconds": ..., "multiply_adds": ..., "peak_bytes": ...}` after the
set-up, `{"seconds": ..., "peak_bytes": ...}` for each number of units on standard input, `{"error":
...}` after a failure. The process ends with its input, so also when its parent is killed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

from keras_resnet_train.measurement import peak_bytes

from .workload import PhaseTimer, Runner, Workload


def main() -> int:
    """Answers until the input ends."""
    replies = _take_stdout()
    try:
        order = json.loads(sys.argv[1])
        timer = PhaseTimer()
        module, _, function = order["factory"].partition(":")
        factory = getattr(importlib.import_module(module), function)
        runner: Runner = factory(Workload(**order["workload"]), timer)
        _reply(
            replies,
            seconds=timer.seconds,
            multiply_adds=runner.multiply_adds,
            peak_bytes=peak_bytes() - timer.memory,
        )
        for line in sys.stdin:
            seconds = _measure(runner, int(line))
            _reply(replies, seconds=seconds, peak_bytes=peak_bytes() - timer.memory)
    except ModuleNotFoundError as error:
        _reply(replies, error=f"not installed: {error.name}")
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _reply(replies, error=f"{type(error).__name__}: {lines[0] if lines else 'no message'}")
        raise
    return 0


def _take_stdout() -> TextIO:
    """Returns standard output for replies alone; what libraries print goes to standard error."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(stdout, "w", encoding="utf-8")


def _measure(runner: Runner, units: int) -> dict[str, float]:
    started = time.perf_counter()
    parts = runner.run(units)
    return {"": time.perf_counter() - started} if parts is None else dict(parts)


def _reply(replies: TextIO, **values: Any) -> None:
    print(json.dumps(values), file=replies, flush=True)


if __name__ == "__main__":
    sys.exit(main())
