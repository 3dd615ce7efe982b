"""Exported files where runs are taken: `evaluate`, `predict` and `latency`, files of others too."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet.export import Description, ExportRequest, Limits, export
from keras_resnet.export.metadata import with_metadata
from keras_resnet_train.data.embedded import load_digits
from keras_resnet_train.evaluation.classes import read_labels
from keras_resnet_train.evaluation.exported import FileSettings, open_exported
from keras_resnet_train.evaluation.members import open_member
from keras_resnet_train.files import read_json, write_json
from keras_resnet_train.latency.turns import percentile

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
DIGITS, LABELS = load_digits().test.images, load_digits().test.labels
# A linear classifier of the digits' mean pixel values by rows, for files of other programs.
WEIGHTS = np.random.default_rng(3).normal(0, 1, (64, 10)).astype("float32")


def linear(values: np.ndarray) -> np.ndarray:
    """The logits of the files of others for normalised digits."""
    return values.reshape(len(values), -1).astype("float64") @ WEIGHTS


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def loss_of(shares: np.ndarray) -> float:
    return float(-np.log(shares[np.arange(len(LABELS)), LABELS]).mean())


@pytest.fixture(scope="module")
def files(finished_run: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The tiny run in all formats."""
    pytest.importorskip("onnxruntime")
    run = open_member(str(finished_run))
    folder = tmp_path_factory.mktemp("exported")
    request = ExportRequest(
        preprocess=run.preprocess,
        images=DIGITS[:100],
        labels=LABELS[:100],
        formats=("saved_model", "tflite", "onnx"),
        precisions=("float32", "int8"),
        calibration=load_digits().train.images[:100],
        class_names=[f"n{number}" for number in range(10)],
        limits=Limits(int8_accuracy_drop=0.2, int8_signal_to_noise=5.0, int8_agreement=0.5),
    )
    export(run.model, folder, request)
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Files of other programs: LiteRT, ONNX with channels first, SavedModels."""
    onnx = pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("foreign")

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="pixels")])
        def __call__(self, pixels: Any) -> Any:
            return {"scores": tf.nn.softmax(tf.reshape(pixels, (-1, 64)) @ WEIGHTS)}

    net = Net()
    tf.saved_model.save(net, str(folder / "served" / "3"), signatures=net.__call__)
    tf.saved_model.save(net, str(folder / "served" / "2"), signatures=net.__call__)

    @tf.function(input_signature=[tf.TensorSpec((2, 8, 8, 1), tf.float32, name="x")])
    def logits(x: Any) -> Any:
        return tf.reshape(x, (-1, 64)) @ WEIGHTS

    converter = tf.lite.TFLiteConverter.from_concrete_functions([logits.get_concrete_function()])
    (folder / "other.tflite").write_bytes(converter.convert())

    def save(name: str, shape: list[Any], outputs: int = 1, activation: str = "Softmax") -> None:
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        nodes = [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits_"]),
            helper.make_node(activation, ["logits_"], ["out0"]),
        ]
        nodes += [helper.make_node("Identity", ["out0"], [f"out{n}"]) for n in range(1, outputs)]
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("image", kind, shape)],
            [helper.make_tensor_value_info(f"out{n}", kind, [None, 10]) for n in range(outputs)],
            [onnx.numpy_helper.from_array(WEIGHTS, "weights")],
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / name)

    save("first.onnx", ["n", 1, 8, 8])
    save("open.onnx", ["n", 1, "h", "w"])
    save("sigmoid.onnx", ["n", 1, 8, 8], activation="Sigmoid")
    save("two.onnx", ["n", 1, 8, 8], outputs=2)
    save("wide.onnx", ["n", 7, "h", "w"])
    (folder / "broken.tflite").write_bytes(b"\0\0\0\0TFL3" + b"\0" * 100)
    return folder


@pytest.mark.parametrize("name", ["saved_model", "model.tflite", "model.onnx", "model_int8.tflite"])
def test_own_files_are_evaluated_as_the_run(
    name: str, files: pathlib.Path, finished_run: pathlib.Path
) -> None:
    """Preprocessing and names are the manifest's; the predictions are the run's."""
    member, run = open_exported(str(files / name)), open_member(str(finished_run))
    assert member.preprocess == run.preprocess
    assert member.class_names == tuple(f"n{number}" for number in range(10))
    assert (member.channels, member.classes, member.returns) == (1, 10, "logits")
    assert member.notes == ()
    ours, theirs = member.compiled()(DIGITS), run.compiled()(DIGITS)
    assert ours.shape == (360, 10)
    np.testing.assert_allclose(np.exp(ours).sum(axis=1), 1, rtol=1e-6)
    if "int8" in name:
        assert np.mean(ours.argmax(1) == theirs.argmax(1)) > 0.9
    else:
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_evaluate_takes_files(
    files: pathlib.Path, finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """A file, and an ensemble of a run and a file, with all that is measured of runs."""
    folder = shutil.copytree(files, tmp_path / "files")
    entries = read_json(folder / "manifest.json")
    for entry in entries["artifacts"].values():
        entry["class_names"] = list("0123456789")
    write_json(folder / "manifest.json", entries)
    before = read_json(finished_run / "metrics.json")["test"]
    output = tmp_path / "results"
    words = ("--dataset", "digits", "--output", output, "--error-cases", 3)
    ended = command("evaluate", folder / "model.tflite", *words)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0].startswith("model.tflite (LiteRT ")
    found = read_json(output / "evaluation.json")
    assert found["loss"] == pytest.approx(before["loss"], rel=1e-4)
    assert found["accuracy"] == pytest.approx(before["accuracy"], abs=1 / 360)
    assert found["calibration"]["error"] > 0
    assert len(found["error_cases"]) == 3
    words = ("--ensemble", folder / "saved_model", "--views", "ten-crop", "--json")
    ended = command("evaluate", finished_run, *words, "--output", tmp_path / "both")
    assert (ended.status, ended.err) == (0, "")
    alone = command("evaluate", finished_run, *words[2:], "--output", tmp_path / "one")
    both = json.loads(ended.out)
    assert both["loss"] == pytest.approx(json.loads(alone.out)["loss"], rel=1e-4)


def test_predict_takes_files(files: pathlib.Path, tmp_path: pathlib.Path, command: Command) -> None:
    Image.fromarray(DIGITS[0, ..., 0]).save(tmp_path / "0.png")
    rows = []
    for name in ("model.onnx", "model.tflite", "saved_model"):
        ended = command("predict", files / name, tmp_path / "0.png", "--json")
        assert (ended.status, ended.err) == (0, "")
        rows.append(json.loads(ended.out)["classes"])
    assert list(rows[0]) == list(rows[1]) == list(rows[2])
    assert all(name.startswith("n") for name in rows[0])
    ended = command(
        "predict", files / "model.onnx", tmp_path / "0.png", "--heatmap", tmp_path / "maps"
    )
    assert (ended.status, ended.out) == (1, "")
    assert "`--heatmap` needs a run or weights, whose gradients are known" in ended.err


def test_files_of_other_programs(foreign: pathlib.Path) -> None:
    """Any names, fixed batches, channels first; what is assumed is said."""
    member = open_exported(str(foreign / "other.tflite"))  # a fixed batch of 2
    expected = softmax(linear(DIGITS[:5] / 1.0))
    np.testing.assert_allclose(np.exp(member.compiled()(DIGITS[:5])), expected, atol=1e-6)
    assert member.model.input.shape == (2, 8, 8, 1)
    assert member.returns == "logits"
    said = "\n".join(member.notes)
    assert "other.tflite does not state the values that it takes: pixel values 0..255" in said
    assert "the outputs of other.tflite are taken for logits" in said

    member = open_exported(str(foreign / "first.onnx"), FileSettings(inputs="tf"))
    assert member.model.input.channels_first
    assert member.returns == "probabilities"
    expected = softmax(linear(DIGITS / 127.5 - 1.0))
    np.testing.assert_allclose(np.exp(member.compiled()(DIGITS)), expected, atol=1e-5)
    assert "as it ends in a softmax" in "\n".join(member.notes)

    settings = FileSettings(mean=(10.0,), std=(50.0,))
    member = open_exported(str(foreign / "served"), settings)
    assert member.returns == "probabilities"
    assert "the latest version of" in member.notes[0]
    assert member.notes[0].endswith("is measured: 3")
    expected = softmax(linear((DIGITS - 10.0) / 50.0))
    np.testing.assert_allclose(np.exp(member.compiled()(DIGITS)), expected, atol=1e-5)

    settings = FileSettings(inputs="tf", image_size=(8, 8))
    member = open_exported(str(foreign / "open.onnx"), settings)
    assert (member.preprocess.size, member.input_size) == ((8, 8), (None, None))
    member = open_exported(str(foreign / "sigmoid.onnx"), FileSettings(inputs="tf"))
    expected = softmax(linear(DIGITS / 127.5 - 1.0))
    found = np.exp(member.compiled()(DIGITS))
    sure = np.abs(linear(DIGITS / 127.5 - 1.0)).max(axis=1) < 10  # float32's sigmoid is not 1
    np.testing.assert_allclose(found[sure], expected[sure], rtol=1e-2, atol=1e-4)


def test_names_of_the_outputs(
    foreign: pathlib.Path, files: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """Of labels.txt beside a file, of metadata, of the user; classes are matched by name."""
    names = [*"123456789", "0"]
    file = shutil.copy(foreign / "other.tflite", tmp_path / "other.tflite")
    (tmp_path / "labels.txt").write_text("\n".join(names) + "\n")
    ended = command("evaluate", file, "--dataset", "digits", "--json")
    assert ended.status == 0
    assert f"the outputs of other.tflite have the names of {tmp_path / 'labels.txt'}" in ended.err
    expected = softmax(linear(DIGITS / 1.0))
    right = (expected.argmax(axis=1) + 1) % 10 == LABELS
    assert json.loads(ended.out)["accuracy"] == pytest.approx(right.mean())
    (tmp_path / "labels.txt").write_text("background\n" + "\n".join(names) + "\n")
    ended = command("evaluate", file, "--dataset", "digits", "--json")
    assert "the 11 names of" in ended.err
    assert "are not used, as other.tflite has 10 outputs" in ended.err
    assert "the classes of 'digits' are taken by their numbers" in ended.err

    moved = tmp_path / "moved"
    moved.mkdir()
    own = pathlib.Path(shutil.copy(files / "model.tflite", moved / "model.tflite"))
    member = open_exported(str(own))
    assert member.class_names == tuple(f"n{number}" for number in range(10))  # of the metadata
    assert member.model.input.mode == "raw"
    shutil.copy(files / "manifest.json", moved)
    own.write_bytes((files / "model_int8.tflite").read_bytes())
    assert (
        "it describes another model.tflite: the hashes differ" in open_exported(str(own)).notes[0]
    )


def test_metadata_of_another_program(foreign: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Normalisation and labels inside a LiteRT file, whose names state nothing."""
    file = tmp_path / "other.tflite"
    content = with_metadata(
        (foreign / "other.tflite").read_bytes(),
        Description(name="other", labels=[f"class {number}" for number in range(10)]),
        channels=1,
        preprocess=PreprocessSpec((8, 8), (10.0,), (50.0,)),
    )
    file.write_bytes(content)
    member = open_exported(str(file))
    assert (member.preprocess.mean, member.preprocess.std) == ((10.0,), (50.0,))
    assert member.class_names is not None
    assert member.class_names[9] == "class 9"
    assert not any("does not state the values" in note for note in member.notes)
    expected = softmax(linear((DIGITS[:9] - 10.0) / 50.0))
    np.testing.assert_allclose(np.exp(member.compiled()(DIGITS[:9])), expected, atol=1e-5)
    # The user's word goes before the metadata's.
    member = open_exported(str(file), FileSettings(inputs="unit"))
    assert (member.preprocess.mean, member.preprocess.std) == ((0.0,), (255.0,))


