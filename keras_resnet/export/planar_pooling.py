"""3-D pooling as two poolings in the plane, which LiteRT's builtin operators can do."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet.nets.layers import PadChannels
from keras_resnet.nets.model import deep_graph
from keras_resnet.nets.tensor import Tensor

_POOLINGS = (keras.layers.AveragePooling3D, keras.layers.MaxPooling3D)


def with_planar_pooling(model: keras.Model) -> keras.Model:
    """Returns a net without 3-D pooling layers, which compute the same in two steps.

    LiteRT has no builtin operator for 3-D pooling. Windows are boxes, so the largest or the mean
    value of a box is that of the depth's values of the plane's, at borders too.

    Args:
        model: A functional net; itself if it has no 3-D pooling.
    """
    if len(model.inputs[0].shape) != 5:
        return model
    if not any(isinstance(layer, (*_POOLINGS, PadChannels)) for layer in model.layers):
        return model

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, _POOLINGS):
            return _PlanarPooling(layer, name=layer.name)
        if isinstance(layer, PadChannels):
            return _SlicedPadding(**layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    with deep_graph():
        twin = keras.models.clone_model(model, clone_function=clone)
    twin.set_weights(model.get_weights())
    return twin


class _SlicedPadding(PadChannels):
    def call(self, x: Tensor) -> Tensor:
        """Returns the same as `PadChannels`, with a slice in place of a pooling of one voxel."""
        step, added = self.stride, self.filters - x.shape[-1]
        kept = x[:, ::step, ::step, ::step]
        return keras.ops.pad(kept, [[0, 0]] * 4 + [[added // 2, added - added // 2]])


class _PlanarPooling(keras.layers.Layer):
    def __init__(self, source: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def call(self, x: Tensor) -> Tensor:
        """Returns the pooled volumes, `(batch, depth, height, width, channels)`."""
        ops, source = keras.ops, self.source
        pool = ops.max_pool if isinstance(source, _POOLINGS[1]) else ops.average_pool
        size, strides = source.pool_size, source.strides
        _, depth, height, width, channels = x.shape
        planes = ops.reshape(x, (-1, height, width, channels))
        planes = pool(planes, size[1:], strides[1:], source.padding, "channels_last")
        height, width = planes.shape[1:3]
        lines = ops.reshape(planes, (-1, depth, height * width, channels))
        lines = pool(lines, (size[0], 1), (strides[0], 1), source.padding, "channels_last")
        return ops.reshape(lines, (-1, lines.shape[1], height, width, channels))
