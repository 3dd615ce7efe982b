"""KerasHub's image classifier and DeepLabV3 segmenter on a ResNet of this package.

KerasHub's tasks take any functional model as backbone or image encoder. The classifier needs a
feature map as output, `include_top=False`. DeepLabV3 needs `pyramid_outputs`, which networks made
by `build` have: it upsamples the deepest level and merges it with the level P2. RetinaNet, for
detection, is in `detection_retinanet.py`.

The images are generated: noise with a bright disc, red of class 0 or blue of class 1. The
classifier tells the colour, the segmenter the pixels of the disc.

Usage:

    pip install keras-hub
    python examples/kerashub_tasks.py [--epochs 6]

Running time: about a minute with TensorFlow on two CPU cores. Result of one run: the classifier is
right on all of 32 new images, the segmenter on 98 % of the pixels of their discs.

With published weights, replace `build` by `keras_resnet.from_pretrained("torchvision/v2", ...,
include_top=False)`, and call `keras_resnet.finetune.freeze_norms` before `compile`.
"""

from __future__ import annotations

import argparse

import keras
import keras_hub
import numpy as np

import keras_resnet

SIZE, BATCH, STEPS_PER_EPOCH = 64, 8, 20


def draw_discs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws images, `(count, 64, 64, 3)`; colours, `(count,)`; and masks, `(count, 64, 64)`.

    The masks are 0 outside the disc, 1 inside a red one and 2 inside a blue one.
    """
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.2, (count, SIZE, SIZE, 3)).astype("float32")
    colours = rng.integers(0, 2, count)
    masks = np.zeros((count, SIZE, SIZE), "int32")
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for image, mask, colour in zip(images, masks, colours, strict=True):
        radius = rng.integers(8, 17)
        top, left = rng.integers(radius, SIZE - radius, 2)
        disc = (rows - top) ** 2 + (columns - left) ** 2 < radius**2
        image[disc, 2 * colour] += 1
        mask[disc] = 1 + colour
    return images, colours, masks


def build_encoder() -> keras_resnet.ResNet:
    """Builds a narrow ResNet-18 without its classifier."""
    spec = keras_resnet.get_spec("resnet18").replace(name="resnet18_narrow", widths=(8, 16, 32, 64))
    return keras_resnet.build(spec, include_top=False, input_shape=(SIZE, SIZE, 3), seed=0)


def build_classifier() -> keras.Model:
    """Builds KerasHub's image classifier: average pooling and a dense layer."""
    return keras_hub.models.ImageClassifier(
        build_encoder(), num_classes=2, pooling="avg", activation="linear", preprocessor=None
    )


def build_segmenter() -> keras.Model:
    """Builds DeepLabV3+ with logits of three classes at the size of the images."""
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=build_encoder(),
        spatial_pyramid_pooling_key="P5",
        low_level_feature_key="P2",
        upsampling_size=8,
        dilation_rates=[1, 2],
        projection_filters=16,
        spatial_pyramid_pooling_channels=32,
        image_shape=(SIZE, SIZE, 3),
    )
    return keras_hub.models.DeepLabV3ImageSegmenter(
        backbone, num_classes=3, activation=None, preprocessor=None
    )


def train(
    model: keras.Model, images: np.ndarray, truth: np.ndarray, epochs: int
) -> tuple[float, float]:
    """Trains a model whose outputs are logits; returns the loss of the first and last epoch."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, STEPS_PER_EPOCH * epochs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Without `metrics`, KerasHub's segmenter takes labels for one-hot vectors.
    metrics = ["sparse_categorical_accuracy"]
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, metrics=metrics)
    history = model.fit(
        images, truth, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0
    ).history["loss"]
    return history[0], history[-1]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains both tasks; prints losses, accuracy and pixel accuracy on new images."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=6, help=f"of {STEPS_PER_EPOCH} steps")
    epochs = parser.parse_args(arguments).epochs
    keras.utils.set_random_seed(0)
    images, colours, masks = draw_discs(STEPS_PER_EPOCH * BATCH, seed=1)
    new_images, new_colours, new_masks = draw_discs(32, seed=2)

    classifier = build_classifier()
    first, last = train(classifier, images, colours, epochs)
    predicted = classifier.predict(new_images, verbose=0).argmax(-1)
    accuracy = float((predicted == new_colours).mean())
    print(f"classifier  loss {first:.3f} to {last:.3f}  accuracy on new images {accuracy:.2f}")

    segmenter = build_segmenter()
    start, end = train(segmenter, images, masks, epochs)
    pixels = segmenter.predict(new_images, verbose=0).argmax(-1)
    discs = new_masks > 0
    share = float((pixels[discs] == new_masks[discs]).mean())
    print(f"segmenter   loss {start:.3f} to {end:.3f}  right pixels of new discs {share:.2f}")
    return {
        "classifier loss": last,
        "accuracy": accuracy,
        "segmenter loss": end,
        "pixel accuracy": share,
    }


if __name__ == "__main__":
    main()
