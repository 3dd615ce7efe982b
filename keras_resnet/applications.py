"""Functions that build one network each, with the arguments of keras.applications.

Each function is named here once; `keras_resnet` exports every public name of this module.
"""

from keras_resnet.application_factory import application as _application
from keras_resnet.application_factory import name_functions as _name_functions

ResNet18 = _application("resnet18")
ResNet34 = _application("resnet34")
ResNet50 = _application("resnet50")
ResNet101 = _application("resnet101")
ResNet152 = _application("resnet152")
ResNet200 = _application("resnet200")
ResNet18V2 = _application("resnet18v2")
ResNet34V2 = _application("resnet34v2")
ResNet50V2 = _application("resnet50v2")
ResNet101V2 = _application("resnet101v2")
ResNet152V2 = _application("resnet152v2")
ResNet200V2 = _application("resnet200v2")
ResNet18D = _application("resnet18d")
ResNet34D = _application("resnet34d")
ResNet50D = _application("resnet50d")
ResNet101D = _application("resnet101d")
ResNet152D = _application("resnet152d")
ResNet200D = _application("resnet200d")
ResNeXt50_32x4d = _application("resnext50_32x4d")
ResNeXt101_32x8d = _application("resnext101_32x8d")
ResNeXt101_64x4d = _application("resnext101_64x4d")
WideResNet50_2 = _application("wide_resnet50_2")
WideResNet101_2 = _application("wide_resnet101_2")
SEResNet50 = _application("seresnet50")
SEResNet101 = _application("seresnet101")
SEResNet152 = _application("seresnet152")
SEResNeXt50_32x4d = _application("seresnext50_32x4d")
SEResNeXt101_32x4d = _application("seresnext101_32x4d")
ResNetRS50 = _application("resnetrs50")
ResNetRS101 = _application("resnetrs101")
ResNetRS152 = _application("resnetrs152")
ResNetRS200 = _application("resnetrs200")
ResNetRS270 = _application("resnetrs270")
ResNetRS350 = _application("resnetrs350")
ResNetRS420 = _application("resnetrs420")

_name_functions(globals())
