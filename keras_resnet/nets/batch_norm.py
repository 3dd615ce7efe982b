"""Batch norm as one operation of TensorFlow; Keras's layer consists of about twenty."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_resnet.nets.tensor import Tensor

# The dtypes of TensorFlow's operation; its statistics are always float32, as Keras's are.
_DTYPES = ("float32", "bfloat16", "float16")


@keras.saving.register_keras_serializable(package="keras_resnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm, computed by TensorFlow's fused operation where possible.

    Arguments, weights, names and results are those of `keras.layers.BatchNormalization`. The class
    has the same name too, because `.weights.h5` files name their groups after it: files of either
    layer load into the other. One thing differs: an empty batch does not change the moving
    statistics, which become NaN in Keras.

    Signals, images and volumes, `(batch, ..., channels)`, are fused on the TensorFlow backend.
    Everything else runs Keras's own code: other backends, channels first, synchronized or renormed
    statistics, masks, float64.
    """

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Returns the normalized inputs; in training, updates the moving statistics."""
        if mask is not None or not self._fuses(inputs):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        shape = inputs.shape
        x = inputs if len(shape) == 4 else tf.reshape(inputs, (-1, 1, 1, shape[-1]))
        if training and self.trainable:
            y = self._normalize_and_update(x)
        else:
            y = self._fused(x, _float32(self.moving_mean), _float32(self.moving_variance))[0]
        if len(shape) != 4:
            y = tf.reshape(y, tf.shape(inputs))
            y.set_shape(shape)
        return tf.cast(y, self.compute_dtype)

    def _fuses(self, inputs: Tensor) -> bool:
        """Whether TensorFlow's fused operation computes this layer's function."""
        rank = len(inputs.shape)
        return (
            keras.backend.backend() == "tensorflow"
            and rank in (3, 4, 5)
            and self.axis % rank == rank - 1
            and keras.backend.standardize_dtype(inputs.dtype) in _DTYPES
            and not self.synchronized
            and not getattr(self, "renorm", False)  # Keras 3.14 and later
        )

    def _normalize_and_update(self, x: Tensor) -> Tensor:
        """Normalizes a batch by its own statistics and updates the moving ones.

        Keras averages the biased variance; the operation averages the unbiased one, which is
        larger by the factor `bessel`. Averaging is linear, so dividing the result by `bessel`
        gives Keras's.
        """
        import tensorflow as tf

        mean, variance = _float32(self.moving_mean), _float32(self.moving_variance)
        count: Tensor | int
        if None in x.shape:
            count = tf.cast(tf.size(x, tf.int64) // x.shape[-1], tf.float32)
            bessel = tf.maximum(count, 1.0) / tf.maximum(count - 1.0, 1.0)
        else:
            count = math.prod(x.shape[:-1])
            bessel = max(count, 1) / max(count - 1, 1)
        y, new_mean, new_variance = self._fused(x, mean, variance * bessel, 1.0 - self.momentum)
        new_variance = new_variance * (1.0 / bessel)
        if None in x.shape:
            new_mean = tf.where(count > 0, new_mean, mean)
            new_variance = tf.where(count > 0, new_variance, variance)
        elif not count:
            return y
        self.moving_mean.assign(new_mean)
        self.moving_variance.assign(new_variance)
        return y

    def _fused(self, x: Tensor, mean: Tensor, variance: Tensor, rate: float | None = None) -> Any:
        """Returns the normalized images and, if `rate` is given, the updated statistics."""
        import tensorflow as tf

        channels = x.shape[-1]
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=_float32(self.gamma) if self.scale else tf.ones(channels),
            offset=_float32(self.beta) if self.center else tf.zeros(channels),
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            exponential_avg_factor=1.0 if rate is None else rate,
            is_training=rate is not None,
        )[:3]


def _float32(variable: keras.Variable) -> Tensor:
    """Returns a variable's value as float32."""
    import tensorflow as tf

    return tf.cast(variable.value, tf.float32)
