"""Files for named clients: what each takes, C++ sources, and the clients' own runtimes."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pathlib
import shutil
import subprocess

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import (
    CLIENTS,
    ExportError,
    ExportRequest,
    client_export,
    export_for_clients,
)
from keras_resnet.export.client_runtimes import Ran, version_of
from keras_resnet.export.clients import find_client, settle
from keras_resnet.export.metadata import read_labels
from keras_resnet.export.microcontroller import METHODS, resolver_source
from keras_resnet.export.runtimes import load
from keras_resnet.export.stated import stated

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=4, input_size=8)
GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "clients.md"
RGB = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))
LABELS = ["cat", "dog", "größer", 'a "b" \\ ??/']


@pytest.fixture(scope="module")
def model():
    return keras_resnet.build(SPEC, seed=3)


@pytest.fixture(scope="module")
def request_():
    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 3), dtype="uint8")
    return ExportRequest(
        preprocess=RGB,
        images=images[:20],
        labels=None,
        calibration=images,
        class_names=LABELS,
        author="A. Author",
        license="Apache-2.0",
    )


@pytest.fixture(scope="module")
def exported(model, request_, tmp_path_factory):
    """Files of two clients; what was said."""
    directory, lines = tmp_path_factory.mktemp("clients"), []
    request = dataclasses.replace(request_, progress=lines.append)
    clients = ["mediapipe", "tflite-micro", "tf-serving"]
    return directory, lines, export_for_clients(model, directory, request, clients)


def test_files_and_manifest(exported):
    directory, _, results = exported
    assert [each.client for each in results] == ["mediapipe", "tflite-micro", "tf-serving"]
    assert sorted(path.name for path in directory.iterdir()) == [
        "manifest.json",
        "mediapipe",
        "tf-serving",
        "tflite-micro",
    ]
    assert sorted(path.name for path in (directory / "tflite-micro").iterdir()) == [
        "labels.txt",
        "model_data.cc",
        "model_data.h",
        "model_int8.tflite",
        "model_resolver.h",
    ]
    entries = json.loads((directory / "manifest.json").read_text())["artifacts"]
    assert sorted(entries) == [
        "mediapipe/model.tflite",
        "tf-serving/1",
        "tflite-micro/model_int8.tflite",
    ]
    for entry in entries.values():
        assert entry["client"]["status"] in ("equal", "not run")
    assert (directory / "tf-serving/1/saved_model.pb").is_file()
    described = load(directory / "mediapipe/model.tflite")
    assert described.input.shape == (1, 8, 8, 3)
    assert (described.input.dtype, described.activation) == ("uint8", "softmax")
    micro = load(directory / "tflite-micro/model_int8.tflite")
    assert (micro.input.dtype, micro.output_type) == ("int8", "int8")
    assert (micro.input.scale, micro.input.zero_point) == (1.0, -128)


def test_a_file_of_a_client_has_the_manifest_of_its_export(exported):
    """Without it the preprocessing would be assumed."""
    directory = exported[0]
    path = directory / "tflite-micro/model_int8.tflite"
    found = stated(path, load(path), 4)
    assert isinstance(found.preprocess, PreprocessSpec)
    assert found.notes == ()


def test_each_runtime_says_what_it_found(exported):
    _, lines, results = exported
    packages = ["mediapipe", "tflite-micro", "tensorflow_model_server"]
    for each, package in zip(results, packages, strict=True):
        (proof,) = each.proofs
        assert proof.line() in lines
        version = version_of(package)
        if version is None:
            assert proof.status == "not run"
            assert "install" in proof.line()
            if package != "tensorflow_model_server":
                assert "not run: its runtime is missing: pip install " in proof.line()
        else:
            assert (proof.status, proof.images) == ("equal", 20)
            assert f"verified by {package} {version} on 20 images" in proof.line()


def test_a_runtime_that_computes_something_else_is_an_error(
    model, request_, exported, tmp_path, monkeypatch
):
    shutil.copytree(exported[0], tmp_path, dirs_exist_ok=True)

    def other(client, path, images):
        if client == "onnxruntime":
            raise ValueError("onnxruntime refuses model.onnx: no")
        wrong = np.float32([[0, 0.01 * (client == "mediapipe"), 0, 0]])
        return Ran(load(path).run(images) + wrong)

    monkeypatch.setattr(client_export, "version_of", lambda package: package and "1.0")
    monkeypatch.setattr(client_export, "run_client", other)
    with pytest.raises(ExportError) as error:
        export_for_clients(model, tmp_path, request_, ["mediapipe", "onnxruntime", "litert-js"])
    message = str(error.value)
    assert "mediapipe/model.tflite was refused: mediapipe 1.0 returns other values" in message
    assert "onnxruntime/model.onnx was refused: onnxruntime refuses model.onnx: no" in message
    assert "Written: litert-js/model.tflite" in message
    # The earlier file is not taken for this model's.
    assert not (tmp_path / "mediapipe").exists()
    entries = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]
    assert "mediapipe/model.tflite" not in entries
    assert "tflite-micro/model_int8.tflite" in entries


@pytest.mark.parametrize(
    ("client", "values", "match"),
    [
        ("mediapipe", {"batch": "open"}, "batch='open': it runs one image at a time. Leave it out"),
        ("mediapipe", {"inputs": "normalized"}, "ONE mean and deviation"),
        ("mediapipe", {"output_type": "int8", "precisions": ("int8",)}, "refuses int8 outputs"),
        ("litert-js", {"batch": "open"}, "refuses an open batch"),
        ("tflite-micro", {"precisions": ("float16",)}, "raw float32 and float16 files do not run"),
        ("tflite-micro", {"input_type": "uint8"}, "its kernels take int8"),
        ("tf-serving", {"formats": ("tflite",)}, "takes the format saved_model"),
        ("coreml", {"input_type": "uint8"}, "Core ML has no uint8 arrays"),
    ],
)
def test_what_a_client_does_not_take(request_, client, values, match):
    with pytest.raises(ValueError, match=match):
        settle(dataclasses.replace(request_, **values), find_client(client))


def test_an_option_that_a_client_takes_wins_with_a_line(request_):
    asked = dataclasses.replace(request_, precisions=("int8",), activation="none")
    settled, lines = settle(asked, CLIENTS["mediapipe"], {"precisions", "activation"})
    assert (settled.precisions, settled.activation) == (("int8",), "none")
    assert (settled.batch, settled.input_type, settled.output_type) == (1, "uint8", "uint8")
    assert lines == [
        "mediapipe: precision 'int8' as asked, not 'float32' (the reference precision)",
        "mediapipe: activation 'none' as asked, not 'softmax' (its scores are what the graph "
        "returns)",
    ]
    # From Python, a field with its default is not a wish.
    assert settle(request_, CLIENTS["mediapipe"])[0].activation == "softmax"
    with pytest.raises(ValueError, match="`client` must be one of mediapipe, android, litert-js"):
        find_client("mediapip")
    with pytest.raises(ValueError, match=r"`client` must name one of mediapipe, .* Received: \[\]"):
        export_for_clients(None, "out", request_, [])


def test_every_row_can_be_exported(request_):
    for client in CLIENTS.values():
        settled, lines = settle(request_, client)
        (target,) = settled.targets
        settled.interface(target)
        assert lines == []
        assert client.source
        assert client.install


def test_channels_are_checked_first(request_, tmp_path):
    gray = keras_resnet.build(dataclasses.replace(SPEC, input_channels=1))
    request = dataclasses.replace(request_, preprocess=PreprocessSpec((8, 8)))
    with pytest.raises(ValueError, match="takes images of 3 or 4 channels. Received: a model of 1"):
        export_for_clients(gray, tmp_path / "new", request, ["tf-serving", "mediapipe"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("tools", ["mediapipe.tasks.metadata", "tensorflow_lite_support.metadata"])
def test_the_metadata_is_readable(exported, tools):
    """By the generated code of MediaPipe, and by that of Android's tools (tflite-support)."""
    pytest.importorskip(tools)
    schema = importlib.import_module(f"{tools}.metadata_schema_py_generated")
    from ai_edge_litert import schema_py_generated as files

    content = (exported[0] / "mediapipe/model.tflite").read_bytes()
    model = files.Model.GetRootAsModel(content, 0)
    (entry,) = [
        model.Metadata(index)
        for index in range(model.MetadataLength())
        if model.Metadata(index).Name() == b"TFLITE_METADATA"
    ]
    stored = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(stored, 0)
    said = schema.ModelMetadata.GetRootAsModelMetadata(stored, 0)
    assert (said.Name(), said.Author(), said.License()) == (b"small", b"A. Author", b"Apache-2.0")
    start = said.Version().decode().removeprefix("weights ")
    assert len(start) == 12
    assert said.Description().decode().split("SHA-256: ")[1].startswith(start)
    graph = said.SubgraphMetadata(0)
    image, scores = graph.InputTensorMetadata(0), graph.OutputTensorMetadata(0)
    assert (image.Name(), image.ProcessUnitsLength()) == (b"image", 1)
    unit = schema.NormalizationOptions()
    table = image.ProcessUnits(0).Options()
    unit.Init(table.Bytes, table.Pos)
    assert (unit.Mean(0), unit.Std(0)) == (0.0, 1.0)  # the file normalises
    assert scores.AssociatedFiles(0).Name() == b"labels.txt"
    assert read_labels(content) == LABELS


