"""SavedModels: encoded images, features, and version directories."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import io
import json
import os
import pathlib
import sys
import threading

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export import (
    ExportError,
    ExportRequest,
    export,
    export_for_clients,
    export_saved_model,
    export_version,
)
from keras_resnet.export.encoded_images import decode_and_fit
from keras_resnet.reparam import deploy

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"),
]

SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=4, input_size=8)
BGR = PreprocessSpec(
    (8, 8), (120.0, 110.0, 100.0), (60.0, 61.0, 62.0), channel_order="bgr", crop_fraction=0.875
)


def encoded(pixels, format, **options):
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def photos():
    """Pictures of several sizes, one far longer than wide and one of the net's size."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 256, (6, 9, 3)), np.ones((9, 7, 1))).astype("uint8")
    strip, small = rng.integers(0, 256, (2, 2000, 3)), rng.integers(0, 256, (8, 8, 3))
    return [smooth, smooth[:50, :31], strip.astype("uint8"), small.astype("uint8")]


@pytest.fixture(scope="module")
def model():
    return keras_resnet.build(SPEC, seed=3)


@pytest.fixture(scope="module")
def signatures(model, tmp_path_factory):
    import tensorflow as tf

    path = tmp_path_factory.mktemp("saved") / "1"
    export_saved_model(deploy(model), path, preprocess=BGR)
    loaded = tf.saved_model.load(str(path))
    return {**loaded.signatures, "kept": loaded}


def test_files_give_what_pixels_give(signatures, model, photos):
    contents = [encoded(photo, "PNG") for photo in photos]
    outputs = signatures["serve_bytes"](image_bytes=np.array(contents, object))
    pixels = np.stack([BGR.fit(photo) for photo in photos])
    expected = signatures["serving_default"](images_uint8=pixels)
    for name in ("logits", "probabilities"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=0.02)
    np.testing.assert_allclose(expected["logits"], model(BGR.normalize(pixels)), atol=1e-4)
    features = signatures["features"](images_uint8=pixels)["features"]
    want = keras_resnet.features(model, BGR.normalize(pixels))
    np.testing.assert_allclose(features, want, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos3"])
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_resizing_is_that_of_the_python_path(photos, interpolation, crop):
    preprocess = PreprocessSpec((9, 12), crop_fraction=crop, interpolation=interpolation)
    for photo in photos:
        got = decode_and_fit(np.array([encoded(photo, "PNG")], object), preprocess, 3).numpy()[0]
        difference = np.abs(got.astype(int) - preprocess.fit(photo))
        assert difference.max() <= 1
        assert difference.mean() < 0.05


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("turned", [1, 3, 6, 7])
def test_pictures_are_turned_as_exif_says(photos, format, turned):
    image = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    exif = image.Exif()
    exif[0x010F], exif[0x0112] = "maker", turned
    content = encoded(photos[0], format, exif=exif.tobytes())
    seen = ops.exif_transpose(image.open(io.BytesIO(content)))
    for channels, mode in ((3, "RGB"), (1, "L")):
        want = np.asarray(seen.convert(mode)).reshape(seen.height, seen.width, channels)
        got = decode_and_fit(
            np.array([content], object), PreprocessSpec(want.shape[:2]), channels
        ).numpy()[0]
        assert np.abs(got.astype(int) - want).max() <= 1


def test_versions_are_added(model, photos, tmp_path):
    pixels = np.stack([BGR.fit(photo) for photo in photos])
    request = ExportRequest(preprocess=BGR, images=pixels, labels=None, class_names=list("abcd"))
    first = export_version(model, tmp_path, request)
    (tmp_path / "saved_model" / "7").mkdir()
    (tmp_path / "saved_model" / "notes").mkdir()
    second = export_version(model, tmp_path, request)
    assert (first.file, second.file) == ("saved_model/1", "saved_model/8")
    assert (tmp_path / "saved_model/8/saved_model.pb").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "saved_model"]
    entries = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]
    assert entries["saved_model/8"]["verification"]["file"] == "saved_model/8"
    # An export without versions must not replace them all.
    with pytest.raises(ValueError, match=r"'saved_model' holds versions .1, 7, 8.: --version-dir"):
        export(model, tmp_path, dataclasses.replace(request, formats=("saved_model",)))
    assert (tmp_path / "saved_model/1/saved_model.pb").is_file()
    plain = tmp_path / "plain"
    (plain / "saved_model").mkdir(parents=True)
    (plain / "saved_model" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="is a SavedModel without versions"):
        export_version(model, plain, request)


def test_converters_take_one_signature(model, tmp_path):
    """Coremltools 9 converts neither several signatures nor the operator EnsureShape."""
    import tensorflow as tf

    export_saved_model(model, tmp_path / "1", preprocess=BGR, for_converters=True)
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert list(loaded.signatures) == ["serving_default"]
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    assert "EnsureShape" not in {node.op for node in nodes}