def test_errors_are_one_line(
    foreign: pathlib.Path, files: pathlib.Path, finished_run: pathlib.Path, command: Command
) -> None:
    digits = ("--dataset", "digits")
    for words, message in (
        (("none.tflite", *digits), "No exported file at 'none.tflite'"),
        ((foreign / "first.onnx",), "is not a run, so give the data: --dataset"),
        ((foreign / "broken.tflite", *digits), "is not a valid LiteRT file"),
        ((foreign / "wide.onnx", *digits), "with 1, 3 or 4 channels. Received: 'image', (open, 7"),
        ((foreign / "two.onnx", *digits), "A classifier of images has one output. Received: "),
        ((foreign / "open.onnx", *digits), "takes images of any size: choose one with --image-si"),
        ((foreign / "first.onnx", *digits, "--image-size", 9), "that "),
        ((foreign / "first.onnx", *digits, "--mean", 1), "`--mean` and `--std` need each other"),
        (
            (foreign / "first.onnx", *digits, "--inputs", "torch"),
            "one per channel (1). Received",
        ),
        ((files / "model.onnx", *digits, "--inputs", "tf"), "states what it takes (images_uint8)"),
        ((files / "model.onnx", *digits, "--views", "multi-scale"), "takes 8 x 8"),
        ((files / "model.onnx", *digits, "--outputs", "probabilities"), "must be logits, which"),
        ((finished_run, "--inputs", "tf"), "`--inputs` applies to exported files"),
        ((files / "model.onnx", *digits, "--net", "resnet50"), "leave out --model"),
    ):
        if message == "takes 8 x 8":
            words = (foreign / "first.onnx", *words[1:])
        ended = command("evaluate", *words)
        assert (ended.status, ended.out) == (1, ""), words
        (line,) = [each for each in ended.err.splitlines() if not each.startswith("Note: ")]
        assert message in line


