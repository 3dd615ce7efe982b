"""A small diffusion model (DDPM) whose U-Net is made of `keras_resnet.residual`.

The images are scikit-learn's handwritten digits, 8x8. The net learns which noise was added to a
digit; from pure noise it then draws digits, a step at a time (Ho et al. 2020, arXiv:2006.11239).
Each block is a residual unit whose branch is told the time step, and whose shortcut projects where
the width changes: `residual(x, branch, shortcut="projection")`.

About a minute on TensorFlow and two CPU cores: the loss falls from 1.3 to 0.16, and most of what
is drawn reads as a digit. It lies 0.37 from the nearest known digit; other real digits lie 0.29
from it, and noise 0.96.

    pip install scikit-learn matplotlib
    python examples/diffusion_unet.py [--steps 1000] [--output digits.png]
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

from keras_resnet import residual

TIMES, WIDTH, BATCH = 100, 32, 64
# Share of the digit's variance that is left after each step: the cosine schedule of Nichol and
# Dhariwal 2021 (arXiv:2102.09672), equation 17.
KEPT = np.cos((np.arange(TIMES + 1) / TIMES + 0.008) / 1.008 * np.pi / 2) ** 2
KEPT = (KEPT[1:] / KEPT[0]).clip(1e-4)


def block(x: Any, time: Any, width: int) -> Any:
    """Two convolutions, told the time between them."""

    def branch(x: Any) -> Any:
        x = layers.Conv2D(width, 3, padding="same")(layers.Activation("silu")(norm(x)))
        x = x + layers.Reshape((1, 1, width))(layers.Dense(width)(time))
        x = layers.Activation("silu")(norm(x))
        return layers.Conv2D(width, 3, padding="same", kernel_initializer="zeros")(x)

    return residual(x, branch, shortcut="projection")


def norm(x: Any) -> Any:
    """Group norm, or nothing on the image itself."""
    return layers.GroupNormalization(8)(x) if x.shape[-1] > 1 else x


def unet() -> keras.Model:
    """Returns the net from noisy images `(batch, 8, 8, 1)` and times `(batch,)` to the noise."""
    images, times = keras.Input((8, 8, 1)), keras.Input(())
    waves = ops.expand_dims(times, -1) * ops.exp(-ops.arange(16, dtype="float32") / 2)
    time = ops.concatenate([ops.sin(waves), ops.cos(waves)], axis=-1)
    time = layers.Dense(4 * WIDTH, activation="silu")(time)
    fine = block(block(images, time, WIDTH), time, WIDTH)
    coarse = layers.AveragePooling2D(2)(fine)
    for _ in range(2):
        coarse = block(coarse, time, 2 * WIDTH)
    x = layers.Concatenate()([fine, layers.UpSampling2D(2)(coarse)])
    x = layers.Activation("silu")(norm(block(x, time, WIDTH)))
    return keras.Model([images, times], layers.Conv2D(1, 3, padding="same")(x), name="unet")


def train(model: keras.Model, digits: np.ndarray, steps: int) -> list[float]:
    """Trains on digits, `(digits, 8, 8, 1)` of -1..1; returns the loss of every step."""
    rng = np.random.default_rng(0)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), "mse")
    losses = []
    for step in range(1, steps + 1):
        clean = digits[rng.integers(0, len(digits), BATCH)]
        noise = rng.normal(size=clean.shape).astype("float32")
        times = rng.integers(0, TIMES, BATCH)
        noisy = mix(clean, noise, times)
        losses.append(float(model.train_on_batch([noisy, times.astype("float32")], noise)))
        if step % max(1, steps // 6) == 0:
            print(f"step {step:5d}  loss {np.mean(losses[-100:]):.3f}")
    return losses


def mix(clean: np.ndarray, noise: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns images after `times` steps of noise."""
    kept = KEPT[times][:, None, None, None].astype("float32")
    return np.sqrt(kept) * clean + np.sqrt(1 - kept) * noise


def draw(model: keras.Model, count: int) -> np.ndarray:
    """Returns new images, `(count, 8, 8, 1)`, from noise (arXiv:2006.11239, algorithm 2)."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, 8, 8, 1)).astype("float32")
    for time in reversed(range(TIMES)):
        kept, before = KEPT[time], KEPT[time - 1] if time else 1.0
        noise = model.predict_on_batch([x, np.full(count, time, "float32")])
        # Clipped to the range of digits, which keeps the first steps on course.
        clean = ((x - np.sqrt(1 - kept) * noise) / np.sqrt(kept)).clip(-1, 1)
        alpha = kept / before
        mean = np.sqrt(before) * (1 - alpha) * clean + np.sqrt(alpha) * (1 - before) * x
        spread = np.sqrt((1 - before) * (1 - alpha) / (1 - kept))
        x = (mean / (1 - kept) + spread * rng.normal(size=x.shape)).astype("float32")
    return x


def distance(images: np.ndarray, digits: np.ndarray) -> float:
    """Returns the mean distance of images to the nearest digit, root mean square a pixel."""
    squares = (images.reshape(len(images), 1, 64) - digits.reshape(1, len(digits), 64)) ** 2
    return float(np.sqrt(squares.mean(-1)).min(1).mean())


def save_grid(images: np.ndarray, path: str) -> None:
    """Writes images as one picture, eight a row."""
    import matplotlib.pyplot as plt

    framed = np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    rows = [np.concatenate(list(row), axis=1) for row in framed.reshape(-1, 8, 10, 10)]
    plt.imsave(path, np.concatenate(rows).clip(-1, 1), cmap="gray_r")


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains, draws 64 digits and prints how near they are to real ones."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--output", help="PNG of the digits drawn")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    digits = (load_digits().images[..., None] / 8 - 1).astype("float32")
    known, others = digits[:1500], digits[1500:]
    model = unet()
    losses = train(model, known, options.steps)
    drawn = draw(model, 64)
    noise = np.random.default_rng(2).normal(size=drawn.shape).clip(-1, 1)
    result = {"first": losses[0], "last": float(np.mean(losses[-100:]))} | {
        name: distance(images, known)
        for name, images in (("drawn", drawn), ("real", others), ("noise", noise))
    }
    print(
        f"distance to the nearest known digit: drawn {result['drawn']:.2f}, "
        f"other real digits {result['real']:.2f}, noise {result['noise']:.2f}"
    )
    if options.output and importlib.util.find_spec("matplotlib"):
        save_grid(drawn, options.output)
        print(f"wrote {options.output}")
    return result


if __name__ == "__main__":
    main()
