"""Weights: published names and files into nets, and nets into files for other libraries."""

from keras_resnet.weights.certificate import Certificate as Certificate
from keras_resnet.weights.certificate import certify as certify
from keras_resnet.weights.files.errors import DownloadError as DownloadError
from keras_resnet.weights.pretrained import from_pretrained as from_pretrained
from keras_resnet.weights.pretrained import load as load
from keras_resnet.weights.publish import save as save
from keras_resnet.weights.resolve import Weights as Weights
from keras_resnet.weights.resolve import open_weights as open_weights
from keras_resnet.weights.resolve import preprocess_spec as preprocess_spec
from keras_resnet.weights.sources import SOURCES as SOURCES
from keras_resnet.weights.sources import Source as Source
from keras_resnet.weights.timm_config import timm_config as timm_config
from keras_resnet.weights.transfer import LoadReport as LoadReport

__all__ = [
    "SOURCES",
    "Certificate",
    "DownloadError",
    "LoadReport",
    "Source",
    "Weights",
    "certify",
    "from_pretrained",
    "load",
    "open_weights",
    "preprocess_spec",
    "save",
    "timm_config",
]
