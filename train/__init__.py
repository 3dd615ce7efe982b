"""The training application, installed as `keras_resnet_train`."""
