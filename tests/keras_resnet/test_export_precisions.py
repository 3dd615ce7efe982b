"""Quantised files of every precision, fitted ranges, and the choice of a file."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import (
    ExportRequest,
    Limits,
    NoFile,
    Reference,
    Wanted,
    choose,
    export,
    export_onnx,
    export_tflite,
    integer_ranges,
    litert_quantized,
    pipeline,
    verify,
)
from keras_resnet.export.artifacts import read_manifest, write_manifest
from keras_resnet.export.float_operators import UnsupportedOperator
from keras_resnet.export.litert_graph import LiteRTGraph
from keras_resnet.reparam import deploy

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("tiny", (1, 1), (8, 16), stem="cifar", input_size=8, classes=5)
PREPROCESS = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 60.0, 60.0))
ALL = ("float32", "float16", "dynamic", "int8", "int16x8", "mixed")
LOOSE = Limits(int8_agreement=0.8, mixed_signal_to_noise=60.0)


@pytest.fixture(scope="module")
def model():
    model = keras_resnet.build(SPEC, seed=1)
    rng = np.random.default_rng(0)
    model.set_weights([w + 0.05 * rng.normal(size=w.shape) ** 2 for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def pixels():
    images = np.random.default_rng(1).integers(0, 256, (192, 8, 8, 3), dtype=np.uint8)
    images[:, :4] //= 3
    return images


@pytest.fixture(scope="module")
def request_(pixels):
    return ExportRequest(
        preprocess=PREPROCESS,
        images=pixels[128:],
        labels=np.arange(64) % 5,
        formats=("tflite", "onnx"),
        precisions=ALL,
        calibration=pixels[:128],
        limits=LOOSE,
    )


@pytest.fixture(scope="module")
def exported(model, request_, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("precisions"), []
    request = dataclasses.replace(request_, progress=said.append)
    return {v.file: v for v in export(model, folder, request)}, said, folder


def test_every_precision_has_its_file(exported):
    files, said, folder = exported
    assert list(files) == [
        "model.tflite",
        "model_float16.tflite",
        "model_dynamic.tflite",
        "model_int8.tflite",
        "model_int16x8.tflite",
        "model_mixed.tflite",
        "model.onnx",
        "model_int8.onnx",
    ]
    manifest = json.loads((folder / "manifest.json").read_text())["artifacts"]
    assert manifest["model_int16x8.tflite"]["precision"] == "int16x8"
    assert files["model_int8.onnx"].operators["QuantizeLinear"] > 5
    assert files["model_int8.onnx"].input.dtype == "uint8"
    assert files["model_int16x8.tflite"].input.name == "images_float32"
    noise = {name: v.signal_to_noise for name, v in files.items()}
    assert min(noise["model_int16x8.tflite"], noise["model_int8.tflite"]) > 40
    assert noise["model_mixed.tflite"] >= 60
    assert noise["model_int8.onnx"] > 20
    assert files["model_mixed.tflite"].operators["DEQUANTIZE"] > 1
    (line,) = [line for line in said if line.startswith("Mixed: ")]
    assert "operators in float, around the" in line
    assert "dB alone)" in line
    assert "onnx: float32 and int8; float16, dynamic, int16x8 and mixed apply to tflite" in said


def test_limits_of_each_precision(exported):
    files, _, _ = exported
    strict = {
        "model_dynamic.tflite": Limits(dynamic_signal_to_noise=99),
        "model_int16x8.tflite": Limits(int16x8_signal_to_noise=99),
        "model_mixed.tflite": Limits(mixed_signal_to_noise=99),
        "model_int8.onnx": Limits(int8_signal_to_noise=99),
    }
    for name, limits in strict.items():
        fields = [failure.field for failure in limits.failures(files[name])]
        assert fields[0] == f"{files[name].precision}_signal_to_noise"


def test_fitted_ranges_keep_the_file_and_lower_the_noise(model, pixels, tmp_path, monkeypatch):
    """One outlier among the calibration images: the converter's ranges follow it."""
    images = pixels[:128].copy()
    images[0] = np.where(np.indices((8, 8)).sum(0)[..., None] % 2, 255, 0)
    reference = Reference.of(model, pixels[128:], None, PREPROCESS)

    said = []

    def write(name):
        path = tmp_path / name
        export_tflite(
            deploy(model),
            path,
            precision="int8",
            preprocess=PREPROCESS,
            calibration=images,
            report=said.append,
        )
        return verify(path, reference, precision="int8")

    fitted = write("fitted.tflite")

    def refuse(*_):
        raise UnsupportedOperator("TEST")

    monkeypatch.setattr(litert_quantized, "fit_ranges", refuse)
    usual = write("usual.tflite")  # an unknown operator: the converter's ranges
    assert said == ["int8 ranges are the smallest and largest values: TEST is not fitted"]
    assert (fitted.bytes, fitted.operators) == (usual.bytes, usual.operators)
    assert fitted.signal_to_noise > usual.signal_to_noise


def test_the_range_is_chosen_after_the_relu():
    """Of x + y = max(x - 5, 0), values of x below 5 are hidden: its range need not have them."""
    values = np.concatenate([np.linspace(-100, 10, 1000)]).astype("float32")
    plain, _ = integer_ranges._best_range(values)
    graph = _AddWithRelu()
    hidden, zero_point = integer_ranges._best_range(values, np.full_like(values, -5), graph)
    assert hidden < plain / 2
    assert -128 <= zero_point <= 127


class _AddWithRelu:
    name = "ADD"

    class options:
        @staticmethod
        def FusedActivationFunction():
            return 1