# What the generated files use of tflite-micro.
STUBS = {
    "tensorflow/lite/c/common.h": """
        #pragma once
        #include <cstdint>
        enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
        #define TF_LITE_ENSURE_STATUS(a) \\
          do { const TfLiteStatus s = (a); if (s != kTfLiteOk) return s; } while (0)
        """,
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": """
        #pragma once
        #include "tensorflow/lite/c/common.h"
        namespace tflite {
        template <unsigned int N> struct MicroMutableOpResolver {
        """
    + "".join(f"TfLiteStatus {name}() {{ return Add(); }}\n" for name in METHODS.values())
    + """
          TfLiteStatus Add() { return ++added <= N ? kTfLiteOk : kTfLiteError; }
          unsigned int added = 0;
        };
        }
        """,
}
STUBS["tensorflow/lite/schema/schema_generated.h"] = """
    #pragma once
    namespace tflite { struct Model; const Model* GetModel(const void* buffer); }
    """
STUBS["tensorflow/lite/micro/micro_log.h"] = """
    #pragma once
    void MicroPrintf(const char* format, ...);
    """
STUBS["tensorflow/lite/micro/micro_interpreter.h"] = """
    #pragma once
    #include <cstddef>
    #include <cstdint>
    #include "tensorflow/lite/c/common.h"
    struct TfLiteTensor { union { int8_t* int8; uint8_t* uint8; } data; };
    namespace tflite {
    struct Model;
    struct MicroInterpreter {
      template <typename Resolver>
      MicroInterpreter(const Model*, const Resolver&, uint8_t*, std::size_t) {}
      TfLiteStatus AllocateTensors();
      TfLiteStatus Invoke();
      TfLiteTensor* input(int);
      TfLiteTensor* output(int);
    };
    }
    """
MAIN = """
#include <cstdio>
#include "model_data.h"
#include "model_resolver.h"
int main() {
  ModelOpResolver resolver;
  if (RegisterModelOps(resolver) != kTfLiteOk) return 1;
  if (reinterpret_cast<unsigned long>(g_model_data) % 16) return 2;
  std::fwrite(g_model_data, 1, g_model_data_bytes, stdout);
  for (const char* label : kModelLabels) std::fprintf(stderr, "%s\\n", label);
  return kModelHeight == 8 && kModelWidth == 8 && kModelChannels == 3 ? 0 : 3;
}
"""


def test_the_sources_compile_and_hold_the_file(exported, tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = exported[0] / "tflite-micro"
    for name, text in {**STUBS, "main.cc": MAIN}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    program, sources = tmp_path / "program", [tmp_path / "main.cc", folder / "model_data.cc"]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-I{tmp_path}"]
    subprocess.run([compiler, *flags, *sources, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, check=True)
    assert done.stdout == (folder / "model_int8.tflite").read_bytes()
    assert done.stderr.decode().splitlines() == LABELS
    sketch = GUIDE.read_text(encoding="utf-8").split("```cpp\n")[1].split("```")[0]
    (tmp_path / "sketch.cc").write_text(sketch)
    # Without the runtime the arena is not measured, and the user states it.
    measured = "#define MODEL_ARENA_BYTES" in (folder / "model_data.h").read_text()
    flags += [] if measured else ["-DMODEL_ARENA_BYTES=1000"]
    subprocess.run([compiler, *flags, "-fsyntax-only", tmp_path / "sketch.cc"], check=True)
    calls = (folder / "model_resolver.h").read_text()
    for call in ("AddConv2D", "AddAdd", "AddMean", "AddFullyConnected"):
        assert f"resolver.{call}()" in calls
    header = (folder / "model_data.h").read_text()
    entry = json.loads((exported[0] / "manifest.json").read_text())["artifacts"]
    arena = entry["tflite-micro/model_int8.tflite"]["arena_bytes"]
    if arena is None:
        assert "The arena was not measured: `pip install --pre tflite-micro`" in header
    else:
        assert f"#define MODEL_ARENA_BYTES {arena}\n" in header


def test_an_operator_that_tflite_micro_lacks():
    with pytest.raises(ValueError, match="does not have CONV_3D, which m.tflite needs"):
        resolver_source(["CONV_3D", "ADD"], "m.tflite")


def test_published_resnet8_stays_small(shared, cifar10_sample, tmp_path):
    model = keras_resnet.from_pretrained(shared / "weights" / "mlperf_tiny_resnet8.h5")
    images, labels = cifar10_sample[0].astype("uint8"), cifar10_sample[1]
    request = ExportRequest(
        preprocess=model.preprocess,
        images=images[:100],
        labels=labels[:100],
        calibration=images[200:400],
    )
    (exported,) = export_for_clients(model, tmp_path, request, "tflite-micro")
    assert exported.verifications[0].bytes <= 96_900
    entries = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]
    arena = entries["tflite-micro/model_int8.tflite"]["arena_bytes"]
    assert arena is None or arena <= 55_904
