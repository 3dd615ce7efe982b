"""A first run of an exported file in a process of its own, which a damaged file may crash or fill.

The interpreters of LiteRT and ONNX Runtime trust a file: an operator without inputs ends the
process (`SLICE`, `SPLIT`), an endless loop never returns, and a constant of a few bytes
can ask for a tensor of 40 GB. This module is also that process's program. It imports nothing of
this package there, so that it starts within half a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_GIB = 1 << 30
# Address space, processor time and the time until an answer, on a machine that others use too.
MEMORY, SECONDS, WAIT = 4 * _GIB, 6.0, 120.0
_PER_BYTE = 4  # of the file
_SECONDS_PER_MB = 2.0  # int16x8 files of ResNet-50 need half of it
# Types of inputs of an ONNX file that are run, and NumPy's names of them.
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}
_RUNTIMES = {"tflite": "LiteRT", "onnx": "ONNX"}


def try_file(path: str | os.PathLike[str], kind: str) -> None:
    """Runs a LiteRT or ONNX file once in a process of its own, on zeros.

    An input of any height and width is not run, only loaded.

    Args:
        path: The file.
        kind: `"tflite"` or `"onnx"`.

    Raises:
        ValueError: If that process crashes, takes more memory than 4 GiB and four times the file,
            or more than 6 s of processor time and 2 s per MB of the file, or if the runtime
            refuses the file.

    Example:
        >>> try_file("model.tflite", "tflite")
    """
    size = Path(path).stat().st_size
    seconds = SECONDS + _SECONDS_PER_MB * size / 1e6
    memory = MEMORY + _PER_BYTE * size
    words = (kind, os.fspath(path), str(memory), str(math.ceil(seconds)))
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=max(WAIT, 10 * seconds),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(path, f"it does not answer within {max(WAIT, 10 * seconds):.0f} s") from None
    if done.returncode in (0, 1) and done.stdout.strip():
        _check_answer(path, kind, json.loads(done.stdout.splitlines()[-1]))
        return
    raise _refused(path, _end(done.returncode, seconds, memory))


def _check_answer(path: str | os.PathLike[str], kind: str, answer: dict[str, str]) -> None:
    error = answer.get("error")
    if error is None or answer["phase"] == "import":
        return
    if answer["phase"] == "load":
        raise ValueError(f"{os.fspath(path)!r} is not a valid {_RUNTIMES[kind]} file: {error}")
    raise _refused(path, error)


def _refused(path: str | os.PathLike[str], reason: str) -> ValueError:
    return ValueError(f"{os.fspath(path)} cannot be run: {reason}")


def _end(status: int, seconds: float, memory: int) -> str:
    """Returns how the process ended, in words."""
    if -status == getattr(signal, "SIGXCPU", None) or -status == getattr(signal, "SIGKILL", None):
        return f"one input takes more than {seconds:.0f} s of the processor"
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return f"its runtime crashes ({name}), or needs more than {memory / _GIB:.1f} GiB"


def _limit(memory: int, seconds: int) -> None:
    """Bounds the address space and the processor time of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with contextlib.suppress(OSError, ValueError):
        status = Path("/proc/self/statm")
        used = int(status.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))


def _litert(path: str) -> Any:
    """Loads a LiteRT file; returns a function that runs it."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=2)
    details = interpreter.get_input_details()
    for each in details:
        sides = [int(side) for side in each["shape"]]
        if max(sides, default=0) > 2**16 or math.prod(sides) > 2**26:
            raise ValueError(f"its input has the shape {tuple(sides)}")
    interpreter.allocate_tensors()

    def run() -> None:
        for each in details:
            if each["dtype"] not in (np.bytes_, np.str_):
                interpreter.set_tensor(each["index"], np.zeros(each["shape"], each["dtype"]))
        interpreter.invoke()

    return run


def _onnx(path: str) -> Any:
    """Loads an ONNX file; returns a function that runs it."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    sources = session.get_inputs()

    def run() -> None:
        shapes = [source.shape for source in sources]
        open_sides = any(not isinstance(side, int) for shape in shapes for side in shape[1:])
        if open_sides or any(source.type not in TYPES for source in sources):
            return
        fed = {}
        for source in sources:
            shape = [side if isinstance(side, int) and side > 0 else 1 for side in source.shape]
            if math.prod(shape) > 2**26:
                raise ValueError(f"its input has the shape {tuple(shape)}")
            fed[source.name] = np.zeros(shape, TYPES[source.type])
        session.run(None, fed)

    return run


def main(kind: str, path: str, memory: str, seconds: str) -> int:
    """Runs a file once, and writes a line of JSON: how far it came, and the error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    phase, error = "import", ""
    try:
        # Before the limits, which are those of the file.
        importlib.import_module("ai_edge_litert.interpreter" if kind == "tflite" else "onnxruntime")
        _limit(int(memory), int(seconds))
        phase = "load"
        run = (_litert if kind == "tflite" else _onnx)(path)
        phase = "run"
        run()
        phase = "done"
    except (Exception, MemoryError) as problem:  # runtimes raise what they like
        error = " ".join(str(problem).split()) or type(problem).__name__
    out.write(json.dumps({"phase": phase, **({"error": error} if error else {})}) + "\n")
    out.flush()
    # Without the runtime's own end, which may fail under the limits.
    os._exit(int(bool(error)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
