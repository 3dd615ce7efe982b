"""Augmentation: functions of an image and of random numbers that they are given."""

from .batch import pad_crop_flip as pad_crop_flip
from .example import crop_box as crop_box
from .example import random_crop as random_crop
from .example import resize_crop as resize_crop

DRAWS = 5
"""Number of uniform random numbers in [0, 1) per example."""
