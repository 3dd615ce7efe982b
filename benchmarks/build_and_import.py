"""Seconds to import the package beside Keras, and to build nets of growing depth.

    python benchmarks/build_and_import.py [--rounds 5]

Each import runs in a process of its own, Keras first; the nets take turns, each in a fresh Keras
session. Growth is linear where the time a layer stays level.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_IMPORT = """
import time, keras
start = time.perf_counter()
import keras_resnet
print(time.perf_counter() - start)
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depths", default="20,56,110,1202")
    args = parser.parse_args()
    # Bytecode is cached after the first, as in an installation.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", _IMPORT],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            ).stdout
        )
        for _ in range(args.rounds + 1)
    ][1:]
    print(f"import keras_resnet after keras: {1000 * statistics.median(times):.1f} ms")

    import keras

    import keras_resnet

    depths = [int(depth) for depth in args.depths.split(",")]
    measured: dict[int, list[float]] = {depth: [] for depth in depths}
    keras_resnet.build("cifar_resnet8")  # what only the first net pays
    for _ in range(args.rounds):
        for depth in depths:
            keras.backend.clear_session()
            start = time.perf_counter()
            keras_resnet.build(f"cifar_resnet{depth}")
            measured[depth].append(time.perf_counter() - start)
    for depth in depths:
        seconds = statistics.median(measured[depth])
        low, high = min(measured[depth]), max(measured[depth])
        print(
            f"cifar_resnet{depth}: {seconds:.2f} s ({low:.2f} to {high:.2f}), "
            f"{1000 * seconds / depth:.2f} ms a layer"
        )


if __name__ == "__main__":
    main()