@pytest.mark.multi_process
def test_latency_in_turns(
    files: pathlib.Path, foreign: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    output = tmp_path / "out"
    names = [files / "model.tflite", files / "model.onnx", foreign / "other.tflite"]
    words = ("--threads", 1, "--batch", 4, "--seconds", 0.02, "--rounds", 2, "--warm-up", 0)
    ended = command("latency", *names, *words, "--output", output, "--json")
    assert (ended.status, ended.err) == (0, "")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["file"] for row in rows] == list(map(str, names))
    # The exported file has a fixed batch of 1, the other program's one of 2.
    assert [row["calls_per_batch"] for row in rows] == [4, 1, 2]
    assert [row["runtime"].split()[0] for row in rows] == ["LiteRT", "ONNX", "LiteRT"]
    for row in rows:
        assert row["runs"] >= 2
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p95_ms"]
        assert row["images_per_second"] == pytest.approx(4000 / row["median_ms"])
        assert row["bytes"] == pathlib.Path(row["file"]).stat().st_size
        # A process with TensorFlow would have more than 300 MB.
        assert 0 < row["memory_bytes"] < row["peak_bytes"] < 200e6
    results = read_json(output / "results.json")
    assert any("has a fixed batch of 2: it runs 2 times" in word for word in results["words"])
    assert (output / "latency.svg").read_text().count("<svg") == 1
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.95) == 4.0
    assert percentile(range(1, 101), 0.95) == 95

    for extra, message in (
        ((foreign / "other.tflite", "--batch", 3), "has a fixed batch of 2: --batch must be a mu"),
        ((foreign / "open.onnx",), "takes images of any size: choose one with --image-size"),
        ((foreign / "broken.tflite",), "broken.tflite' is not a valid LiteRT file: "),
        ((foreign,), "is neither a run nor a SavedModel directory"),
        ((names[0], names[0]), "Each file must be named once. Received twice: "),
        (("none.onnx",), "No exported file at 'none.onnx'"),
    ):
        ended = command("latency", *extra)
        assert (ended.status, ended.out) == (1, "")
        assert message in ended.err
        assert len(ended.err.splitlines()) == 1


