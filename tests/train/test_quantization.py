"""Quantise-aware runs: trained, resumed, opened again, evaluated and exported."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet.quantize import is_quantize_aware
from keras_resnet.quantize.ranges import ActivationRange
from keras_resnet_train.config import RunConfig, with_changes
from keras_resnet_train.finetuning import finetuning
from keras_resnet_train.rundir import open_run
from keras_resnet_train.session import run_training

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]


@pytest.fixture(scope="module")
def float_run(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Any]) -> pathlib.Path:
    """A finished float run of two units."""
    path = tmp_path_factory.mktemp("runs") / "float"
    run_training(tiny(model__spec__depths=[1, 1], model__spec__widths=[4, 8]), path)
    return path


@pytest.fixture(scope="module")
def config(float_run: pathlib.Path) -> RunConfig:
    """Six steps with averages of the weights, from the finished float run."""
    changes = {
        "model.weights": str(float_run),
        "data.dataset": "digits",
        "quantize.scheme": "int8",
        "quantize.bits": 4,
        "quantize.calibration": 96,
        "optimizer.ema": 0.9,
        "data.validation": 0.0,
        "batch_size": 64,
        "steps": 6,
        "checkpoint.every_steps": 2,
        "runtime.steps_per_call": 2,
    }
    return finetuning("auto", None, changes, None)


@pytest.fixture(scope="module")
def quantized_run(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("runs") / "quantized"
    run_training(config, path)
    return path


def trained_ranges(run: pathlib.Path) -> list[Any]:
    loaded: Any = keras.saving.load_model(run / "model.keras")
    ranges = [layer for layer in loaded.layers if isinstance(layer, ActivationRange)]
    return [layer for layer in ranges if layer.fixed is None]


def test_the_recipe_and_the_options(config: RunConfig) -> None:
    assert (config.recipe, config.schedule.learning_rate) == ("quantize", 1e-3)
    assert config.optimizer.decay_all is False
    eight = finetuning(
        "auto",
        "quantize",
        {"model.weights": config.model.weights, "data.dataset": "digits"},
        None,
    )
    assert (eight.quantize.scheme, eight.quantize.bits) == ("int8", 8)
    assert eight.schedule.learning_rate == 1e-4


def test_a_run_begins_near_its_float_net_and_keeps_it(
    quantized_run: pathlib.Path, float_run: pathlib.Path
) -> None:
    run, floating = open_run(quantized_run), open_run(float_run)
    assert is_quantize_aware(run.model)
    assert run.model.spec.widths == floating.spec.widths
    accuracy = run.directory.metrics["test"]["accuracy"]
    assert accuracy > floating.directory.metrics["test"]["accuracy"] - 0.05
    ranges = [layer for layer in run.model.layers if isinstance(layer, ActivationRange)]
    # Half of the six steps move the ranges; that of the input is known from the normalisation. The
    # run ends with averages, which count too.
    seen = {round(float(layer.seen), 1) for layer in ranges if layer.fixed is None}
    assert seen == {3.0}
    assert all(layer.steps == 3 for layer in trained_ranges(quantized_run))
    assert ranges[0].fixed is not None
    kernel, _, scales = run.model.get_layer("stage2_unit1_conv1").quantized(0.01)
    numbers = np.asarray(kernel) / np.asarray(scales)
    np.testing.assert_allclose(numbers, np.round(numbers), atol=1e-4)
    assert np.abs(numbers).max() == pytest.approx(7)


def test_a_killed_run_ends_with_the_same_bits(
    config: RunConfig,
    quantized_run: pathlib.Path,
    train_until: Callable[..., None],
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "killed"
    train_until(4, config, path)
    run_training(config, path)
    found = open_run(path).model.get_weights()
    for ours, theirs in zip(found, open_run(quantized_run).model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    last = open_run(path, "last").model  # without validation images the last weights are final
    for ours, theirs in zip(last.get_weights(), found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_evaluate_and_export_take_the_run_and_its_file(
    quantized_run: pathlib.Path, command: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    evaluated = command("evaluate", quantized_run)
    assert evaluated.status == 0, evaluated.err
    exported = command("export", quantized_run)
    assert exported.status == 0, exported.err
    assert "is quantise-aware: a LiteRT int8 file with the ranges of its training" in exported.out
    row = json.loads((quantized_run / "manifest.json").read_text())["artifacts"][
        "model_int8.tflite"
    ]
    assert row["verification"]["agreement"] > 0.99
    assert row["verification"]["max_difference"] < 0.1  # a step of the output, at the most
    file = command(
        "export",
        quantized_run / "model.keras",
        "--dataset",
        "digits",
        "--client",  # it was refused, as the client's own choice is float32
        "litert-js",
        "--output",
        tmp_path / "files",
    )
    assert file.status == 0, file.err
    assert (tmp_path / "files" / "litert-js" / "model_int8.tflite").is_file()
    for options, message in (
        (["--precision", "float16"], "is exported as a LiteRT int8 file"),
        (["--formats", "onnx"], "is exported as a LiteRT int8 file"),
        (["--calibration-images", "8"], "has its own ranges"),
    ):
        refused = command("export", quantized_run, *options)
        assert refused.status != 0
        assert message in refused.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.weights": None}, "fine-tunes a trained net: give --weights"),
        ({"runtime.precision": "mixed_bfloat16"}, "`runtime.precision` must be 'float32'"),
        ({"model.freeze": "1"}, "`model.freeze` must be None"),
        ({"runtime.remat": "unit"}, "`runtime.remat` must be 'none'"),
        ({"model.stacked": True}, "each layer has its own range"),
        ({"quantize.bits": 6}, "`quantize.bits` must be 8 or 4"),
    ],
    ids=["weights", "precision", "freeze", "remat", "stacked", "bits"],
)
def test_settings_that_do_not_go_with_it(
    config: RunConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        with_changes(config, changes)


def test_what_cannot_be_started_from(
    quantized_run: pathlib.Path, config: RunConfig, tmp_path: pathlib.Path
) -> None:
    again = with_changes(config, {"model.weights": str(quantized_run)})
    # Without --quantize: "no 'stem_norm' in the source".
    floating = with_changes(again, {"quantize.scheme": "none"})
    with pytest.raises(ValueError, match="is quantise-aware already"):
        run_training(floating, tmp_path / "float")
    with pytest.raises(ValueError, match="is quantise-aware already"):
        run_training(again, tmp_path / "again")
    other = with_changes(config, {"data.dataset": "synthetic"})
    with pytest.raises(ValueError, match="must be trained on the data's"):
        run_training(other, tmp_path / "other")


def test_a_file_of_a_run_keeps_ranges_and_scales(quantized_run: pathlib.Path) -> None:
    loaded: Any = keras.saving.load_model(quantized_run / "model.keras")
    assert loaded.spec == open_run(quantized_run).model.spec
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_array_equal(
        np.asarray(loaded(images)), np.asarray(open_run(quantized_run).model(images))
    )
