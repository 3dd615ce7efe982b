"""Verified exports: SavedModel, LiteRT and ONNX files that are compared with the Keras model.

TensorFlow and the runtimes are imported inside functions, so this package imports without them.
"""

from keras_resnet.export.choose import Candidate as Candidate
from keras_resnet.export.choose import Choice as Choice
from keras_resnet.export.choose import NoFile as NoFile
from keras_resnet.export.choose import Wanted as Wanted
from keras_resnet.export.choose import choose as choose
from keras_resnet.export.client_export import ClientExport as ClientExport
from keras_resnet.export.client_export import ClientProof as ClientProof
from keras_resnet.export.client_export import export_for_clients as export_for_clients
from keras_resnet.export.clients import CLIENTS as CLIENTS
from keras_resnet.export.clients import Client as Client
from keras_resnet.export.clients import ClientSetting as ClientSetting
from keras_resnet.export.limits import Limits as Limits
from keras_resnet.export.litert_file import export_tflite as export_tflite
from keras_resnet.export.metadata import Description as Description
from keras_resnet.export.onnx_file import export_onnx as export_onnx
from keras_resnet.export.pipeline import ExportError as ExportError
from keras_resnet.export.pipeline import Rejected as Rejected
from keras_resnet.export.pipeline import export as export
from keras_resnet.export.reference import Reference as Reference
from keras_resnet.export.request import ExportRequest as ExportRequest
from keras_resnet.export.saved_model_directory import export_saved_model as export_saved_model
from keras_resnet.export.single import onnx as onnx
from keras_resnet.export.single import saved_model as saved_model
from keras_resnet.export.single import tflite as tflite
from keras_resnet.export.verification import Verification as Verification
from keras_resnet.export.verify import verify as verify
from keras_resnet.export.versions import export_version as export_version

__all__ = [
    "CLIENTS",
    "Candidate",
    "Choice",
    "Client",
    "ClientExport",
    "ClientProof",
    "Description",
    "ExportError",
    "ExportRequest",
    "Limits",
    "NoFile",
    "Reference",
    "Rejected",
    "Verification",
    "Wanted",
    "choose",
    "export",
    "export_for_clients",
    "export_onnx",
    "export_saved_model",
    "export_tflite",
    "export_version",
    "onnx",
    "saved_model",
    "tflite",
    "verify",
]
