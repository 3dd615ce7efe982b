"""The software and hardware that a result was measured with."""

from __future__ import annotations

import os
import platform
from typing import Any

import keras


def environment() -> dict[str, Any]:
    """Returns versions, system, CPU cores and GPUs, ready for JSON."""
    import tensorflow as tf

    import keras_resnet

    return {
        "keras_resnet": keras_resnet.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
            for gpu in tf.config.list_physical_devices("GPU")
        ],
    }
