"""One of two workers, which trains the runs that `test_processes.py` describes.

Arguments: the file of the worker's weights, then a JSON list of (directory, changes). A run that is
refused is told, and the next one follows.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import keras
import numpy as np

from keras_resnet_train import preparation
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.session import run_training

# A process can join a cluster of workers once, so that its runs share the strategy.
preparation.make_strategy = functools.cache(preparation.make_strategy)

weights: dict[str, np.ndarray] = {}


class Keep(keras.callbacks.Callback):
    """Keeps the weights at the end, by run and variable."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def on_train_end(self, logs: object = None) -> None:
        """Comes after the last checkpoint, which averages the moving statistics."""
        weights.update({f"{self.name}/{v.path}": v.numpy() for v in self.model.weights})


for directory, changes in json.loads(sys.argv[2]):
    config = get_recipe("digits").configure("cifar_resnet8", changes)
    try:
        run_training(config, Path(directory), callbacks=[Keep(Path(directory).name)])
    except ValueError as error:
        print(f"{Path(directory).name} refused: {error}")
np.savez(sys.argv[1], **weights)
