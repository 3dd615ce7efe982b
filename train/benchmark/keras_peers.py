"""Other people's nets in Keras: keras.io's CIFAR example, keras.applications, KerasHub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .job import Clock, Job, Ready
from .keras_runs import (
    compile_as_all,
    feed,
    fit_turns,
    inference_turns,
    save_and_load,
    set_precision,
    steady,
)

Net = Callable[[Job], Any]


def train_keras_io(job: Job, clock: Clock) -> Ready:
    """The CIFAR example of keras.io under `fit`; its layers bring their L2 regularizers."""
    return _fit(job, clock, keras_io_net, from_logits=False, decays=False)


def train_applications(job: Job, clock: Clock) -> Ready:
    """`keras.applications.ResNet50` under `fit`."""
    return _fit(job, clock, applications_net)


def train_hub(job: Job, clock: Clock) -> Ready:
    """KerasHub's ResNet backbone with a head, under `fit`."""
    return _fit(job, clock, hub_net, library="keras_hub")


def infer_applications(job: Job, clock: Clock) -> Ready:
    """`keras.applications.ResNet50`; the routes are those of `keras_runs.inference_turns`."""
    return _infer(job, clock, applications_net)


def infer_hub(job: Job, clock: Clock) -> Ready:
    """KerasHub's ResNet-50; the routes are those of `keras_runs.inference_turns`."""
    return _infer(job, clock, hub_net, library="keras_hub")


def keras_io_net(job: Job) -> Any:
    """Builds the ResNet of keras.io's CIFAR-10 example ("v1"), written anew.

    As there: biased convolutions with L2 1e-4, batch norm as Keras has it by default, 1x1
    projections without a norm where a stage begins, average pooling over 8x8, softmax.
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

    inputs = keras.Input(job.shape)
    x = layers.Activation("relu")(conv_norm(inputs, 16))
    for stage, depth in enumerate(job.depths):
        filters = 16 * 2**stage
        for unit in range(depth):
            strides = 2 if stage and unit == 0 else 1
            y = layers.Activation("relu")(conv_norm(x, filters, strides))
            y = conv_norm(y, filters)
            if strides == 2:
                x = conv(x, filters, 1, strides)
            x = layers.Activation("relu")(layers.add([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(job.size // 4)(x))
    x = layers.Dense(job.classes, activation="softmax", kernel_initializer="he_normal")(x)
    return keras.Model(inputs, x)


def applications_net(job: Job) -> Any:
    """Builds `keras.applications.ResNet50` without weights; it returns logits."""
    import keras

    return keras.applications.ResNet50(
        weights=None, input_shape=job.shape, classes=job.classes, classifier_activation=None
    )


def hub_net(job: Job) -> Any:
    """Builds KerasHub's ResNet-50 with a head; its stride stands in the 3x3."""
    import keras
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=job.shape,
    )
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(job.classes, dtype="float32")(x))


def pipeline(job: Job, clock: Clock) -> Ready:
    """`tf.data` with Keras's augmentation layers on whole batches, as its guides have it.

    Route `memory`: shuffled arrays, padded and cropped; `jpeg`: `image_dataset_from_directory`,
    resized to 8/7 of the size and cropped.
    """
    with clock("import"):
        import keras
        import tensorflow as tf

        from .images import MEAN, STD, jpeg_folder, pixels
    layers = keras.layers
    if job.route == "memory":
        images, labels = pixels(job)
        data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).repeat()
        data = data.batch(job.batch, drop_remainder=True)
        first = [layers.ZeroPadding2D(4)]
    else:
        larger = job.size * 8 // 7
        data = keras.utils.image_dataset_from_directory(
            jpeg_folder(job), image_size=(larger, larger), batch_size=job.batch, verbose=False
        ).repeat()
        first = []
    augment = keras.Sequential(
        [
            *first,
            layers.RandomCrop(job.size, job.size),
            layers.RandomFlip("horizontal"),
            layers.Normalization(mean=MEAN, variance=[value**2 for value in STD]),
        ]
    )

    def finish(images: Any, labels: Any) -> Any:
        return augment(tf.cast(images, "float32"), training=True), labels

    return Ready(steady(data.map(finish, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)))


def checkpoint(job: Job, clock: Clock) -> Ready:
    """Keras's `.keras` file of a compiled model, optimizer included."""
    with clock("import"):
        import keras
    model = applications_net(job)
    compile_as_all(model, job, from_logits=True)
    model.optimizer.build(model.trainable_variables)
    path = f"{job.folder}/applications.keras"
    return Ready(save_and_load(lambda: model.save(path), lambda: keras.models.load_model(path)))


def _fit(
    job: Job,
    clock: Clock,
    make: Net,
    *,
    from_logits: bool = True,
    decays: bool = True,
    library: str = "keras",
) -> Ready:
    _import(clock, library)
    set_precision(job)
    with clock("build"):
        model = make(job)
        compile_as_all(model, job, from_logits=from_logits, decays=decays)
    batches = feed(job)
    with clock("first step"):
        model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    return Ready(fit_turns(model, batches), _multiply_adds(model))


def _infer(job: Job, clock: Clock, make: Net, *, library: str = "keras") -> Ready:
    _import(clock, library)
    set_precision(job)
    with clock("build"):
        model = make(job)
    return Ready(inference_turns(model, job), _multiply_adds(model))


def _import(clock: Clock, library: str) -> None:
    import importlib

    with clock("import"):
        importlib.import_module(library)


def _multiply_adds(model: Any) -> int:
    from keras_resnet.analysis import count

    return count(model).multiply_adds
