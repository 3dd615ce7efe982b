"""Pruning of trained networks: whole units, and channels inside units."""

from keras_resnet.pruning.channels import channel_importance as channel_importance
from keras_resnet.pruning.smaller import prune as prune
from keras_resnet.pruning.smaller import prune_to as prune_to
from keras_resnet.pruning.units import removable_units as removable_units
from keras_resnet.pruning.units import unit_importance as unit_importance

__all__ = ["channel_importance", "prune", "prune_to", "removable_units", "unit_importance"]
