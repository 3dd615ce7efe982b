"""Random variation of training images: functions of the image and of given random numbers."""

from .batch import pad_crop_flip as pad_crop_flip
from .example import crop_box as crop_box
from .example import random_crop as random_crop
from .example import resize_crop as resize_crop

DRAWS = 5
"""Uniform random numbers in [0, 1) that one example is given."""
