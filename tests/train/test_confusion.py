"""The sparse confusion, its place in files, and metrics of images with several labels."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec
from keras_resnet_train.data import ArraySource
from keras_resnet_train.evaluation import Evaluation, evaluate
from keras_resnet_train.evaluation.classes import class_table, confusion_csv
from keras_resnet_train.evaluation.confusion import Confusion
from keras_resnet_train.evaluation.multilabel import (
    MultilabelEvaluation,
    average_precision,
    best_threshold,
    f1_scores,
)
from keras_resnet_train.evaluation.splits import (
    describe_metrics,
    save_confusions,
    split_metrics,
)
from keras_resnet_train.files import write_json

PREPROCESS = PreprocessSpec((2, 2), (0.0,), (1.0,))


def test_counts_on_literal_values(tmp_path: Path) -> None:
    matrix = [[3, 1, 0], [0, 0, 2], [1, 0, 4]]
    labels, predicted = (
        np.repeat([0, 0, 1, 2, 2], [3, 1, 2, 1, 4]),
        [0] * 3 + [1, 2, 2, 0] + [2] * 4,
    )
    found = Confusion.of(labels, np.array(predicted), 3)
    assert found.dense().tolist() == matrix
    assert found.total == 11
    assert found.support.tolist() == [4, 2, 5]
    assert found.taken.tolist() == [4, 1, 6]
    assert found.right.tolist() == [3, 0, 4]
    assert found.pairs() == [(1, 2, 2), (0, 1, 1), (2, 0, 1)]  # equal ones by class
    assert found.pairs(1) == [(1, 2, 2)]
    assert (found + found).dense().tolist() == (2 * np.array(matrix)).tolist()
    assert Confusion.from_dense(matrix).dense().tolist() == matrix
    assert found.to_dict() == {"confusion": matrix}
    found.save(tmp_path / "confusion.npz")
    again = Confusion.load(tmp_path / "confusion.npz")
    assert again.dense().tolist() == matrix
    nothing = Confusion.of(np.zeros(0, int), np.zeros(0, int), 2)
    assert nothing.total == 0
    assert nothing.pairs() == []


@pytest.mark.tf
def test_5000_classes_take_little_memory_and_few_bytes(tmp_path: Path) -> None:
    """The matrix would be 200 MB as float64, and 275 MB as text."""
    classes = 5000
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (600, 2, 2, 1), dtype=np.uint8)
    source = ArraySource(images, np.arange(600) * 8)
    evaluate(model, source, PREPROCESS, batch_size=100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = evaluate(model, source, PREPROCESS, batch_size=100)
    values = found.to_dict()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB
    predicted = model.predict(images.astype("float32"), verbose=0).argmax(axis=1)
    assert values["class_counts"]["support"][:17] == [1, *[0] * 7, 1, *[0] * 7, 1]
    assert sum(values["class_counts"]["predicted"]) == 600
    assert sum(values["class_counts"]["correct"]) == round(found.accuracy * 600)
    pairs = {(true, guess) for true, guess, _ in values["confused_pairs"]}
    assert pairs <= set(zip(source.labels.tolist(), predicted.tolist(), strict=True))
    assert len(pairs) == 50
    write_json(tmp_path / "metrics.json", {"test": values})
    assert (tmp_path / "metrics.json").stat().st_size < 500_000
    found.counts.save(tmp_path / "confusion.npz")
    assert (tmp_path / "confusion.npz").stat().st_size < 20_000


def test_average_precision_on_literal_values() -> None:
    labels = np.array([True, False, True, False, True])
    # precisions 1/1, 2/3 and 3/5 at the three labels
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), labels) == pytest.approx(
        (1 + 2 / 3 + 3 / 5) / 3
    )
    # the first three come in together: 2/3 twice
    assert average_precision(np.array([0.9, 0.9, 0.9, 0.6, 0.5]), labels) == pytest.approx(
        (2 / 3 + 2 / 3 + 3 / 5) / 3
    )
    assert average_precision(np.full(5, 0.3), labels) == pytest.approx(0.6)
    assert np.isnan(average_precision(np.ones(2), np.zeros(2, bool)))


def test_thresholds_and_f1_on_literal_values() -> None:
    labels = np.array([True, False, True, False, False])
    # F1 after 1, 2, 3 images: 2/3, 2/4, 4/5
    assert best_threshold(np.array([0.9, 0.8, 0.7, 0.5, 0.1]), labels) == pytest.approx(0.6)
    assert best_threshold(np.array([0.9, 0.8]), np.array([True, True])) == pytest.approx(0.4)
    assert best_threshold(np.array([0.9]), np.array([False])) == 0.5
    predicted = np.array([[1, 0, 0], [1, 1, 0]], bool)
    true = np.array([[1, 1, 0], [0, 1, 0]], bool)
    by_class, together = f1_scores(predicted, true)
    np.testing.assert_allclose(by_class, [2 / 3, 2 / 3, np.nan])
    assert together == pytest.approx(4 / 6)


@pytest.mark.tf
def test_images_with_several_labels() -> None:
    classes = 3
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    rng = np.random.default_rng(1)
    images = rng.integers(0, 3, (50, 2, 2, 1), dtype=np.uint8)
    labels = (rng.random((50, classes)) < [0.5, 0.2, 0.0]).astype("float32")
    found = evaluate(model, ArraySource(images, labels), PREPROCESS, batch_size=16)
    assert isinstance(found, MultilabelEvaluation)
    logits = model.predict(images.astype("float32"), verbose=0).astype("float64")
    scores = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    np.testing.assert_array_equal(found.labels, labels > 0)
    losses = -(labels * np.log(scores) + (1 - labels) * np.log(1 - scores))
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert found.accuracy == pytest.approx(((scores > 0.5) == labels).mean())
    first, second, none = found.average_precision
    assert np.isnan(none)
    assert found.score == pytest.approx((first + second) / 2)
    plain, chosen = found.to_dict(), found.to_dict(found.thresholds())
    assert chosen["macro_f1"] >= plain["macro_f1"]
    assert plain["thresholds"] == [0.5] * 3
    assert plain["support"] == labels.sum(axis=0).tolist()
    assert plain["average_precision"][2] is None
    assert json.loads(json.dumps(chosen)) == chosen


def test_the_csv_of_many_classes_has_a_row_a_pair() -> None:
    names = [f"class{number}" for number in range(1001)]
    found = Confusion.of(np.array([5, 5, 1000]), np.array([5, 5, 7]), 1001)
    lines = confusion_csv(found, names).splitlines()
    assert lines == ["true,predicted,count", "class5,class5,2", "class1000,class7,1"]
    assert class_table(found, names)[5]["support"] == 2


def test_thresholds_of_the_validation_images_apply_to_the_test_images(tmp_path: Path) -> None:
    scores = np.array([[0.9], [0.4], [0.3], [0.1]], "float32")
    labels = np.array([[True], [True], [False], [False]])
    held_out = MultilabelEvaluation(scores, labels, 0.5)
    test = MultilabelEvaluation(scores - 0.05, labels, 0.5)
    found = split_metrics({"validation": held_out, "test": test})
    assert found["test"]["thresholds"] == found["validation"]["thresholds"] == [pytest.approx(0.35)]
    assert found["test"]["micro_f1"] == pytest.approx(2 / 3)  # 0.35 is not above it
    assert split_metrics({"test": test})["test"]["thresholds"] == [0.5]
    assert describe_metrics(found["validation"]) == (
        "mean average precision 1.0000, F1 1.0000 (micro) and 1.0000 (macro), loss 0.5000, 4 images"
    )
    few, many = (Confusion.of(np.array([1]), np.array([0]), n) for n in (100, 101))
    evaluated = {
        "test": Evaluation(1, 0.5, 0.0, 1.0, many),
        "validation": Evaluation(1, 0.5, 0.0, 1.0, few),
    }
    save_confusions(evaluated, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["confusion_test.npz"]
    assert Confusion.load(tmp_path / "confusion_test.npz").pairs() == [(1, 0, 1)]
    assert describe_metrics(split_metrics(evaluated)["test"]).startswith("accuracy 0.0000 (95 % in")
