"""Weights: load them into a net that `build` made."""

from keras_resnet.weights.files import load as load

__all__ = ["load"]