def test_rest_contract(signatures, photos):
    """The body of `POST /v1/models/NAME:predict`, read as TensorFlow Serving reads it.

    Source: TensorFlow Serving, g3doc/api_rest.md, "Predict API" and "Encoding binary values". A
    signature of one input takes a list of values; `{"b64": ...}` is a string. Outputs with a common
    first axis are split into `predictions`, one object an image.
    """
    import tensorflow as tf

    values = [{"b64": base64.b64encode(encoded(photo, "JPEG")).decode()} for photo in photos]
    body = json.dumps({"signature_name": "serve_bytes", "instances": values})
    request = json.loads(body)
    function = signatures[request["signature_name"]]
    ((name, spec),) = function.structured_input_signature[1].items()
    assert (name, spec.dtype, spec.shape.as_list()) == ("image_bytes", tf.string, [None])
    contents = [base64.b64decode(value["b64"]) for value in request["instances"]]
    outputs = function(**{name: tf.constant(contents)})
    predictions = [
        {name: values[place].numpy().tolist() for name, values in outputs.items()}
        for place in range(len(photos))
    ]
    assert len(json.loads(json.dumps({"predictions": predictions}))["predictions"]) == 4
    assert sum(predictions[0]["probabilities"]) == pytest.approx(1)


# The program starts without TensorFlow: the test's process computes the rows of an answer.
SERVER = """#!{python}
import http.server, json, sys, urllib.request
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
if "version" in options:
    print("TensorFlow ModelServer: stub")
    sys.exit()
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())
    def log_message(self, *words):
        pass
    def do_GET(self):
        self.answer({{"model_version_status": [{{"version": "1", "state": "AVAILABLE"}}]}})
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {{"Base": options["model_base_path"]}}
        request = urllib.request.Request("{rows}", body, headers)
        with urllib.request.urlopen(request) as answer:
            rows = json.load(answer)
        if json.loads(body)["signature_name"] == "{broken}":
            rows[0]["logits"][0] += 1
        self.answer({{"predictions": rows}})
address = ("127.0.0.1", int(options["rest_api_port"]))
http.server.HTTPServer(address, Handler).serve_forever()
"""


class Rows(http.server.BaseHTTPRequestHandler):
    """Answers the body of a predict request with the rows that the SavedModel returns."""

    def log_message(self, *words):
        pass

    def do_POST(self):
        import tensorflow as tf

        loaded = tf.saved_model.load(str(pathlib.Path(self.headers["Base"], "1")))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        function = loaded.signatures[body["signature_name"]]
        ((name, spec),) = function.structured_input_signature[1].items()
        values = [
            base64.b64decode(value["b64"]) if isinstance(value, dict) else value
            for value in body["instances"]
        ]
        outputs = function(**{name: tf.constant(values, spec.dtype)})
        rows = [
            {key: value[place].numpy().tolist() for key, value in outputs.items()}
            for place in range(len(values))
        ]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(rows).encode())


@pytest.fixture
def rows():
    """The address of a server of this process that runs SavedModels."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rows)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.network
@pytest.mark.parametrize("broken", ["", "serve_bytes"])
def test_a_server_is_asked_before_the_version_gets_its_place(
    model, photos, tmp_path, monkeypatch, broken, rows
):
    """A stub of `tensorflow_model_server` that follows the contract of its REST API."""
    program = tmp_path / "bin" / "tensorflow_model_server"
    program.parent.mkdir()
    program.write_text(SERVER.format(python=sys.executable, broken=broken, rows=rows))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    pixels = np.stack([BGR.fit(photo) for photo in photos])
    request = ExportRequest(preprocess=BGR, images=pixels, labels=None)
    if broken:
        with pytest.raises(ExportError, match="the signature serve_bytes returns other logits"):
            export_for_clients(model, tmp_path, request, "tf-serving")
        assert not (tmp_path / "tf-serving").exists()
        return
    (exported,) = export_for_clients(model, tmp_path, request, "tf-serving")
    (proof,) = exported.proofs
    assert (proof.status, proof.runtime) == ("equal", "TensorFlow ModelServer: stub")
    assert proof.detail == "its REST answers equal the file's on 4 images"


def test_wrong_requests_are_errors(signatures, photos):
    import tensorflow as tf

    content = tf.constant(encoded(photos[0], "PNG"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes"):
        signatures["serve_bytes"](image_bytes=content)  # without a batch axis
    with pytest.raises(tf.errors.InvalidArgumentError, match="image file format"):
        signatures["serve_bytes"](image_bytes=tf.constant([b"no picture"]))
    for name in ("serving_default", "features"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[8,8,3\]"):
            signatures[name](images_uint8=tf.zeros((8, 8, 3), tf.uint8))
