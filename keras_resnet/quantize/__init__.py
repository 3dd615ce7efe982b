"""Quantise-aware nets: trained on the grids of the int8 file that they are deployed in."""

from keras_resnet.quantize.calibrate import calibrate as calibrate
from keras_resnet.quantize.convert import quantize_aware as quantize_aware
from keras_resnet.quantize.ranges import holds_quantized as holds_quantized
from keras_resnet.quantize.ranges import is_quantize_aware as is_quantize_aware

__all__ = ["calibrate", "holds_quantized", "is_quantize_aware", "quantize_aware"]
