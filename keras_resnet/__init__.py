"""Residual networks for Keras 3: He et al. 2015 and 2016 and what came after."""

import importlib
import types

from keras_resnet import analysis as analysis
from keras_resnet import weights as weights
from keras_resnet.applications import ResNet18 as ResNet18
from keras_resnet.applications import ResNet18V2 as ResNet18V2
from keras_resnet.applications import ResNet34 as ResNet34
from keras_resnet.applications import ResNet34V2 as ResNet34V2
from keras_resnet.applications import ResNet50 as ResNet50
from keras_resnet.applications import ResNet50V2 as ResNet50V2
from keras_resnet.applications import ResNet101 as ResNet101
from keras_resnet.applications import ResNet101V2 as ResNet101V2
from keras_resnet.applications import ResNet152 as ResNet152
from keras_resnet.applications import ResNet152V2 as ResNet152V2
from keras_resnet.applications import ResNet200 as ResNet200
from keras_resnet.applications import ResNet200V2 as ResNet200V2
from keras_resnet.catalog import VARIANTS as variants
from keras_resnet.catalog import get_spec as get_spec
from keras_resnet.catalog import list_variants as list_variants
from keras_resnet.catalog import plain_twin as plain_twin
from keras_resnet.layers import PadChannels as PadChannels
from keras_resnet.model import ResNet as ResNet
from keras_resnet.network import build as build
from keras_resnet.preprocessing import PreprocessSpec as PreprocessSpec
from keras_resnet.reparam import fold_batch_norm as fold_batch_norm
from keras_resnet.spec import ResNetSpec as ResNetSpec
from keras_resnet.version import __version__ as __version__

__all__ = [
    "PadChannels",
    "PreprocessSpec",
    "ResNet",
    "ResNet18",
    "ResNet18V2",
    "ResNet34",
    "ResNet34V2",
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet200",
    "ResNet200V2",
    "ResNetSpec",
    "analysis",
    "build",
    "export",
    "fold_batch_norm",
    "get_spec",
    "list_variants",
    "plain_twin",
    "variants",
    "weights",
]


def __getattr__(name: str) -> types.ModuleType:
    """Imports `keras_resnet.export` when it is first used: most programs never do."""
    if name == "export":
        return importlib.import_module("keras_resnet.export")
    raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")
