"""The export pipeline on a trained net: proof, atomic publication, and what failures leave."""

import dataclasses
import hashlib
import json

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
    export_tflite,
    pipeline,
    verify,
)
from keras_resnet.reparam import deploy

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec(
    "digits",
    (1, 1),
    (16, 32),
    stem="cifar",
    shortcut="A",
    input_size=8,
    input_channels=1,
    classes=10,
)
PREPROCESS = PreprocessSpec((8, 8), mean=(75.0,), std=(90.0,))
NAMES = [f"digit {number}" for number in range(10)]
EVERYTHING = ["model.tflite", "model_float16.tflite", "model_int8.tflite", "saved_model"]


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
    model.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(PREPROCESS.normalize(images[:1200]), labels[:1200], 32, epochs=4, verbose=0)
    return model


@pytest.fixture
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


def changed(request, **values):
    return dataclasses.replace(request, **values)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def manifest(directory):
    return json.loads((directory / "manifest.json").read_text())["artifacts"]


def spoiled(model):
    """A fold that goes wrong, unnoticeably from its shapes."""
    folded = deploy(model)
    layer = folded.get_layer("stage1_unit1_conv2")
    kernel, bias = layer.get_weights()
    kernel[..., 0] *= 1.5
    layer.set_weights([kernel, bias])
    return folded


@pytest.mark.parametrize("inputs", ["raw", "normalized"])
def test_every_artefact_is_proved_and_described(model, request_, tmp_path, inputs):
    said = []
    found = export(model, tmp_path / "out", changed(request_, inputs=inputs, progress=said.append))
    directory = tmp_path / "out"
    assert names(directory) == sorted([*EVERYTHING, "labels.txt", "manifest.json"])
    assert (directory / "labels.txt").read_text().splitlines() == NAMES
    assert [v.file for v in found] == ["saved_model", *EVERYTHING[:3]]
    assert [v.precision for v in found] == ["float32", "float32", "float16", "int8"]
    assert said[-2:] == ["Exporting model_int8.tflite", "Verifying model_int8.tflite"]
    entries = manifest(directory)
    assert sorted(entries) == EVERYTHING
    for v in found:
        assert v.images == 597
        assert v.keras_accuracy > 0.9
        assert v.latency_ms > 0
        entry = entries[v.file]
        assert entry["sha256"] == v.sha256
        assert entry["bytes"] == v.bytes
        assert entry["class_names"] == NAMES
        assert PreprocessSpec.from_dict(entry["preprocess"]) == PREPROCESS
        assert entry["verification"]["agreement"] == v.agreement
        assert entry["input"]["mode"] == inputs
        assert entry["input"]["shape"] == [None, 8, 8, 1]
    assert len({entry["weights_sha256"] for entry in entries.values()}) == 1
    content = (directory / "model.tflite").read_bytes()
    assert hashlib.sha256(content).hexdigest() == entries["model.tflite"]["sha256"]
    saved, float32, float16, int8 = found
    for exact in (saved, float32):
        assert exact.agreement == 1.0
        assert 0 < exact.max_difference < 1e-4
        assert exact.accuracy == exact.keras_accuracy
    assert saved.operators["Conv2D"] == float32.operators["CONV_2D"] == 5
    assert float32.max_difference < float16.max_difference < int8.max_difference
    assert int8.accuracy > int8.keras_accuracy - 0.02
    assert int8.bytes < float16.bytes < float32.bytes
    if inputs == "raw":
        assert entries["model_int8.tflite"]["input"]["scale"] == 1.0