@pytest.mark.parametrize("precision", ["int8", "mixed", "int16x8"])
def test_normalized_inputs(model, pixels, tmp_path, precision):
    path = tmp_path / "model.tflite"
    export_tflite(
        deploy(model),
        path,
        precision=precision,
        preprocess=PREPROCESS,
        inputs="normalized",
        input_type="uint8" if precision == "int8" else None,
        output_type="uint8" if precision == "int8" else None,
        calibration=pixels[:64],
        signal_to_noise=30,
    )
    reference = Reference.of(model, pixels[128:], None, PREPROCESS)
    assert verify(path, reference, precision=precision).signal_to_noise > 20


def test_the_schema_is_read(exported):
    graph = LiteRTGraph((exported[2] / "model_int8.tflite").read_bytes())
    names = [each.name for each in graph.operators]
    assert names[0] == "QUANTIZE"
    assert names.count("CONV_2D") == 6
    first = graph.operators[[each.name for each in graph.operators].index("CONV_2D")]
    assert graph.constant(first.inputs[1]).shape == (8, 3, 3, 3)
    assert len(graph.scales(first.inputs[1])) == 8


@pytest.mark.parametrize(
    ("write", "values", "match"),
    [
        (export_onnx, {"precision": "int16x8"}, "`precision` of ONNX files must be 'float32' or"),
        (export_onnx, {"precision": "int8"}, "int8 needs `calibration`"),
        (export_tflite, {"precision": "mixed"}, "int8, int16x8, mixed need `calibration`"),
        (
            export_tflite,
            {"precision": "int16x8", "input_type": "uint8"},
            "int16x8 files take float32",
        ),
    ],
)
def test_bad_arguments(model, tmp_path, write, values, match):
    with pytest.raises(ValueError, match=match):
        write(deploy(model), tmp_path / "model.onnx", preprocess=PREPROCESS, **values)


def test_choose(model, request_, exported, tmp_path, monkeypatch):
    # The files of this net are there: they are copied instead of converted anew.
    monkeypatch.setattr(
        pipeline, "export_tflite", lambda _, path, **__: shutil.copy(exported[2] / path.name, path)
    )
    request = dataclasses.replace(
        request_, formats=("tflite",), precisions=("float32", "float16", "int8"), labels=None
    )
    sizes = Wanted(accuracy_drop=0.1, latency_ms=1e4, bytes=15_000)
    # Of an earlier net: the names and the file stayed, as if they were this net's.
    (tmp_path / "labels.txt").write_text("old\n")
    (tmp_path / "model.tflite").write_bytes(b"old")
    write_manifest(tmp_path, {"model.tflite": {"weights_sha256": "old"}})
    choice = choose(model, tmp_path, request, sizes)
    assert choice.chosen.file == "model_int8.tflite"
    by_name = {each.file: each for each in choice.candidates}
    (reason,) = by_name["model.tflite"].reasons
    assert reason.startswith("size ")
    assert reason.endswith("KB, limit 15 KB")
    found = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".stale")
    assert found == ["choice.md", "choice.svg", "manifest.json", "model_int8.tflite"]
    assert {path.stem for path in tmp_path.glob("*.stale")} == {"labels.txt", "model.tflite"}
    assert list(read_manifest(tmp_path)) == ["model_int8.tflite"]
    table = (tmp_path / "choice.md").read_text()
    assert "size at most 15 KB" in table
    assert "chosen: the fastest that keeps the limits" in table
    with pytest.raises(NoFile, match=r"None of 3 files keeps the limits\. The nearest is model_i"):
        choose(model, tmp_path / "none", request, Wanted(accuracy_drop=0.1, bytes=5_000))
    names = [path.name for path in (tmp_path / "none").iterdir()]
    assert not [name for name in names if name.endswith(".tflite")]
    # The versions of a SavedModel were replaced without a word.
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    versions = dataclasses.replace(request, formats=("saved_model",), precisions=("float32",))
    with pytest.raises(ValueError, match=r"'saved_model' holds versions \[1\]"):
        choose(model, tmp_path, versions, sizes)
    with pytest.raises(ValueError, match="`accuracy_drop` must lie in"):
        Wanted(accuracy_drop=2)


@pytest.mark.parametrize(
    ("name", "peers"), [("resnet20-12fca82f.th", 29.4), ("mlperf_tiny_resnet8.h5", 27.3)]
)
def test_int8_of_published_weights_is_ahead_of_its_peers(
    shared, cifar10_sample, tmp_path, name, peers
):
    """ONNX Runtime's QDQ files: 29.4 dB, and 27.3 dB (32.1 dB of ResNet-8's raw logits)."""
    if not (shared / "weights" / name).is_file():
        pytest.skip(f"no {name} under {shared / 'weights'}")
    import tensorflow_datasets as tfds

    train = tfds.load(
        "cifar10_sample", split="train[:512]", data_dir=shared / "tfds", batch_size=-1
    )
    net = keras_resnet.from_pretrained(shared / "weights" / name)
    said = keras_resnet.export.tflite(
        net,
        tmp_path / "model.tflite",
        precision="int8",
        images=cifar10_sample[0],
        labels=cifar10_sample[1],
        calibration=np.asarray(train["image"]),
    )
    assert said.signal_to_noise > peers + 0.7
    assert said.keras_accuracy - said.accuracy < 0.003


def test_float16_probabilities_of_several_labels(model, request_, tmp_path):
    """Without a float32 file beside it: its sigmoids were held to logits and refused."""
    request = dataclasses.replace(
        request_, labels=None, precisions=("float16",), activation="sigmoid", several_labels=True
    )
    (verification, _) = export(model, tmp_path, request)
    assert (verification.precision, verification.activation) == ("float16", "sigmoid")
    assert verification.conversion_difference < 1e-5
    assert json.loads((tmp_path / "manifest.json").read_text())["artifacts"][
        "model_float16.tflite"
    ]["several_labels"]
