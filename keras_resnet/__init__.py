"""Residual networks for Keras 3: every network of He et al. 2015 and 2016 and its successors."""

import importlib
import types

from keras_resnet import _environment as _environment  # first: it explains a failing import
from keras_resnet import analysis as analysis
from keras_resnet import applications as applications
from keras_resnet import finetune as finetune
from keras_resnet import imagenet_utils as imagenet_utils
from keras_resnet import preprocessing as preprocessing
from keras_resnet import quantize as quantize
from keras_resnet import resnet as resnet
from keras_resnet import resnet50 as resnet50
from keras_resnet import resnet_v2 as resnet_v2
from keras_resnet import weights as weights
from keras_resnet.applications import *
from keras_resnet.features import features as features
from keras_resnet.functional import residual as residual
from keras_resnet.gradcam import gradcam as gradcam
from keras_resnet.gradcam import gradcam_overlay as gradcam_overlay
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
from keras_resnet.pruning import prune as prune
from keras_resnet.quantize import quantize_aware as quantize_aware
from keras_resnet.reparam import fold_batch_norm as fold_batch_norm
from keras_resnet.version import __version__ as __version__
from keras_resnet.weights import from_pretrained as from_pretrained

__all__ = [
    "PadChannels",
    "PreprocessSpec",
    "Rematerialized",
    "ResNet",
    "ResNetSpec",
    "analysis",
    "build",
    "decode_predictions",
    "export",
    "features",
    "finetune",
    "fold_batch_norm",
    "from_pretrained",
    "get_spec",
    "gradcam",
    "gradcam_overlay",
    "list_variants",
    "plain_twin",
    "preprocess_input",
    "preprocessing",
    "prune",
    "quantize",
    "quantize_aware",
    "residual",
    "resnet",
    "resnet50",
    "resnet_v2",
    "variants",
    "weights",
]
__all__ += [name for name in vars(applications) if not name.startswith("_")]


def __getattr__(name: str) -> types.ModuleType:
    """Imports `keras_resnet.export` when it is first used, because most programs never do."""
    if name == "export":
        return importlib.import_module("keras_resnet.export")
    raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")
