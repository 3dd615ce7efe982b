"""Residual networks for Keras 3: He et al. 2015 and 2016 and what came after."""

import importlib
import types

from keras_resnet import analysis as analysis
from keras_resnet import finetune as finetune
from keras_resnet import imagenet_utils as imagenet_utils
from keras_resnet import preprocessing as preprocessing
from keras_resnet import weights as weights
from keras_resnet.applications import ResNet18 as ResNet18
from keras_resnet.applications import ResNet18D as ResNet18D
from keras_resnet.applications import ResNet18V2 as ResNet18V2
from keras_resnet.applications import ResNet34 as ResNet34
from keras_resnet.applications import ResNet34D as ResNet34D
from keras_resnet.applications import ResNet34V2 as ResNet34V2
from keras_resnet.applications import ResNet50 as ResNet50
from keras_resnet.applications import ResNet50D as ResNet50D
from keras_resnet.applications import ResNet50V2 as ResNet50V2
from keras_resnet.applications import ResNet101 as ResNet101
from keras_resnet.applications import ResNet101D as ResNet101D
from keras_resnet.applications import ResNet101V2 as ResNet101V2
from keras_resnet.applications import ResNet152 as ResNet152
from keras_resnet.applications import ResNet152D as ResNet152D
from keras_resnet.applications import ResNet152V2 as ResNet152V2
from keras_resnet.applications import ResNet200 as ResNet200
from keras_resnet.applications import ResNet200D as ResNet200D
from keras_resnet.applications import ResNet200V2 as ResNet200V2
from keras_resnet.applications import ResNetRS50 as ResNetRS50
from keras_resnet.applications import ResNetRS101 as ResNetRS101
from keras_resnet.applications import ResNetRS152 as ResNetRS152
from keras_resnet.applications import ResNetRS200 as ResNetRS200
from keras_resnet.applications import ResNetRS270 as ResNetRS270
from keras_resnet.applications import ResNetRS350 as ResNetRS350
from keras_resnet.applications import ResNetRS420 as ResNetRS420
from keras_resnet.applications import ResNeXt50_32x4d as ResNeXt50_32x4d
from keras_resnet.applications import ResNeXt101_32x8d as ResNeXt101_32x8d
from keras_resnet.applications import ResNeXt101_64x4d as ResNeXt101_64x4d
from keras_resnet.applications import SEResNet50 as SEResNet50
from keras_resnet.applications import SEResNet101 as SEResNet101
from keras_resnet.applications import SEResNet152 as SEResNet152
from keras_resnet.applications import SEResNeXt50_32x4d as SEResNeXt50_32x4d
from keras_resnet.applications import SEResNeXt101_32x4d as SEResNeXt101_32x4d
from keras_resnet.applications import WideResNet50_2 as WideResNet50_2
from keras_resnet.applications import WideResNet101_2 as WideResNet101_2
from keras_resnet.functional import residual as residual
from keras_resnet.imagenet_utils import decode_predictions as decode_predictions
from keras_resnet.imagenet_utils import preprocess_input as preprocess_input
from keras_resnet.nets.catalog import VARIANTS as variants
from keras_resnet.nets.catalog import get_spec as get_spec
from keras_resnet.nets.catalog import list_variants as list_variants
from keras_resnet.nets.catalog import plain_twin as plain_twin
from keras_resnet.nets.layers import PadChannels as PadChannels
from keras_resnet.nets.model import ResNet as ResNet
from keras_resnet.nets.network import build as build
from keras_resnet.nets.remat import Rematerialized as Rematerialized
from keras_resnet.nets.spec import ResNetSpec as ResNetSpec
from keras_resnet.preprocessing import PreprocessSpec as PreprocessSpec
from keras_resnet.reparam import fold_batch_norm as fold_batch_norm
from keras_resnet.version import __version__ as __version__
from keras_resnet.weights import from_pretrained as from_pretrained

__all__ = [
    "PadChannels",
    "PreprocessSpec",
    "Rematerialized",
    "ResNeXt50_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet",
    "ResNet18",
    "ResNet18D",
    "ResNet18V2",
    "ResNet34",
    "ResNet34D",
    "ResNet34V2",
    "ResNet50",
    "ResNet50D",
    "ResNet50V2",
    "ResNet101",
    "ResNet101D",
    "ResNet101V2",
    "ResNet152",
    "ResNet152D",
    "ResNet152V2",
    "ResNet200",
    "ResNet200D",
    "ResNet200V2",
    "ResNetRS50",
    "ResNetRS101",
    "ResNetRS152",
    "ResNetRS200",
    "ResNetRS270",
    "ResNetRS350",
    "ResNetRS420",
    "ResNetSpec",
    "SEResNeXt50_32x4d",
    "SEResNeXt101_32x4d",
    "SEResNet50",
    "SEResNet101",
    "SEResNet152",
    "WideResNet50_2",
    "WideResNet101_2",
    "analysis",
    "build",
    "decode_predictions",
    "export",
    "finetune",
    "fold_batch_norm",
    "from_pretrained",
    "get_spec",
    "list_variants",
    "plain_twin",
    "preprocess_input",
    "preprocessing",
    "residual",
    "variants",
    "weights",
]


def __getattr__(name: str) -> types.ModuleType:
    """Imports `keras_resnet.export` when it is first used: most programs never do."""
    if name == "export":
        return importlib.import_module("keras_resnet.export")
    raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")