def test_onnx_is_proved_as_the_others_are(model, request_, tmp_path):
    request = changed(request_, formats=("onnx", "tflite"), precisions=("float32",))
    tflite, onnx = export(model, tmp_path, request)
    assert (onnx.file, onnx.format, onnx.precision) == ("model.onnx", "onnx", "float32")
    assert onnx.agreement == 1.0
    assert 0 < onnx.max_difference < 1e-4
    assert onnx.operators["Conv"] == tflite.operators["CONV_2D"] == 5
    entries = manifest(tmp_path)
    assert sorted(entries) == ["model.onnx", "model.tflite"]
    assert entries["model.onnx"]["input"]["shape"] == [None, 8, 8, 1]
    assert entries["model.onnx"]["outputs"] == ["logits"]
    assert "tf2onnx" in entries["model.onnx"]["versions"]


def test_a_wrong_onnx_file_fails_and_leaves_nothing(model, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "deploy", spoiled)
    with pytest.raises(ExportError, match=r"model.onnx \(onnx, float32\) differs from the Keras"):
        export(model, tmp_path, changed(request_, formats=("onnx",)))
    assert names(tmp_path) == []


def test_directory_hash_follows_the_content(model, request_, tmp_path):
    export(model, tmp_path, changed(request_, formats=["saved_model"]))
    from keras_resnet.export.artifacts import size_and_sha256

    size, digest = size_and_sha256(tmp_path / "saved_model")
    assert manifest(tmp_path)["saved_model"]["sha256"] == digest
    variables = next((tmp_path / "saved_model/variables").glob("*.data*"))
    content = bytearray(variables.read_bytes())
    content[100] ^= 1
    variables.write_bytes(content)
    assert size_and_sha256(tmp_path / "saved_model") != (size, digest)
    assert size_and_sha256(tmp_path / "saved_model")[0] == size


def test_a_wrong_fold_fails_and_leaves_nothing(model, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "deploy", spoiled)
    with pytest.raises(ExportError, match=r"model.tflite \(tflite, float32\).*logit difference"):
        export(model, tmp_path, changed(request_, formats=["tflite"]))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("limits", "file"),
    [
        (Limits(float32_difference=1e-12), "saved_model"),
        (Limits(float16_difference=1e-12), "model_float16.tflite"),
    ],
    ids=["float32", "float16"],
)
def test_too_tight_a_limit_fails_all(model, request_, tmp_path, limits, file):
    with pytest.raises(ExportError, match=rf"^{file} .*logit difference \S+, limit") as caught:
        export(model, tmp_path, changed(request_, limits=limits))
    (failure,) = caught.value.failures
    assert failure.value > failure.limit > 0
    assert names(tmp_path) == []


def test_int8_that_predicts_one_class_fails(model, request_, tmp_path, monkeypatch):
    def constant(model):
        folded = deploy(model)
        head = folded.get_layer("logits")
        kernel, bias = head.get_weights()
        head.set_weights([kernel * 0, bias + np.eye(10)[3]])
        return folded

    monkeypatch.setattr(pipeline, "deploy", constant)
    only = changed(request_, formats=["tflite"], precisions=["int8"])
    with pytest.raises(ExportError, match=r"^model_int8.tflite.*accuracy drop 0\.8.*limit 0.02"):
        export(model, tmp_path, only)
    assert names(tmp_path) == []


