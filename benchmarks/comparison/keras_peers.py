"""Other nets in Keras: keras.io's CIFAR example, keras.applications, KerasHub."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .keras_common import (
    compile_model,
    fit_runner,
    set_precision,
    time_batches,
    time_inference,
    time_save_and_load,
)
from .workload import PhaseTimer, Runner, Workload

Net = Callable[[Workload], Any]


def train_keras_io(workload: Workload, timer: PhaseTimer) -> Runner:
    """The CIFAR example of keras.io under `fit`; its layers have L2 regularizers."""
    return _fit(keras_io_net, workload, timer, from_logits=False, decay=False)


def train_applications(workload: Workload, timer: PhaseTimer) -> Runner:
    """`keras.applications.ResNet50` under `fit`."""
    return _fit(applications_net, workload, timer)


def train_hub(workload: Workload, timer: PhaseTimer) -> Runner:
    """KerasHub's ResNet backbone with a head, under `fit`."""
    return _fit(hub_net, workload, timer, library="keras_hub")


def infer_applications(workload: Workload, timer: PhaseTimer) -> Runner:
    """`keras.applications.ResNet50`; for the modes see `keras_common.time_inference`."""
    return _infer(applications_net, workload, timer)


def infer_hub(workload: Workload, timer: PhaseTimer) -> Runner:
    """KerasHub's ResNet-50; for the modes see `keras_common.time_inference`."""
    return _infer(hub_net, workload, timer, library="keras_hub")


def keras_io_net(workload: Workload) -> Any:
    """Builds the ResNet of keras.io's CIFAR-10 example ("v1") in our own code.

    As there: biased convolutions with L2 1e-4, batch norm with Keras's defaults, 1x1 projections
    without a norm where a stage begins, average pooling over 8x8, softmax.
    """
    import keras

    layers = keras.layers

    def conv(x: Any, filters: int, size: int, strides: int) -> Any:
        return layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(1e-4),
        )(x)

    def conv_norm(x: Any, filters: int, strides: int = 1) -> Any:
        return layers.BatchNormalization()(conv(x, filters, 3, strides))

    inputs = keras.Input(workload.shape)
    x = layers.Activation("relu")(conv_norm(inputs, 16))
    for stage, depth in enumerate(workload.depths):
        filters = 16 * 2**stage
        for unit in range(depth):
            strides = 2 if stage and unit == 0 else 1
            y = layers.Activation("relu")(conv_norm(x, filters, strides))
            y = conv_norm(y, filters)
            if strides == 2:
                x = conv(x, filters, 1, strides)
            x = layers.Activation("relu")(layers.add([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(workload.size // 4)(x))
    x = layers.Dense(workload.classes, activation="softmax", kernel_initializer="he_normal")(x)
    return keras.Model(inputs, x)


def applications_net(workload: Workload) -> Any:
    """Builds `keras.applications.ResNet50` without weights; it returns logits."""
    import keras

    return keras.applications.ResNet50(
        weights=None,
        input_shape=workload.shape,
        classes=workload.classes,
        classifier_activation=None,
    )


def hub_net(workload: Workload) -> Any:
    """Builds KerasHub's ResNet-50 with a head; its stride is in the 3x3."""
    import keras
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=workload.shape,
    )
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(workload.classes, dtype="float32")(x))


def pipeline(workload: Workload, timer: PhaseTimer) -> Runner:
    """`tf.data` with Keras's augmentation layers on whole batches, as its guides have it.

    Mode `memory`: shuffled arrays, padded and cropped; `jpeg`: `image_dataset_from_directory`,
    resized to 8/7 of the size and cropped.
    """
    with timer("import"):
        import keras
        import tensorflow as tf

        from .images import MEAN, STD, jpeg_folder, pixels
    layers = keras.layers
    augmentation = [
        layers.RandomCrop(workload.size, workload.size),
        layers.RandomFlip("horizontal"),
        layers.Normalization(mean=MEAN, variance=[value**2 for value in STD]),
    ]
    if workload.mode == "memory":
        images, labels = pixels(workload)
        data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).repeat()
        data = data.batch(workload.batch, drop_remainder=True)
        augmentation.insert(0, layers.ZeroPadding2D(4))
    else:
        larger = workload.size * 8 // 7
        data = keras.utils.image_dataset_from_directory(
            jpeg_folder(workload),
            image_size=(larger, larger),
            batch_size=workload.batch,
            verbose=False,
        ).repeat()
    augment = keras.Sequential(augmentation)

    def finish(images: Any, labels: Any) -> Any:
        return augment(tf.cast(images, "float32"), training=True), labels

    return Runner(
        time_batches(data.map(finish, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE), workload)
    )


_JITTER = {
    "brightness_factor": 0.4,
    "contrast_factor": 0.4,
    "saturation_factor": (0.3, 0.7),
    "hue_factor": 0.0,
}


def augmented(workload: Workload, timer: PhaseTimer) -> Runner:
    """`image_dataset_from_directory`, crop and flip, and one of Keras's layers on whole batches."""
    with timer("import"):
        import keras
        import tensorflow as tf

        from .images import jpeg_folder
    layers, size = keras.layers, workload.size
    larger = size * 8 // 7
    data = keras.utils.image_dataset_from_directory(
        jpeg_folder(workload),
        image_size=(larger, larger),
        batch_size=workload.batch,
        label_mode="categorical",
        verbose=False,
    ).repeat()
    crop = keras.Sequential([layers.RandomCrop(size, size), layers.RandomFlip("horizontal")])
    name = workload.augment["layer"]
    options = {"RandomColorJitter": _JITTER}.get(name, {})
    layer: Any = getattr(layers, name)(**options) if name else None

    def finish(images: Any, labels: Any) -> Any:
        images = crop(tf.cast(images, "float32"), training=True)
        if name in ("MixUp", "CutMix"):
            mixed = layer({"images": images, "labels": labels}, training=True)
            return mixed["images"], mixed["labels"]
        return layer(images, training=True) if name else images, labels

    return Runner(
        time_batches(data.map(finish, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE), workload)
    )


def checkpoint(workload: Workload, timer: PhaseTimer) -> Runner:
    """Keras's `.keras` file of a compiled model, optimizer included."""
    with timer("import"):
        import keras
    model = applications_net(workload)
    compile_model(model, workload)
    model.optimizer.build(model.trainable_variables)
    path = f"{workload.folder}/applications.keras"
    return Runner(
        time_save_and_load(lambda: model.save(path), lambda: keras.models.load_model(path))
    )


def _fit(
    net: Net,
    workload: Workload,
    timer: PhaseTimer,
    *,
    library: str = "keras",
    **compilation: bool,
) -> Runner:
    with timer("import"):
        importlib.import_module(library)
    return fit_runner(net, workload, timer, _multiply_adds, **compilation)


def _infer(net: Net, workload: Workload, timer: PhaseTimer, *, library: str = "keras") -> Runner:
    with timer("import"):
        importlib.import_module(library)
    set_precision(workload)
    with timer("build"):
        model = net(workload)
    return Runner(time_inference(model, workload), _multiply_adds(model))


def _multiply_adds(model: Any) -> int:
    from keras_resnet.analysis import count

    return count(model).multiply_adds
