"""Runs that start from trained weights."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec
from keras_resnet.nets.named_weights import read_weights
from keras_resnet_train.config import RunConfig, load_config, with_changes
from keras_resnet_train.cross_validation import cross_validate
from keras_resnet_train.finetuning import finetuning
from keras_resnet_train.pretrained import open_pretrained, with_pretrained
from keras_resnet_train.rundir import open_run
from keras_resnet_train.session import run_training
from keras_resnet_train.starting_net import draw_classifier

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A net's own file: a net that is not in the catalog, for RGB images of 8 x 8 pixels."""
    spec = keras_resnet.get_spec("cifar_resnet8").replace(
        depths=(1, 1), widths=(4, 8), name="small"
    )
    net = keras_resnet.build(spec, classes=7, input_shape=(8, 8, 3), seed=5)
    net.preprocess = PreprocessSpec((8, 8), MEAN, STD, crop_fraction=0.875)
    path = tmp_path_factory.mktemp("weights") / "small.keras"
    net.save(path)
    return path


@pytest.fixture
def from_file(tiny: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Makes configurations of runs that start from a file."""

    def make(file: pathlib.Path | str, **changes: Any) -> RunConfig:
        dotted = {name.replace("__", "."): value for name, value in changes.items()}
        given = {"model.name": "auto", "model.spec": {}, "model.weights": str(file)}
        config = tiny(steps=6, batch_size=32, data__image_size=None)
        return with_changes(config, {**given, **dotted})

    return make


def test_a_run_from_a_file(
    from_file: Callable[..., RunConfig], weights: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Another classifier, one channel, frozen stages and norms; it resumes without the file."""
    file = pathlib.Path(shutil.copy(weights, tmp_path / "small.keras"))
    config = from_file(file, model__freeze="1")
    output = tmp_path / "run"
    run_training(config, output)
    record = json.loads((output / "weights.json").read_text())
    assert (record["source"], record["spec"]["name"]) == (str(file), "small")
    assert record["changes"][:2] == [
        "a new classifier of 10 classes",
        "1 input channels made from 3",
    ]
    assert len(record["files"][0]["sha256"]) == 64
    stored = load_config(output / "config.json")
    assert (stored.model.spec["widths"], stored.data.mean) == ([4, 8], MEAN)
    run = open_run(output)
    assert (run.preprocess.size, run.preprocess.crop_fraction) == ((8, 8), 0.875)
    assert run.preprocess.mean == pytest.approx([110.0])
    assert run.model.output_shape == (None, 10)
    before, after = read_weights(keras.models.load_model(weights)), read_weights(run.model)
    # Grey images: the kernels of three channels are summed.
    summed = before.pop("stem_conv")[0].sum(axis=2, keepdims=True)
    np.testing.assert_allclose(after.pop("stem_conv")[0], summed, atol=1e-6)
    del before["logits"], after["logits"]
    same = {
        name
        for name, arrays in after.items()
        if all(np.array_equal(*pair) for pair in zip(arrays, before[name], strict=True))
    }
    assert same == {name for name in after if not name.startswith("stage2")}
    file.unlink()
    (output / "model.keras").unlink()
    run_training(config, output)
    for again, once in zip(open_run(output).model.weights, run.model.weights, strict=True):
        np.testing.assert_array_equal(again.numpy(), once.numpy())


def test_the_classifier_first(
    from_file: Callable[..., RunConfig],
    weights: pathlib.Path,
    train_until: Callable[..., None],
    tmp_path: pathlib.Path,
) -> None:
    """Nothing else changes in the first steps; a run killed around the switch ends the same."""
    changes = {"head_epochs": 0.09, "steps": 7, "runtime.steps_per_call": 1}
    config = with_changes(from_file(weights), {**changes, "checkpoint.every_steps": 3})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_training(config, whole)
    train_until(3, config, killed)  # from the checkpoint of step 0, without the classifier's end
    train_until(6, config, killed)  # step 3, where the other layers begin
    body = read_weights(open_run(killed, "last").model)
    start = read_weights(keras.models.load_model(weights))
    assert all(
        np.array_equal(array, old)
        for name in set(body) - {"stem_conv", "logits"}
        for array, old in zip(body[name], start[name], strict=True)
    )
    run_training(config, killed)
    pairs = zip(open_run(whole).model.weights, open_run(killed).model.weights, strict=True)
    for expected, found in pairs:
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert not np.array_equal(
        read_weights(open_run(whole).model)["stem_norm"][0], start["stem_norm"][0]
    )
    with pytest.raises(ValueError, match=r"shorter than the run of 7 steps.*\(24 steps\)"):
        run_training(with_changes(config, {"head_epochs": 0.6}), tmp_path / "long")
    assert not (tmp_path / "long").exists()


def test_linear_probe(
    from_file: Callable[..., RunConfig],
    weights: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Features that are computed once give the classifier that the whole net gives."""
    config = from_file(weights, model__freeze="all", augment__crop="none", early_stop=2)
    config = with_changes(config, {"steps": 45, "data.sampling": "balanced"})
    run_training(config, tmp_path / "once")
    assert "Computing the features of the frozen net once" in capsys.readouterr().out
    run_training(with_changes(config, {"augment.crop": "pad", "augment.pad": 0}), tmp_path / "all")
    assert "not computed once, because they differ from epoch to epoch" in capsys.readouterr().out
    once, every = (open_run(tmp_path / name).model for name in ("once", "all"))
    for found, expected in zip(once.weights, every.weights, strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    metrics = [
        json.loads((tmp_path / name / "metrics.json").read_text())["test"]["accuracy"]
        for name in ("once", "all")
    ]
    assert metrics[0] == pytest.approx(metrics[1], abs=0.01)


def test_early_stop(
    from_file: Callable[..., RunConfig],
    weights: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two epochs without a better result end a run, and the same run when it is resumed."""
    config = from_file(weights, model__freeze="all", augment__crop="none", early_stop=2)
    changes = {"steps": None, "epochs": 9, "schedule.learning_rate": 1e-12}
    config = with_changes(config, {**changes, "optimizer.weight_decay": 0.0})
    run_training(config, tmp_path / "run")
    assert "2 epoch(s) without a better result than that of epoch 1" in capsys.readouterr().out
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()[1:]
    assert len(rows) == 3
    (tmp_path / "run" / "model.keras").unlink()
    run_training(config, tmp_path / "run")
    assert (tmp_path / "run" / "history.csv").read_text().splitlines()[1:] == rows
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]
    assert (metrics["epochs"], metrics["best_epoch"], metrics["stopped_early"]) == (3, 1, True)


def test_a_run_with_the_same_classes_keeps_its_classifier(
    from_file: Callable[..., RunConfig], finished_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    still = {"steps": 1, "schedule.learning_rate": 1e-9, "optimizer.weight_decay": 0.0}
    run_training(with_changes(from_file(finished_run), still), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert record["changes"] == ["its classifier"]
    before, after = (
        read_weights(open_run(path).model)["logits"][0] for path in (finished_run, tmp_path / "run")
    )
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert open_run(tmp_path / "run").preprocess == open_run(finished_run).preprocess
    other = with_changes(from_file(finished_run), {"model.name": "resnet18"})
    with pytest.raises(ValueError, match=r"does not hold resnet18: its net has "):
        run_training(other, tmp_path / "other")


def test_a_file_has_its_own_input_channels(
    from_file: Callable[..., RunConfig], weights: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A grey net's spec states three channels, the default of its family; its kernels have one."""
    small = keras.models.load_model(weights).spec
    grey = keras_resnet.build(small, classes=7, input_shape=(8, 8, 1), seed=5)
    grey.preprocess = PreprocessSpec((8, 8), (80.0,), (82.0,))
    grey.save(tmp_path / "grey.keras")
    assert grey.spec.input_channels == 3
    still = {"steps": 1, "schedule.learning_rate": 1e-9, "optimizer.weight_decay": 0.0}
    config = with_changes(from_file(tmp_path / "grey.keras"), still)
    run_training(config, tmp_path / "run")
    stem = read_weights(open_run(tmp_path / "run").model)["stem_conv"][0]
    np.testing.assert_allclose(stem, read_weights(grey)["stem_conv"][0], atol=1e-6)
    record = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert record["changes"] == ["a new classifier of 10 classes"]
    assert load_config(tmp_path / "run" / "config.json").model.spec["input_channels"] == 1
    signals = keras_resnet.build(small, classes=7, input_shape=(16, 1), dims=1)
    signals.save(tmp_path / "signals.keras")
    with pytest.raises(ValueError, match=r"signals.keras' holds a net for signals \(dims=1\)"):
        run_training(from_file(tmp_path / "signals.keras"), tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.freeze": "4"}, r"`--freeze` must be 'all' or a stage of small, 0 .* to 2. .*: 4"),
        ({"model.freeze": "two"}, r"`model.freeze` must be 'all' or a number .*'two'"),
        ({"model.spec": {"norm_eps": 0.1}}, r"`model.spec.norm_eps` must be as in .*1e-05. .*0.1"),
        ({"model.name": "resnet18"}, r"does not hold resnet18: its net has depths=\(1, 1\)"),
        (
            {"model.weights": "torchvision/v2"},
            r"choose one with --model \(resnet50, ",
        ),
        ({"model.weights": "torchvison/v2"}, r"no weights of this name. Nearest: torchvision/v2"),
        ({"model.weights": "none.pth"}, r"none.pth"),
        ({"loss.teacher": "none"}, r"no file or folder 'none', and no weights of this name"),
        ({"augment.train_size": 16}, r"`augment.train_size` must be at most .* \(8\)"),
        ({"runtime.profile": "6:7"}, r"`--profile` must begin within the run of 6 steps"),
        (
            {"model.freeze": "all", "head_epochs": 0.01},
            r"`model.freeze=all` leaves none. Received: head_epochs=0.01",
        ),
        ({"model.weights": None}, r"`model.name` can be 'auto' only with `model.weights`"),
    ],
)
def test_refused_before_there_is_a_run(
    from_file: Callable[..., RunConfig],
    weights: pathlib.Path,
    tmp_path: pathlib.Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_training(with_changes(from_file(weights), changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_need_weights() -> None:
    with pytest.raises(ValueError, match=r"`model.freeze` needs `model.weights`.*freeze='1'"):
        with_changes(RunConfig(steps=1), {"model.freeze": "1"})
    with pytest.raises(ValueError, match=r"`head_epochs` needs `model.weights`.*head_epochs=2"):
        RunConfig(steps=1, head_epochs=2)


def test_settings_follow_the_number_of_images(
    weights: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The net, its preprocessing and what fits 1,077 images; options win; a run keeps its own."""
    given = {"model.weights": str(weights), "data.dataset": "digits"}
    config = finetuning("auto", None, given, tmp_path)
    assert (config.recipe, config.model.spec["widths"]) == ("finetune", [4, 8])
    assert (config.batch_size, config.epochs, config.optimizer.head_factor) == (32, 30, 10)
    assert config.schedule.learning_rate == pytest.approx(0.01)
    assert (config.data.mean, config.data.crop_fraction, config.data.image_size) == (MEAN, 0.875, 8)
    assert (config.augment.crop, config.augment.pad, config.augment.flip) == ("pad", 1, True)
    own = {**given, "batch_size": 16, "data.crop_fraction": 1.0, "steps": 5, "model.freeze": "all"}
    config = finetuning("auto", None, own, tmp_path)
    assert (config.batch_size, config.steps, config.epochs) == (16, 5, None)
    assert (config.data.crop_fraction, config.augment.crop) == (1.0, "none")
    (tmp_path / "config.json").write_text(
        with_changes(config, {"epochs": 4, "steps": None}).to_json()
    )
    again = finetuning("auto", None, given, tmp_path)
    assert (again.batch_size, again.epochs) == (16, 4)


def test_the_warm_up_keeps_its_share(weights: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A tenth of the run: `--steps 20` was refused, as its warm-up was that of 30 epochs."""
    given = {"model.weights": str(weights), "data.dataset": "digits"}
    short = finetuning("auto", None, {**given, "epochs": 2.0, "head_epochs": 0.5}, tmp_path)
    assert short.schedule.warmup_epochs == pytest.approx(0.15)
    steps = finetuning("auto", None, {**given, "steps": 20, "batch_size": 16}, tmp_path)
    assert steps.schedule.warmup_epochs * 1257 / 16 == pytest.approx(2.0)
    (tmp_path / "config.json").write_text(with_changes(steps, {"augment.mixup": 0.1}).to_json())
    again = finetuning("auto", None, {**given, "steps": 20, "batch_size": 16}, tmp_path)
    assert again == with_changes(steps, {"augment.mixup": 0.1})  # whatever the data has now


def test_weights_without_a_preprocessing(
    tiny: Callable[..., RunConfig], weights: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """They are not guessed: the run measures its own."""
    net = keras.models.load_model(weights)
    net.preprocess = None
    net.save(tmp_path / "net.keras")
    config = with_changes(
        tiny(),
        {"model.name": "auto", "model.spec": {}, "model.weights": str(tmp_path / "net.keras")},
    )
    pretrained = open_pretrained(config, tmp_path / "run")
    assert pretrained is not None
    assert pretrained.preprocess is None
    assert with_pretrained(config, pretrained).data.mean is None


def test_classifier_from_a_normal_distribution() -> None:
    """Goyal et al. 2017, section 5.1: a standard deviation of 0.01."""
    model = keras_resnet.build("cifar_resnet8", classes=100)
    draw_classifier(model, 0.01, seed=3)
    kernel, bias = read_weights(model)["logits"]
    assert (kernel.std(), kernel.mean()) == pytest.approx((0.01, 0.0), abs=5e-4)
    assert not bias.any()


def test_folds(
    from_file: Callable[..., RunConfig],
    weights: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each run is tested on another part of the images; a second call trains nothing."""
    config = with_changes(from_file(weights), {"model.freeze": "all", "augment.crop": "none"})
    result = cross_validate(config, 2, tmp_path)
    accuracies = result["accuracies"]
    assert result["mean"] == pytest.approx(sum(accuracies) / 2)
    assert result["spread"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert json.loads((tmp_path / "folds.json").read_text()) == result
    assert load_config(tmp_path / "fold2" / "config.json").data.fold == 1
    assert f"2 folds: accuracy {result['mean']:.4f} +- " in capsys.readouterr().out
    assert cross_validate(config, 2, tmp_path) == result
    assert "finished; nothing to train" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"`--folds` must be at least 2. Received: 1"):
        cross_validate(config, 1, tmp_path)
    with pytest.raises(ValueError, match="is a run of its own"):
        cross_validate(config, 2, tmp_path / "fold1")