def test_a_failure_withdraws_earlier_artefacts_of_the_names_asked_for(
    model, request_, tmp_path, monkeypatch
):
    export(model, tmp_path, changed(request_, precisions=("float32", "float16")))
    earlier = (tmp_path / "model.tflite").read_bytes()
    monkeypatch.setattr(pipeline, "deploy", spoiled)
    again = changed(request_, precisions=("float32",))
    with pytest.raises(ExportError):
        export(model, tmp_path, again)
    assert names(tmp_path) == [
        "labels.txt",  # says nothing of a model's quality, and may belong to a run
        "manifest.json",
        "model.tflite.stale",
        "model_float16.tflite",
        "saved_model.stale",
    ]
    assert list(manifest(tmp_path)) == ["model_float16.tflite"]
    assert (tmp_path / "model.tflite.stale").read_bytes() == earlier
    monkeypatch.undo()
    export(model, tmp_path, again)
    assert names(tmp_path) == [
        "labels.txt",
        "manifest.json",
        "model.tflite",
        "model_float16.tflite",
        "saved_model",
    ]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_other_errors_leave_earlier_artefacts_alone(model, request_, tmp_path, monkeypatch, error):
    export(model, tmp_path, changed(request_, formats=["tflite"]))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def broken(model, path, **kwargs):
        path.write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(pipeline, "export_tflite", broken)
    with pytest.raises(type(error)):
        export(model, tmp_path, request_)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_second_export_replaces_and_merges(model, request_, tmp_path):
    export(model, tmp_path, changed(request_, precisions=("float32", "float16")))
    first = manifest(tmp_path)
    other = keras.models.clone_model(model)
    other.set_weights([value * 1.01 for value in model.get_weights()])
    export(other, tmp_path, changed(request_, precisions=("float32",), class_names=None))
    second = manifest(tmp_path)
    assert second["model_float16.tflite"] == first["model_float16.tflite"]
    for name in ("model.tflite", "saved_model"):
        assert second[name]["sha256"] != first[name]["sha256"]
        assert second[name]["weights_sha256"] != first["model_float16.tflite"]["weights_sha256"]
        assert second[name]["class_names"] is None
    # The names belonged to the earlier model.
    assert "labels.txt" not in names(tmp_path)
    assert not [name for name in names(tmp_path) if "tmp" in name or "old" in name]
    (tmp_path / "model_float16.tflite").unlink()
    export(other, tmp_path, changed(request_, formats=["tflite"], precisions=["float32"]))
    assert list(manifest(tmp_path)) == ["model.tflite", "saved_model"]


def test_not_a_number_fails_on_either_side(model, request_, tmp_path):
    path = tmp_path / "m.tflite"
    images, labels = request_.images[:8], request_.labels[:8]
    export_tflite(model, path, precision="float32", preprocess=PREPROCESS)
    reference = Reference.of(model, images, labels, PREPROCESS)
    logits = reference.logits.copy()
    logits[3, 4] = np.nan
    found = verify(path, dataclasses.replace(reference, logits=logits))
    for precision in ("float32", "float16", "int8"):
        failures = Limits().failures(dataclasses.replace(found, precision=precision))
        assert failures[0].check == "non-finite logits"
        assert failures[0].value == 1
    assert found.to_dict()["max_difference"] is None
    json.dumps(found.to_dict(), allow_nan=False)

    broken = keras.models.clone_model(model)
    broken.set_weights([np.full_like(value, np.nan) for value in model.get_weights()])
    export_tflite(broken, path, precision="float32", preprocess=PREPROCESS)
    assert Limits().failures(verify(path, reference))[0].check == "non-finite logits"


def test_a_flip_between_equal_logits_counts_as_disagreement(model, request_, tmp_path):
    path = tmp_path / "m.tflite"
    images, labels = request_.images[:10], request_.labels[:10]
    export_tflite(model, path, precision="float32", preprocess=PREPROCESS)
    reference = Reference.of(model, images, labels, PREPROCESS)
    logits = reference.logits.copy()
    first, second = np.argsort(logits[0])[[-1, -2]]
    logits[0, second] = logits[0, first] + 1e-6
    found = verify(path, dataclasses.replace(reference, logits=logits))
    assert found.agreement == pytest.approx(0.9)
    assert next(failure.check for failure in Limits().failures(found)) == "top-1 agreement"