@pytest.mark.multi_process
@pytest.mark.slow
def test_latency_of_a_run_and_a_saved_model(
    files: pathlib.Path, finished_run: pathlib.Path, command: Command
) -> None:
    words = ("--threads", 1, "--seconds", 0.02, "--rounds", 1, "--warm-up", 0, "--json")
    ended = command("latency", finished_run, files / "saved_model", *words)
    assert (ended.status, ended.err) == (0, "")
    run, saved = map(json.loads, ended.out.splitlines())
    assert (run["format"], saved["format"]) == ("keras", "saved_model")
    assert run["runtime"].startswith("Keras ")
    assert saved["runtime"] == f"TensorFlow {tf.__version__}"
    assert run["bytes"] == (finished_run / "model.keras").stat().st_size


def test_commands_that_need_the_net_say_so(files: pathlib.Path, command: Command) -> None:
    for words in (
        ("export", files / "model.onnx", "--output", files / "x", "--dataset", "digits"),
        ("study", "lesion", files / "model.onnx", "--dataset", "digits", "--output", files / "x"),
    ):
        ended = command(*words)
        assert ended.status == 1
        assert "is an exported file, whose graph cannot be changed" in ended.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["net.tflite", "net.onnx", "net.keras", "net.pth", "labels.txt"])
def test_a_pipe_in_the_place_of_a_file(name: str, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="regular file"):
        if name == "labels.txt":
            read_labels(tmp_path / name, 3)
        else:
            open_member(str(tmp_path / name), file=FileSettings())
