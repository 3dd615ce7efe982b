"""Object detection: a ResNet of this package as the backbone of KerasHub's RetinaNet.

Networks made by `build` have `pyramid_outputs`, the feature maps of their stages by level, which is
what KerasHub expects of an image encoder. The images are generated: noise with one or two bright
rectangles, red ones of class 0 and blue ones of class 1.

Usage:

    pip install keras-hub
    python examples/detection_retinanet.py [--epochs 6]

Running time: about a minute with TensorFlow on two CPU cores. Result of one run: the loss falls
from 4.5 to 0.48, and on 32 new images the most confident box has a mean intersection over union of
0.53 with a true box.

With published weights, replace `build` by `keras_resnet.from_pretrained("torchvision/v2", ...)`,
and call `keras_resnet.finetune.freeze_norms` before `compile`.
"""

from __future__ import annotations

import argparse

import keras
import keras_hub
import numpy as np

import keras_resnet

SIZE, BATCH, MAX_BOXES, STEPS_PER_EPOCH = 64, 8, 2, 20


def draw_scenes(count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draws images, `(count, 64, 64, 3)`, and their boxes, y1, x1, y2, x2 in pixels.

    Each image has one or two boxes. The class -1 marks a missing second box.
    """
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.2, (count, SIZE, SIZE, 3)).astype("float32")
    boxes = np.zeros((count, MAX_BOXES, 4), "float32")
    classes = np.full((count, MAX_BOXES), -1, "int32")
    for image, own_boxes, own_classes in zip(images, boxes, classes, strict=True):
        for number in range(rng.integers(1, MAX_BOXES + 1)):
            height, width = rng.integers(14, 29, 2)
            top, left = rng.integers(0, SIZE - height), rng.integers(0, SIZE - width)
            kind = rng.integers(2)
            image[top : top + height, left : left + width, 2 * kind] += 1
            own_boxes[number] = top, left, top + height, left + width
            own_classes[number] = kind
    return images, {"boxes": boxes, "labels": classes}


def build_detector() -> keras.Model:
    """Builds a RetinaNet with pyramid levels 3 to 5 on a narrow ResNet-18."""
    spec = keras_resnet.get_spec("resnet18").replace(name="resnet18_narrow", widths=(8, 16, 32, 64))
    encoder = keras_resnet.build(spec, include_top=False, input_shape=(SIZE, SIZE, 3), seed=0)
    backbone = keras_hub.models.RetinaNetBackbone(
        encoder,
        min_level=3,
        max_level=5,
        use_p5=True,
        image_shape=(SIZE, SIZE, 3),
    )
    anchors = keras_hub.layers.AnchorGenerator(
        "yxyx", min_level=3, max_level=5, num_scales=3, aspect_ratios=[0.5, 1, 2], anchor_size=2
    )
    # Confidence is low after a short training, so the threshold is 0.
    decoder = keras_hub.layers.NonMaxSuppression("yxyx", from_logits=True, confidence_threshold=0)
    return keras_hub.models.RetinaNetObjectDetector(
        backbone,
        num_classes=2,
        bounding_box_format="yxyx",
        anchor_generator=anchors,
        prediction_decoder=decoder,
        pre_logits_num_conv_layers=1,
        use_prediction_head_norm=True,
    )


def intersection_over_union(box: np.ndarray, other: np.ndarray) -> float:
    """Returns the area of the intersection of two boxes divided by that of their union."""
    top, left = np.maximum(box[:2], other[:2])
    bottom, right = np.minimum(box[2:], other[2:])
    intersection = max(0.0, bottom - top) * max(0.0, right - left)
    areas = [(y2 - y1) * (x2 - x1) for y1, x1, y2, x2 in (box, other)]
    return float(intersection / (sum(areas) - intersection))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains the detector; prints its loss and its intersection over union on new images."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=6, help=f"of {STEPS_PER_EPOCH} steps")
    epochs = parser.parse_args(arguments).epochs
    keras.utils.set_random_seed(0)

    model = build_detector()
    learning_rate = keras.optimizers.schedules.CosineDecay(2e-3, STEPS_PER_EPOCH * epochs)
    model.compile(optimizer=keras.optimizers.Adam(learning_rate))
    images, truth = draw_scenes(STEPS_PER_EPOCH * BATCH, seed=1)
    history = model.fit(
        images, truth, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0
    ).history["loss"]
    for epoch, loss in enumerate(history, start=1):
        print(f"epoch {epoch}  loss {loss:.3f}")

    images, truth = draw_scenes(32, seed=2)
    predicted = model.predict(images, verbose=0)["boxes"][:, 0]  # the most confident boxes
    best = [
        max(
            intersection_over_union(box, true_box)
            for true_box, kind in zip(true_boxes, kinds, strict=True)
            if kind >= 0
        )
        for box, true_boxes, kinds in zip(predicted, truth["boxes"], truth["labels"], strict=True)
    ]
    overlap = float(np.mean(best))
    print(f"mean intersection over union of the most confident box, 32 new images: {overlap:.2f}")
    return {"first loss": history[0], "last loss": history[-1], "overlap": overlap}


if __name__ == "__main__":
    main()