def test_limits_by_precision(model, request_, tmp_path):
    path = tmp_path / "m.tflite"
    export_tflite(model, path, precision="float32", preprocess=PREPROCESS)
    reference = Reference.of(model, request_.images[:8], request_.labels[:8], PREPROCESS)
    good = dataclasses.replace(
        verify(path, reference),
        max_difference=1e-6,
        max_logit=5.0,
        agreement=1.0,
        keras_accuracy=0.9,
        accuracy=0.9,
    )

    def failed(**values):
        found = dataclasses.replace(good, **values)
        return [failure.check for failure in Limits().failures(found)]

    assert failed() == []
    assert failed(max_difference=1.1e-4) == ["logit difference"]
    assert failed(max_difference=1.1e-4, max_logit=20.0) == ["logit difference"]
    assert failed(agreement=0.9999) == ["top-1 agreement"]
    assert failed(precision="float16", agreement=0.999, max_difference=0.0099) == []
    assert failed(precision="float16", agreement=0.998) == ["top-1 agreement"]
    assert failed(precision="float16", max_difference=0.011) == ["logit difference"]
    assert failed(precision="float16", max_difference=0.0199, max_logit=20.0) == []
    assert failed(precision="float16", max_difference=0.021, max_logit=20.0) == ["logit difference"]
    assert failed(operators={"CONV_2D": 1, "FlexRelu": 2}) == ["custom operators"]
    assert failed(format="onnx", operators={"Conv": 1}) == []
    assert failed(format="onnx", operators={"com.else::Conv": 1}) == ["custom operators"]
    scaled = dataclasses.replace(good.input, scale=1.0, zero_point=0)
    int8 = {"precision": "int8", "input": scaled, "agreement": 0.5, "max_difference": 9.0}
    assert failed(**int8) == []
    assert failed(**int8, accuracy=0.88) == []
    assert failed(**int8, accuracy=0.879) == ["accuracy drop"]
    assert failed(**int8, operators={"DEQUANTIZE": 1}) == ["DEQUANTIZE operators"]
    narrow = dataclasses.replace(scaled, scale=0.9)
    assert failed(**{**int8, "input": narrow}) == ["input scale"]
    with pytest.raises(ValueError, match=r"`float32_agreement` must lie in \[0, 1"):
        Limits(float32_agreement=1.5)


BAD = {
    "int8 without calibration": ({"calibration": None}, ValueError, "int8 needs `calibration`"),
    "format": ({"formats": ["pb"]}, ValueError, "`formats` must be one of.*'onnx'.*'pb'"),
    "string": ({"formats": "tflite"}, ValueError, "`formats` must be names"),
    "none": ({"precisions": []}, ValueError, "`precisions` must be names"),
    "precision": ({"precisions": ["int4"]}, ValueError, "`precisions` must be one of.*'int4'"),
    "inputs": ({"inputs": "jpeg"}, ValueError, "`inputs` must be one of.*'jpeg'"),
    "few labels": ({"labels": np.zeros(3, int)}, ValueError, r"`labels` must have shape \(597,\)"),
    "label 10": ({"labels": np.full(597, 10)}, ValueError, "`labels` must lie in 0..9"),
    "float labels": ({"labels": np.zeros(597)}, TypeError, "`labels` must be.*integers"),
    "float images": ({"images": np.zeros((597, 8, 8, 1))}, TypeError, "`images` must be.*float64"),
    "no images": ({"images": np.zeros((0, 8, 8, 1), np.uint8)}, ValueError, "one image or more"),
    "image size": ({"images": np.zeros((597, 9, 8, 1), np.uint8)}, ValueError, "`images` must"),
    "names": ({"class_names": ["a"]}, ValueError, r"one name a class \(10\)"),
    "name": ({"class_names": list(range(10))}, TypeError, "`class_names` must be strings"),
}


@pytest.mark.parametrize("case", BAD)
def test_requests_are_checked_before_anything_is_made(model, request_, tmp_path, case):
    values, kind, match = BAD[case]
    with pytest.raises(kind, match=match):
        export(model, tmp_path / "out", changed(request_, **values))
    assert names(tmp_path) == []


def test_a_foreign_manifest_is_refused(model, request_, tmp_path):
    (tmp_path / "manifest.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is no manifest of exports"):
        export(model, tmp_path, request_)
    assert names(tmp_path) == ["manifest.json"]


def test_other_backends_are_refused(model, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow.*'jax'"):
        export(model, tmp_path / "out", request_)
    assert names(tmp_path) == []
