"""Views of images, and the averages over them, against slices and NumPy."""

from __future__ import annotations

import dataclasses
import io
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_resnet
from keras_resnet import PreprocessSpec, get_spec
from keras_resnet_train.data import ArraySource
from keras_resnet_train.data.decoding import Decoding, decode
from keras_resnet_train.data.images import fit
from keras_resnet_train.data.scaled import decode_and_fit
from keras_resnet_train.data.sources import Contained, FileSource, StreamSource
from keras_resnet_train.evaluation import (
    Member,
    View,
    ensemble,
    examples,
    fully_convolutional,
    make_view,
    measure,
    open_member,
)
from keras_resnet_train.evaluation.examples import chunks
from keras_resnet_train.evaluation.views import parse_scales

pytestmark = pytest.mark.tf

SPEC = get_spec("cifar_resnet8")  # takes images from 4 x 4 pixels on


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pooling_member(seed: int, preprocess: PreprocessSpec, classes: int = 4) -> Member:
    """A net that pools its input and classifies: images of any size, the answer known."""
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes),
        ]
    )
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 9, (3, classes)), rng.normal(0, 1, classes)])
    return Member(f"net {seed}", SPEC, preprocess, model, "drawn")


def probabilities(member: Member, images: np.ndarray) -> np.ndarray:
    """What a `pooling_member` says, in NumPy."""
    mean, std = np.float64(member.preprocess.mean), np.float64(member.preprocess.std)
    kernel, bias = (weight.numpy().astype("float64") for weight in member.model.weights)
    logits = ((images - mean) / std).mean(axis=(-3, -2)) @ kernel + bias
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def prepared(view: View, image: np.ndarray) -> list[np.ndarray]:
    """What `prepare` makes of an image in a pipeline, its shape known or not."""
    known = tf.data.Dataset.from_tensors(image).map(view.prepare)
    hidden = tf.data.Dataset.from_generator(
        lambda: iter([image]), output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    ).map(view.prepare)
    (first,), (other,) = known.as_numpy_iterator(), hidden.as_numpy_iterator()
    for one, two in zip(first, other, strict=True):
        np.testing.assert_array_equal(one, two)
    return list(first)


# Ten crops.


@pytest.mark.parametrize(
    ("size", "fraction", "frame"),
    [
        ((224, 224), 224 / 256, (256, 256)),  # Krizhevsky et al. 2012
        ((224, 224), 224 / 232, (232, 232)),
        ((224, 224), 1.0, (256, 256)),
        ((32, 32), 1.0, (37, 37)),
        ((8, 8), 1.0, (9, 9)),
        ((3, 3), 0.99, (4, 4)),  # never the net's size: ten crops would be two
        ((64, 128), 0.8, (80, 160)),
    ],
)
def test_what_ten_crops_are_cut_from(
    size: tuple[int, int], fraction: float, frame: tuple[int, int]
) -> None:
    assert View("ten-crop", PreprocessSpec(size, crop_fraction=fraction)).frame == frame


def test_ten_crops_by_hand() -> None:
    images = drawn(0, 2, 9, 12, 3)
    view = View("ten-crop", PreprocessSpec((6, 8), crop_fraction=2 / 3))
    crops = [
        images[:, :6, :8],
        images[:, :6, 4:],
        images[:, 3:, :8],
        images[:, 3:, 4:],
        images[:, 1:7, 2:10],
    ]
    wanted = [each for crop in crops for each in (crop, np.flip(crop, axis=2))]
    found = list(view.patches(images))
    assert (len(found), view.count) == (10, 10)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(41, 23), (16, 16), (9, 50)])
def test_the_fifth_crop_is_the_centre(shape: tuple[int, int]) -> None:
    preprocess = PreprocessSpec((14, 14), crop_fraction=0.875)
    image = drawn(1, *shape, 3)
    (square,) = prepared(View("ten-crop", preprocess), image)
    assert square.shape == (16, 16, 3)
    (centre,) = prepared(View("center", preprocess), image)
    np.testing.assert_array_equal(
        list(View("ten-crop", preprocess).patches(square[None]))[8][0], centre
    )
    np.testing.assert_array_equal(centre, fit(image, preprocess))


# Scales.


