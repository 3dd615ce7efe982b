"""The export pipeline on a trained net: verification, atomic publication, and failures."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import types

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import (
    ExportError,
    ExportRequest,
    Limits,
    Reference,
    export,
    pipeline,
    verify,
)
from keras_resnet.export.artifacts import size_and_sha256
from keras_resnet.export.metadata import read_labels
from keras_resnet.export.runtimes import LiteRTRuntime
from keras_resnet.reparam import deploy

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec(
    "digits",
    (1, 1),
    (8, 16),
    stem="cifar",
    shortcut="A",
    input_size=8,
    input_channels=1,
    classes=10,
)
PREPROCESS = PreprocessSpec((8, 8), mean=(75.0,), std=(90.0,))
NAMES = [f"digit {number}" for number in range(10)]
LITERT = ["model.tflite", "model_float16.tflite", "model_int8.tflite"]
EVERYTHING = sorted(["model.onnx", "model_int8.onnx", *LITERT, "saved_model"])


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images * 15).astype(np.uint8)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], data.target[order]


@pytest.fixture(scope="module")
def model(digits):
    keras.utils.set_random_seed(0)
    images, labels = digits
    model = keras_resnet.build(SPEC, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    model.fit(PREPROCESS.normalize(images[:1200]), labels[:1200], 32, epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def request_(digits):
    images, labels = digits
    return ExportRequest(
        preprocess=PREPROCESS,
        images=images[1200:],
        labels=labels[1200:],
        precisions=("float32", "float16", "int8"),
        calibration=images[:200],
        class_names=NAMES,
    )


@dataclasses.dataclass
class Exported:
    """All artifacts of the net; read-only. `options` are those of the last export with `ready`."""

    directory: pathlib.Path
    verifications: list
    progress: list
    options: dict = dataclasses.field(default_factory=dict)


@pytest.fixture(scope="module")
def exported(model, request_, tmp_path_factory):
    directory, progress = tmp_path_factory.mktemp("all") / "out", []
    request = changed(request_, formats=("saved_model", "tflite", "onnx"), progress=progress.append)
    return Exported(directory, export(model, directory, request), progress)


@pytest.fixture(scope="module")
def reference(model, request_):
    return Reference.of(model, request_.images[:10], request_.labels[:10], PREPROCESS)


@pytest.fixture
def copied(exported, monkeypatch):
    """Copies the finished artifacts of `exported` in place of each conversion."""
    exported.options.clear()

    def copy(model, path, **options):
        exported.options[path.name] = options
        source = exported.directory / path.name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)

    for name in ("export_saved_model", "export_tflite", "export_onnx"):
        monkeypatch.setattr(pipeline, name, copy)
    return exported


@pytest.fixture
def ready(copied, reference, monkeypatch):
    """Takes the measurements of `exported` too, where a test is about what becomes of the files."""
    measured = {v.file: v for v in copied.verifications}
    known = types.SimpleNamespace(of=lambda *_, **__: dataclasses.replace(reference))
    monkeypatch.setattr(pipeline, "Reference", known)
    monkeypatch.setattr(pipeline, "verify", lambda path, *_, **__: measured[path.name])
    return copied


@pytest.fixture
def earlier(ready, tmp_path):
    """A directory of two earlier artifacts and a SavedModel, with their manifest."""
    for name in ("model.tflite", "model_float16.tflite", "labels.txt"):
        shutil.copy(ready.directory / name, tmp_path)
    shutil.copytree(ready.directory / "saved_model", tmp_path / "saved_model")
    shutil.copy(ready.directory / "manifest.json", tmp_path)
    return tmp_path


def changed(request, **values):
    return dataclasses.replace(request, **values)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def manifest(directory):
    return json.loads((directory / "manifest.json").read_text())["artifacts"]


def spoiled(model):
    """A wrong fold, whose shapes are right."""
    folded = deploy(model)
    layer = folded.get_layer("stage1_unit1_conv2")
    kernel, bias = layer.get_weights()
    kernel[..., 0] *= 1.5
    layer.set_weights([kernel, bias])
    return folded


def test_every_artifact_is_verified_and_described(exported):
    directory, verifications = exported.directory, exported.verifications
    assert names(directory) == sorted([*EVERYTHING, "labels.txt", "manifest.json"])
    assert (directory / "labels.txt").read_text().splitlines() == NAMES
    assert [v.file for v in verifications] == ["saved_model", *LITERT, *EVERYTHING[0:4:3]]
    precisions = ["float32", "float32", "float16", "int8", "float32", "int8"]
    assert [v.precision for v in verifications] == precisions
    assert [v.format for v in verifications] == ["saved_model", *["tflite"] * 3, *["onnx"] * 2]
    assert exported.progress[-2:] == ["Exporting model_int8.onnx", "Verifying model_int8.onnx"]
    entries = manifest(directory)
    assert sorted(entries) == EVERYTHING
    for v in verifications:
        assert v.images == 597
        assert v.keras_accuracy > 0.9
        assert v.latency_ms > 0
        entry = entries[v.file]
        assert entry["sha256"] == v.sha256
        assert entry["bytes"] == v.bytes
        assert entry["class_names"] == NAMES
        assert PreprocessSpec.from_dict(entry["preprocess"]) == PREPROCESS
        assert entry["verification"]["agreement"] == v.agreement
        assert entry["input"]["mode"] == "raw"
        assert entry["input"]["shape"] == [1 if v.format == "tflite" else None, 8, 8, 1]
    assert len({entry["weights_sha256"] for entry in entries.values()}) == 1
    for name in LITERT:
        assert read_labels((directory / name).read_bytes()) == NAMES
    import onnx

    props = {p.key: p.value for p in onnx.load(directory / "model.onnx").metadata_props}
    assert props["labels"].splitlines() == NAMES
    assert props["name"] == SPEC.name
    content = (directory / "model.tflite").read_bytes()
    assert hashlib.sha256(content).hexdigest() == entries["model.tflite"]["sha256"]
    saved, float32, float16, int8, onnx_file, int8_onnx = verifications
    for exact in (saved, float32, onnx_file):
        assert exact.agreement == 1.0
        assert 0 < exact.max_difference < 1e-4
        assert exact.accuracy == exact.keras_accuracy
    assert saved.operators["Conv2D"] == float32.operators["CONV_2D"] == 5
    assert onnx_file.operators["Conv"] == 5
    assert float32.max_difference < float16.max_difference < int8.max_difference
    assert float32.signal_to_noise > float16.signal_to_noise > int8.signal_to_noise > 18
    assert float16.conversion_difference < 1e-5 < float16.relative_difference
    for each in (int8, int8_onnx):
        assert each.signal_to_noise > 25
        assert each.accuracy > each.keras_accuracy - 0.02
    assert int8.bytes < float16.bytes < float32.bytes
    assert entries["model_int8.tflite"]["input"]["scale"] == 1.0
    assert entries["model.onnx"]["outputs"] == ["logits"]
    assert entries["saved_model"]["outputs"] == ["logits", "probabilities"]
    assert "tf2onnx" in entries["model.onnx"]["versions"]
    assert "tf2onnx" not in entries["model.tflite"]["versions"]


def test_options_reach_each_format(ready, model, request_, tmp_path):
    request = changed(
        request_,
        inputs="normalized",
        formats=("saved_model", "tflite", "onnx"),
        precisions=["int8"],
    )
    export(model, tmp_path, request)
    said = ready.options["model_int8.onnx"].pop("description")
    assert (said.name, said.labels) == (model.name, NAMES)
    assert said.weights_sha256 == manifest(tmp_path)["model_int8.onnx"]["weights_sha256"]
    assert said.version == f"weights {manifest(tmp_path)['model_int8.onnx']['weights_sha256'][:12]}"
    assert ready.options["model_int8.tflite"].pop("description").version == said.version
    common = {
        "preprocess": PREPROCESS,
        "inputs": "normalized",
        "batch": "open",
        "input_type": "float32",
    }
    assert ready.options == {
        "saved_model": {
            **common,
            "class_names": NAMES,
            "for_converters": False,
            "several_labels": False,
        },
        "model_int8.tflite": {
            **common,
            "batch": 1,
            "input_type": "int8",
            "output_type": "int8",
            "activation": "none",
            "precision": "int8",
            "calibration": request.calibration,
            "signal_to_noise": 33.0,  # of mixed: 1 dB above its limit
            "report": None,
        },
        "model_int8.onnx": {
            **common,
            "activation": "none",
            "precision": "int8",
            "calibration": request.calibration,
        },
    }


def test_directory_hash_follows_the_content(exported, tmp_path):
    path = shutil.copytree(exported.directory / "saved_model", tmp_path / "saved_model")
    size, digest = size_and_sha256(path)
    assert manifest(exported.directory)["saved_model"]["sha256"] == digest
    variables = next((path / "variables").glob("*.data*"))
    content = bytearray(variables.read_bytes())
    content[100] ^= 1
    variables.write_bytes(content)
    assert size_and_sha256(path)[0] == size
    assert size_and_sha256(path)[1] != digest


def test_a_wrong_fold_fails_and_leaves_nothing(model, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "deploy", spoiled)
    with pytest.raises(ExportError) as caught:
        export(
            model, tmp_path, changed(request_, formats=["tflite", "onnx"], precisions=["float32"])
        )
    error = caught.value
    assert [each.file for each in error.rejected] == ["model.tflite", "model.onnx"]
    for each, kind in zip(error.rejected, ("tflite", "onnx"), strict=True):
        expected = rf"^{each.file} \({kind}, float32\) differs from the Keras model on 597 images: "
        assert re.match(expected + ".*logit difference", each.describe({}))
        assert each.describe({}) in str(error)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("limits", "file"),
    [
        (Limits(float32_difference=1e-12), "saved_model"),
        (Limits(float16_difference=1e-6), "model_float16.tflite"),
    ],
    ids=["float32", "float16"],
)
def test_each_file_stands_for_itself(ready, model, request_, tmp_path, limits, file):
    with pytest.raises(ExportError, match=rf"^{file} .*logit difference .*, limit") as caught:
        export(model, tmp_path, changed(request_, limits=limits))
    error = caught.value
    first = error.rejected[0]
    assert first.file == file
    failure = first.failures[-1]
    assert failure.value > failure.limit > 0
    (field,) = {each.field for each in first.failures}
    assert f"(Limits.{field})" in str(error)
    assert f"(--{field})" in error.describe({field: f"--{field}"})
    kept = [v.file for v in error.verifications]
    assert str(error).endswith(f". Written: {', '.join(kept)}")
    assert sorted(manifest(tmp_path)) == sorted(kept)
    assert names(tmp_path) == sorted([*kept, "labels.txt", "manifest.json"])
    bad = {each.file for each in error.rejected}
    assert sorted([*kept, *bad]) == sorted([*LITERT, "saved_model"])


def test_a_converter_that_fails_spoils_its_file_only(ready, model, request_, tmp_path, monkeypatch):
    copy = pipeline.export_tflite

    def broken(model, path, **options):
        if options["precision"] == "float16":
            raise RuntimeError("no such operator")
        copy(model, path, **options)

    monkeypatch.setattr(pipeline, "export_tflite", broken)
    (tmp_path / "model_float16.tflite").write_bytes(b"of another model")
    with pytest.raises(ExportError, match=r"^model_float16.tflite could not be converted: no such"):
        export(model, tmp_path, request_)
    assert "model_float16.tflite.stale" in names(tmp_path)
    assert sorted(manifest(tmp_path)) == ["model.tflite", "model_int8.tflite", "saved_model"]


def test_int8_that_predicts_one_class_fails(copied, model, request_, tmp_path, monkeypatch):
    def constant(self, batch):
        return np.repeat(np.eye(10, dtype="float32")[3:4], len(batch), axis=0)

    monkeypatch.setattr(LiteRTRuntime, "run", constant)
    only = changed(request_, formats=["tflite"], precisions=["int8"])
    with pytest.raises(ExportError, match=r"^model_int8.tflite.*accuracy drop 0\.8.*limit 0.02"):
        export(model, tmp_path, only)
    assert names(tmp_path) == []


def test_a_failure_withdraws_earlier_artifacts_of_the_requested_names(earlier, model, request_):
    first = (earlier / "model.tflite").read_bytes()
    labels = (earlier / "labels.txt").read_bytes()
    again = changed(request_, precisions=("float32",))
    with pytest.raises(ExportError):
        export(model, earlier, changed(again, limits=Limits(float32_difference=0.0)))
    assert names(earlier) == [
        "labels.txt",  # the names of the classes do not depend on the model's quality
        "manifest.json",
        "model.tflite.stale",
        "model_float16.tflite",
        "saved_model.stale",
    ]
    assert list(manifest(earlier)) == ["model_float16.tflite"]
    assert (earlier / "model.tflite.stale").read_bytes() == first
    assert (earlier / "labels.txt").read_bytes() == labels
    export(model, earlier, again)
    assert names(earlier) == [
        "labels.txt",
        "manifest.json",
        "model.tflite",
        "model_float16.tflite",
        "saved_model",
    ]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_other_errors_leave_earlier_artifacts_alone(earlier, model, request_, monkeypatch, error):
    before = {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
    request_ = changed(request_, formats=["tflite"])

    def broken(model, path, **options):
        path.write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(pipeline, "export_tflite", broken)
    with pytest.raises(type(error)):
        export(model, earlier, request_)
    assert before == {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["saved_model", "manifest.json"])
def test_errors_while_files_are_moved(earlier, model, request_, monkeypatch, name):
    """A directory is moved back, and a temporary file removed."""
    before = {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
    replace = os.replace

    def broken(source, target):
        if pathlib.Path(target) == earlier / name and ".old" not in str(source):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        export(model, earlier, changed(request_, formats=["saved_model"], precisions=["float32"]))
    assert before == {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}


def test_a_second_export_replaces_and_merges(earlier, model, request_, monkeypatch):
    monkeypatch.undo()  # real conversions
    first = manifest(earlier)
    other = keras.models.clone_model(model)
    other.set_weights([value * 1.01 for value in model.get_weights()])
    export(other, earlier, changed(request_, precisions=("float32",), class_names=None))
    second = manifest(earlier)
    assert second["model_float16.tflite"] == first["model_float16.tflite"]
    for name in ("model.tflite", "saved_model"):
        assert second[name]["sha256"] != first[name]["sha256"]
        assert second[name]["weights_sha256"] != first["model_float16.tflite"]["weights_sha256"]
        assert second[name]["class_names"] is None
    # The class names belonged to the earlier model.
    assert names(earlier) == [
        "labels.txt.stale",
        "manifest.json",
        "model.tflite",
        "model_float16.tflite",
        "saved_model",
    ]


def test_missing_artifacts_leave_the_manifest(earlier, model, request_):
    (earlier / "model_float16.tflite").unlink()
    export(model, earlier, changed(request_, formats=["tflite"], precisions=["float32"]))
    assert list(manifest(earlier)) == ["model.tflite", "saved_model"]


def test_not_a_number_fails_on_either_side(exported, reference, monkeypatch):
    path = exported.directory / "model.tflite"
    logits = reference.logits.copy()
    logits[3, 4] = np.nan
    verification = verify(path, dataclasses.replace(reference, logits=logits))
    for precision in ("float32", "float16", "int8"):
        failures = Limits().failures(dataclasses.replace(verification, precision=precision))
        assert failures[0].check == "non-finite logits"
        assert failures[0].value == 1
    assert verification.to_dict()["max_difference"] is None
    json.dumps(verification.to_dict(), allow_nan=False)

    run = LiteRTRuntime.run
    monkeypatch.setattr(LiteRTRuntime, "run", lambda self, batch: run(self, batch) * np.nan)
    failures = Limits().failures(verify(path, reference))
    assert failures[0].check == "non-finite logits"
    assert failures[0].value == 100


def test_artifacts_of_other_shapes_are_refused(exported, reference):
    path = exported.directory / "model.tflite"
    wide = np.zeros((2, 8, 9, 1), np.uint8)
    with pytest.raises(ValueError, match=r"model.tflite takes images of shape \(8, 8, 1\)"):
        verify(path, dataclasses.replace(reference, images=wide))
    few = reference.logits[:, :3]
    with pytest.raises(ValueError, match=r"returns logits \(10, 10\), the Keras model \(10, 3\)"):
        verify(path, dataclasses.replace(reference, logits=few))


def test_limits_by_precision(exported):
    (float32,) = [v for v in exported.verifications if v.file == "model.tflite"]
    good = dataclasses.replace(
        float32, relative_difference=1e-6, keras_accuracy=0.9, accuracy=0.9, lost=0, gained=0
    )

    def failed(**values):
        verification = dataclasses.replace(good, **values)
        return [failure.field or failure.check for failure in Limits().failures(verification)]

    assert failed() == []
    assert failed(relative_difference=1.1e-4) == ["float32_difference"]
    assert failed(relative_difference=np.nan) == ["float32_difference"]
    assert failed(agreement=0.9, changed_margins=(1.9e-4,)) == []
    assert failed(agreement=0.9, changed_margins=(2.1e-4,)) == ["float32_difference"]
    half = {"precision": "float16", "conversion_difference": 1e-6}
    assert failed(**half, relative_difference=0.049, changed_margins=(0.09,)) == []
    assert failed(**half, relative_difference=0.051) == ["float16_difference"]
    assert failed(**{**half, "conversion_difference": 1.1e-4}) == ["float32_difference"]
    assert failed(operators={"CONV_2D": 1, "FlexRelu": 2}) == ["custom operators"]
    assert failed(format="onnx", operators={"Conv": 1}) == []
    assert failed(format="onnx", operators={"com.else::Conv": 1}) == ["custom operators"]
    scaled = dataclasses.replace(good.input, scale=1.0, zero_point=0)
    int8 = {
        "precision": "int8",
        "input": scaled,
        "output_type": "int8",
        "relative_difference": 9.0,
    }
    assert failed(**int8) == []
    assert failed(**int8, signal_to_noise=18.0) == []
    assert failed(**int8, signal_to_noise=17.9) == ["int8_signal_to_noise"]
    # The noise permits 3 * 10 ** (-18 / 20) = 0.38 of the spread, so margins above 0.76 count.
    assert failed(**int8, changed_margins=(0.75,) * 300) == []
    assert failed(**int8, changed_margins=(0.77,) * 8) == []  # 1.3 % of 597 may be chance
    assert failed(**int8, changed_margins=(0.77,) * 12) == ["int8_agreement"]
    assert failed(**int8, accuracy=0.88, lost=12) == []
    assert failed(**int8, accuracy=0.879, lost=13) == ["int8_accuracy_drop"]
    assert failed(**int8, accuracy=0.8, lost=3, gained=2) == []  # of few images
    assert failed(**int8, accuracy=None) == []
    assert failed(**int8, operators={"DEQUANTIZE": 1}) == ["DEQUANTIZE operators"]
    narrow = dataclasses.replace(scaled, scale=0.9)
    assert failed(**{**int8, "input": narrow}) == ["input scale"]
    assert failed(**{**int8, "input": dataclasses.replace(narrow, mode="normalized")}) == []
    with pytest.raises(ValueError, match=r"`int8_agreement` must lie in \[0, 1"):
        Limits(int8_agreement=1.5)


BAD = {
    "int8 without calibration": (
        {"calibration": None},
        ValueError,
        "int8, int16x8, mixed need `calibration`",
    ),
    "format": ({"formats": ["pb"]}, ValueError, "`formats` must be one of.*'onnx'.*'pb'"),
    "string": ({"formats": "tflite"}, ValueError, "`formats` must be a non-empty list"),
    "none": ({"precisions": []}, ValueError, "`precisions` must be a non-empty list"),
    "float onnx": (
        {"formats": ["onnx"]},
        ValueError,
        "`precisions` 'float16' applies to the format 'tfl",
    ),
    "precision": ({"precisions": ["int4"]}, ValueError, "`precisions` must be one of.*'int4'"),
    "inputs": ({"inputs": "jpeg"}, ValueError, "`inputs` must be one of.*'jpeg'"),
    "few labels": ({"labels": np.zeros(3, int)}, ValueError, r"`labels` must have shape \(597,\)"),
    "label 10": ({"labels": np.full(597, 10)}, ValueError, "`labels` must lie in 0..9"),
    "float labels": ({"labels": np.zeros(597)}, TypeError, "`labels` must be.*integers"),
    "float images": ({"images": np.zeros((597, 8, 8, 1))}, TypeError, "`images` must be.*float64"),
    "no images": ({"images": np.zeros((0, 8, 8, 1), np.uint8)}, ValueError, "at least one image"),
    "image size": ({"images": np.zeros((597, 9, 8, 1), np.uint8)}, ValueError, "`images` must"),
    "names": ({"class_names": ["a"]}, ValueError, r"one name per class \(10\)"),
    "name": ({"class_names": list(range(10))}, TypeError, "`class_names` must be strings"),
    "empty name": ({"class_names": [*NAMES[:9], " "]}, ValueError, "must have one line each"),
}


@pytest.mark.parametrize("case", BAD)
def test_requests_are_checked_before_anything_is_written(model, request_, tmp_path, case):
    values, kind, match = BAD[case]
    with pytest.raises(kind, match=match):
        export(model, tmp_path / "out", changed(request_, **values))
    assert names(tmp_path) == []


def test_the_directory_must_not_be_a_file(model, request_, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`directory` must be a directory. Received: the file"):
        export(model, tmp_path / "file", request_)


def test_what_is_decided_is_said(ready, model, request_, tmp_path):
    said = []
    open_size = keras_resnet.build(SPEC, input_shape=(None, None, 1))
    open_size.set_weights(model.get_weights())
    few = request_.calibration[:99]
    export(open_size, tmp_path, changed(request_, calibration=few, progress=said.append))
    assert said[:3] == [
        "The model leaves its input size open: the files take 8x8",
        "saved_model: float32; float16 and int8 apply to tflite",
        "Warning: int8 is calibrated on 99 images; below 100 its ranges are uncertain",
    ]
    said.clear()
    export(model, tmp_path, changed(request_, formats=["tflite"], progress=said.append))
    assert said[0] == f"Keras: running {model.name} on 597 images"


def test_labels_are_not_needed(copied, model, request_, tmp_path):
    said = export(model, tmp_path, changed(request_, formats=["tflite"], labels=None))
    assert [v.accuracy for v in said] == [None] * 3
    assert said[2].agreement > 0.9


def test_litert_is_needed(model, request_, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="verified by `ai-edge-litert`, which is missing"):
        export(model, tmp_path, changed(request_, formats=["tflite"]))


def test_a_foreign_manifest_is_refused(model, request_, tmp_path):
    (tmp_path / "manifest.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is not a manifest of exports"):
        export(model, tmp_path, request_)
    assert names(tmp_path) == ["manifest.json"]


def test_other_backends_are_refused(model, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow.*'jax'"):
        export(model, tmp_path / "out", request_)
    assert names(tmp_path) == []
