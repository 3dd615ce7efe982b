"""The quantise-aware net of a run."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_resnet import PreprocessSpec, quantize_aware

from .config import RunConfig


def quantized_net(model: Any, config: RunConfig, preprocess: PreprocessSpec, steps: int = 0) -> Any:
    """Returns a run's net as its int8 file will compute; its ranges are still empty.

    Args:
        model: The float net, with the weights to start from.
        config: The run.
        preprocess: Its preprocessing, which fixes the range of the input.
        steps: Length of the run in steps; 0 for a net that is not trained.

    Raises:
        ValueError: If the net has layers that quantise-aware training does not support.
    """
    settings = config.quantize
    model.preprocess = preprocess
    return quantize_aware(
        model,
        bits=settings.bits,
        momentum=settings.momentum,
        observe_steps=math.ceil(settings.observe * steps),
    )


def detached_copy(model: Any) -> Any:
    """Returns a copy of a quantise-aware net outside of the strategy that it was trained under."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy.describe_as(model)