@pytest.mark.parametrize(
    ("shape", "side", "wanted"),
    [
        ((20, 30), 10, (10, 15)),
        ((30, 20), 10, (15, 10)),
        ((375, 500), 224, (224, 299)),
        ((7, 7), 24, (24, 24)),
        ((12, 17), 12, (12, 17)),
        ((5, 91), 10, (10, 40)),  # cut to four times the shorter side
        ((91, 5), 5, (20, 5)),
    ],
)
def test_the_shorter_side_is_the_scale(
    shape: tuple[int, int], side: int, wanted: tuple[int, int]
) -> None:
    image = drawn(2, *shape, 3)
    view = View("multi-scale", PreprocessSpec((8, 8), interpolation="bicubic"), (side,))
    (found,) = prepared(view, image)
    assert found.shape == (*wanted, 3)
    assert found.dtype == np.uint8
    cut = image[:, 35:55] if shape == (5, 91) else image[35:55] if shape == (91, 5) else image
    if cut.shape[:2] == wanted:
        np.testing.assert_array_equal(found, cut)
        return
    resized = tf.image.resize(cut, wanted, method="bicubic", antialias=True).numpy()
    np.testing.assert_array_equal(found, np.clip(np.round(resized), 0, 255).astype("uint8"))


def test_the_papers_scales() -> None:
    """He et al. 2015, section 3.4; a net of another size gets the same multiples."""
    view = make_view("multi-scale", PreprocessSpec((224, 224)), get_spec("resnet50"))
    assert view.scales == (224, 256, 384, 480, 640)
    assert view.count == 10
    assert make_view("multi-scale", PreprocessSpec((32, 32)), SPEC).scales == (32, 37, 55, 69, 91)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ((), "`scales` must be one or more sides of 1 to 4096 pixels. Received: none"),
        ((8, 0), "sides of 1 to 4096 pixels. Received: 8, 0"),
        ((9999,), "sides of 1 to 4096 pixels. Received: 9999"),
        ((8, 16, 8), "`scales` must name each side once. Received: 8, 16, 8"),
        ((8, 3), "at least the smallest input of cifar_resnet8, 4 pixels. Received: 3"),
    ],
)
def test_scales_that_no_net_takes(scales: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_view("multi-scale", PreprocessSpec((8, 8)), SPEC, scales)


def test_views_that_there_are() -> None:
    with pytest.raises(ValueError, match="`views` must be one of center, ten-crop, multi-scale"):
        make_view("centre", PreprocessSpec((8, 8)), SPEC)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`scales` applies to multi-scale views only"):
        make_view("ten-crop", PreprocessSpec((8, 8)), SPEC, (8,))
    for text in ("8,,9", "8;9", "8.5", ""):
        with pytest.raises(ValueError, match=f"whole numbers with commas .*Received: '{text}'"):
            parse_scales(text)
    assert parse_scales("8, 16") == (8, 16)


# Averages.


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Images of four shapes, most of them of one."""
    shapes = [(12, 12), (12, 20), (30, 15), (12, 12), (12, 12), (9, 33), (12, 12)]
    # Each of a colour, so that the nets tell them apart.
    rng = np.random.default_rng(3)
    return [
        np.clip(rng.integers(0, 256, 3) + rng.normal(0, 40, (*shape, 3)), 0, 255).astype("uint8")
        for shape in shapes
    ]


def expected(
    members: list[Member], views: list[View], images: list[np.ndarray], labels: np.ndarray
) -> tuple[np.ndarray, float]:
    """Average probabilities and their mean negative log likelihood, image by image."""
    rows = []
    for image in images:
        answers = []
        for member, view in zip(members, views, strict=True):
            shown = [
                patch[0]
                for version in view.prepare(tf.constant(image))
                for patch in view.patches(version.numpy()[None])
            ]
            assert len(shown) == view.count
            answers.append(np.mean([probabilities(member, patch) for patch in shown], axis=0))
        rows.append(np.mean(answers, axis=0))
    shares = np.stack(rows)
    return shares, float(-np.log(shares[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize(
    ("name", "chunk_bytes"),
    [("center", 1), ("ten-crop", 2**28), ("multi-scale", 1), ("multi-scale", 2**28)],
)
def test_averages_against_numpy(
    name: str,
    chunk_bytes: int,
    photographs: list[np.ndarray],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two nets with their own preprocessing, images of many shapes, as files and as a stream."""
    monkeypatch.setattr(examples, "_CHUNK_BYTES", chunk_bytes)
    one = pooling_member(1, PreprocessSpec((8, 8), (90.0,) * 3, (60.0,) * 3, crop_fraction=0.8))
    other = pooling_member(2, PreprocessSpec((6, 6), (1.0, 2.0, 3.0), (50.0,) * 3))
    scales = {"multi-scale": (6, 13)}.get(name)
    views = [make_view(name, each.preprocess, SPEC, scales) for each in (one, other)]
    labels = np.arange(len(photographs)) % 4
    shares, loss = expected([one, other], views, photographs, labels)
    files, encoded = [], []
    for index, image in enumerate(photographs):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(image).save(files[-1])
        encoded.append(files[-1].read_bytes())
    stream = StreamSource(
        len(labels), lambda seed: tf.data.Dataset.from_tensor_slices((encoded, labels))
    )
    for source in (FileSource(tuple(map(str, files)), labels), stream):
        done: list[int] = []
        found = measure(
            list(zip((one, other), views, strict=True)),
            source,
            batch_size=3,
            error_cases=9,
            progress=done.append,
        )
        assert found.evaluation.loss == pytest.approx(loss, rel=1e-5)
        predicted = shares.argmax(axis=1)
        confusion = np.zeros((4, 4), int)
        np.add.at(confusion, (labels, predicted), 1)
        np.testing.assert_array_equal(found.evaluation.confusion, confusion)
        wrong = [int(i) for i in np.argsort(-shares.max(axis=1)) if predicted[i] != labels[i]]
        assert wrong
        assert [case.number for case in found.mistakes] == wrong
        for case in found.mistakes:
            assert case.probability == pytest.approx(shares[case.number].max(), rel=1e-5)
            (shown, *_) = views[0].prepare(tf.constant(photographs[case.number]))
            np.testing.assert_array_equal(case.image, shown)
        assert done[-1] == len(labels)
        assert len(done) >= 3  # no chunk held more than the batch


@pytest.mark.parametrize("name", ["center", "ten-crop"])
def test_large_photographs_are_decoded_at_a_fraction(name: Any) -> None:
    """Also those of a container, which are no files of their own."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    content = file.getvalue()

    class Container(Contained):
        """One image."""

        def read(self, path: str) -> bytes:
            """Returns it."""
            assert path == "shard.tar/1.jpg"
            return content

    scaled = Decoding(scaled=True)
    paths, labels = ("shard.tar/1.jpg",), np.array([3])
    source = FileSource(paths, labels, decoding=scaled, container=Container())
    view = make_view(name, PreprocessSpec((16, 16), crop_fraction=0.8), SPEC)
    ((versions, found),) = ((c.versions, c.labels) for c in chunks(source, 3, view.prepare, 4))
    size, fraction = ((16, 16), 0.8) if name == "center" else ((20, 20), 1.0)
    target = PreprocessSpec(size, crop_fraction=fraction)
    expected = decode_and_fit(tf.constant(content), 3, target, scaled)
    np.testing.assert_array_equal(versions[0], expected[None])
    whole = fit(decode(tf.constant(content), 3), target)
    assert (expected.numpy() != whole.numpy()).any()
    assert found.tolist() == [3]


def test_images_in_memory_are_taken_as_they_are(photographs: list[np.ndarray]) -> None:
    """At the net's size they are not resized and cropped, whatever the crop fraction."""
    preprocess = PreprocessSpec((12, 12), (90.0,) * 3, (60.0,) * 3, crop_fraction=0.5)
    member = pooling_member(1, preprocess)
    images = np.stack([image for image in photographs if image.shape == (12, 12, 3)])
    labels = np.array([0, 1, 2, 3])
    view = View("center", member.preprocess)
    found = measure([(member, view)], ArraySource(images, labels)).evaluation
    shares = probabilities(member, images)
    assert found.loss == pytest.approx(-np.log(shares[range(4), labels]).mean(), rel=1e-5)


def test_a_confident_mistake_keeps_its_loss() -> None:
    """Logits of 0 and 1,000: the probability of the label is no number of any float format."""
    member = pooling_member(1, PreprocessSpec((4, 4)), classes=2)
    member.model.set_weights([np.zeros((3, 2)), np.array([0.0, 1000.0])])
    source = ArraySource(drawn(0, 2, 4, 4, 3), np.array([0, 1]))
    found = measure([(member, View("ten-crop", member.preprocess))], source)
    assert found.evaluation.loss == pytest.approx(500)
    assert found.calibration.error == pytest.approx(0.5)


def test_the_larger_logit_wins_by_its_last_bit() -> None:
    """Their logarithms of probabilities, of about -1.1, are one and the same float32."""
    member = pooling_member(1, PreprocessSpec((4, 4)))
    small = np.float32(1e-3)
    bias = np.array([small, np.nextafter(small, np.float32(1)), -1, -1], "float32")
    member.model.set_weights([np.zeros((3, 4)), bias])
    source = ArraySource(drawn(0, 2, 4, 4, 3), np.array([1, 1]))
    found = measure([(member, View("center", member.preprocess))], source)
    assert found.evaluation.accuracy == 1


def test_a_net_that_is_broken() -> None:
    member = pooling_member(1, PreprocessSpec((4, 4)))
    member.model.set_weights([np.full((3, 4), np.nan), np.zeros(4)])
    source = ArraySource(drawn(0, 3, 4, 4, 3), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="outputs must be finite numbers: they are not at image 0"):
        measure([(member, View("ten-crop", member.preprocess))], source)


def test_larger_images_come_in_smaller_batches() -> None:
    """A net holds as many pixels at a time as a batch of its own size has."""
    member = pooling_member(1, PreprocessSpec((8, 8)))
    view = View("multi-scale", member.preprocess, (16,))
    net = ensemble.Predictor(member, view, batch_size=9)
    seen: list[tuple[int, ...]] = []

    def run(images: np.ndarray) -> tf.Tensor:
        seen.append(images.shape)
        return tf.zeros((len(images), 4), tf.float64)

    net._run = run
    net.log_probabilities([drawn(0, 5, 16, 16, 3)], 5)
    assert [shape[0] for shape in seen] == [2, 2, 2, 2, 1, 1]
    seen.clear()
    net.log_probabilities([[drawn(0, 90, 90, 3)]], 1)
    assert [shape[0] for shape in seen] == [1, 1]


def test_fully_convolutional(finished_run: pathlib.Path) -> None:
    """On the net's own size it is the net; a mirrored pair is its average."""
    member = open_member(str(finished_run))
    free = fully_convolutional(member)
    assert member.model.inputs[0].shape == (None, 8, 8, 1)
    assert free.model.inputs[0].shape == (None, None, None, 1)
    assert fully_convolutional(free) is free
    images = drawn(4, 6, 8, 8, 1)
    shown, mirrored = (member.preprocess.normalize(x) for x in (images, images[:, :, ::-1]))
    logits = member.model.predict(shown, verbose=0)
    np.testing.assert_allclose(free.model.predict(shown, verbose=0), logits, atol=1e-5)
    labels = np.arange(6)
    source = ArraySource(images, labels)
    view = make_view("multi-scale", member.preprocess, member.spec, (8,))
    both = [logits, member.model.predict(mirrored, verbose=0)]
    shares = np.mean([keras.ops.softmax(each) for each in both], axis=0)
    found = measure([(free, view)], source, batch_size=4)
    assert found.evaluation.loss == pytest.approx(-np.log(shares[labels, labels]).mean(), rel=1e-4)


def test_a_net_with_layers_of_its_own_stays_at_its_size(finished_run: pathlib.Path) -> None:
    """What `build` does not make would be lost, without a word, in a net built anew."""
    member = open_member(str(finished_run))
    inputs = keras.Input((8, 8, 1))
    own = keras.Model(inputs, member.model(keras.layers.Rescaling(2.0, name="twice")(inputs)))
    with pytest.raises(
        ValueError, match="needs a net as `build` makes it: .* Received: Functional"
    ):
        fully_convolutional(dataclasses.replace(member, model=own))
    twice = keras.layers.Rescaling(2.0, name="twice")(inputs)
    own = keras_resnet.build(member.spec, classes=10, input_tensor=twice)
    with pytest.raises(ValueError, match="layers before the net, which fix its input: twice"):
        fully_convolutional(dataclasses.replace(member, model=own))
