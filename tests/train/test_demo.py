"""`keras-resnet demo`: the page's graph and folder, the command, and the page in Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import PreprocessSpec
from keras_resnet.export import ExportRequest, export, export_tflite
from keras_resnet.export.browser_packages import LITERTJS, WASM_UTILS, package_folder
from keras_resnet.export.chromium import chromium, find_chromium
from keras_resnet.export.static_server import StaticServer, served
from keras_resnet_train.data.images import decode, fit
from keras_resnet_train.demo import Example, graph, open_classifier, write_site

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
PREPROCESS = PreprocessSpec((16, 16), (120.0, 110.0, 100.0), (60.0, 61.0, 62.0), crop_fraction=0.9)
NAMES = ("ant", "bee", "cat <3>", "döner", "eel", "fly", "gnu")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    spec = keras_resnet.get_spec("cifar_resnet8").replace(widths=(4, 8, 12))
    return keras_resnet.build(spec, classes=len(NAMES), input_shape=(16, 16, 3), seed=3)


@pytest.fixture(scope="module")
def files(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of exports: float32 with a softmax, and integers of other types and batch."""
    folder = tmp_path_factory.mktemp("exports")
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype="uint8")
    request = ExportRequest(
        preprocess=PREPROCESS,
        images=images,
        labels=None,
        formats=("tflite",),
        precisions=("float32",),
        activation="softmax",
        class_names=NAMES,
    )
    export(model, folder, request)
    folded = keras_resnet.fold_batch_norm(model)
    others: dict[str, dict[str, Any]] = {
        "int8": {"precision": "int8", "input_type": "int8", "batch": "open", "calibration": images},
        "two": {"precision": "float16", "batch": 2},
        "normalized": {"precision": "float16", "inputs": "normalized"},
    }
    for name, options in others.items():
        export_tflite(folded, folder / f"{name}.tflite", preprocess=PREPROCESS, **options)
    return folder


@pytest.fixture
def litertjs(tmp_path: pathlib.Path) -> pathlib.Path:
    """A `node_modules` folder whose files are empty."""
    for package in (LITERTJS, WASM_UTILS):
        for name in package.files:
            path = tmp_path / "node_modules" / package.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"{}")
        (tmp_path / "node_modules" / package.name / "package.json").write_text(
            json.dumps({"version": package.version}), encoding="utf-8"
        )
    return tmp_path / "node_modules"


def test_the_map_of_a_file_is_the_nets_own(model: keras.Model, files: pathlib.Path) -> None:
    classifier = open_classifier(files / "model.tflite")
    head = classifier.page.head
    assert head is not None
    assert (head.size, head.kernel.shape, classifier.notes) == ((4, 4), (7, 12), ())
    assert (classifier.labels, classifier.precision) == (NAMES, "float32")
    assert (classifier.preprocess, classifier.activation) == (PREPROCESS, "none")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 3), dtype="uint8")
    outputs = graph.run(classifier.page.content, pixels)
    np.testing.assert_array_equal(
        outputs["probabilities"], graph.run(classifier.content, pixels)["probabilities"]
    )
    maps = graph.class_activation_map(outputs["features"][0], head.kernel)
    logits = model.predict(PREPROCESS.normalize(pixels), verbose=0)
    np.testing.assert_allclose(maps.mean((1, 2)) + head.bias, logits[0], rtol=1e-3, atol=1e-3)
    # Selvaraju et al. 2017, section 3.1: of such nets Grad-CAM is this map, up to its scale.
    heat = keras_resnet.gradcam(model, PREPROCESS.normalize(pixels), classes=2)[0, 1::4, 1::4]
    expected = keras_resnet.gradcam(model, PREPROCESS.normalize(pixels), classes=2)
    assert expected.shape == (1, 16, 16)
    small = np.maximum(maps[2], 0)
    assert np.corrcoef(heat.ravel(), small.ravel())[0, 1] > 0.9


def test_integer_ends_and_an_open_batch_become_those_of_litertjs(files: pathlib.Path) -> None:
    classifier = open_classifier(files / "int8.tflite", labels=NAMES)
    assert classifier.notes == (
        "no manifest.json beside the file: pictures are resized bilinearly, and their largest "
        "centre is cropped",
        "the open batch is fixed at 1",
        "a QUANTIZE before the int8 input",
        "a DEQUANTIZE after the integer output",
    )
    assert (classifier.input["dtype"], classifier.activation) == ("uint8", "softmax")
    pixels = np.full((1, 16, 16, 3), 200, "uint8")
    outputs = graph.run(classifier.page.content, pixels)
    assert {name: str(value.dtype) for name, value in outputs.items()} == {
        "logits": "float32",
        "features": "float32",
    }
    assert outputs["features"].shape == (1, 4, 4, 12)


def test_files_of_several_labels_and_of_quantise_aware_nets(
    model: keras.Model, tmp_path: pathlib.Path
) -> None:
    """Sigmoids became a softmax's, and both had no map."""
    path, folded = tmp_path / "m.tflite", keras_resnet.fold_batch_norm(model)
    options: dict[str, Any] = {"precision": "float32", "preprocess": PREPROCESS}
    export_tflite(folded, path, activation="sigmoid", **options)
    classifier = open_classifier(path)
    assert (classifier.activation, classifier.page.no_map) == ("none", "")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype="uint8")
    net = keras_resnet.quantize_aware(model, calibration=PREPROCESS.normalize(pixels))
    export_tflite(net, path, precision="int8", preprocess=PREPROCESS)
    head = open_classifier(path).page.head
    assert head is not None
    expected = model.get_layer("logits").get_weights()[0].T
    np.testing.assert_allclose(head.kernel, expected, atol=np.abs(expected).max() / 127)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two.tflite", "one image at a time: export with --batch 1. Received: a file with batch 2"),
        ("normalized.tflite", "no manifest.json beside it says how to normalise"),
        ("none.tflite", "No file"),
        ("manifest.json", "the page runs .tflite files"),
    ],
)
def test_files_that_the_page_cannot_run(files: pathlib.Path, name: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        open_classifier(files / name)


def test_too_few_names(files: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"--labels has 2 names, and model.tflite 7 outputs"):
        open_classifier(files / "model.tflite", labels=["a", "b"])


def test_a_net_without_a_pooling_has_no_map(tmp_path: pathlib.Path) -> None:
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3)(inputs)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    spec = PreprocessSpec((8, 8))
    path = tmp_path / "flat.tflite"
    export_tflite(keras.Model(inputs, outputs), path, precision="float32", preprocess=spec)
    classifier = open_classifier(path)
    why = "its last dense layer does not follow a pooling over all positions"
    assert classifier.page.head is None
    assert classifier.notes[1:] == (
        "no class names: give --labels FILE; the page shows numbers",
        f"no class activation map: {why}",
    )


def test_the_folder_is_whole_and_may_load_nothing_else(
    files: pathlib.Path, litertjs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    classifier = open_classifier(files / "model.tflite", title="<b> & co")
    folder = tmp_path / "page"
    example = Example("a cat", ".png", b"PNG")
    for _ in range(2):  # the second replaces the first
        write_site(folder, classifier, examples=[example], litertjs=litertjs)
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert description["labels"] == list(NAMES)
    assert description["map"] == {"file": "classifier.bin", "height": 4, "width": 4, "channels": 12}
    assert description["samples"] == [{"file": "examples/00.png", "name": "a cat"}]
    assert (folder / "classifier.bin").stat().st_size == 4 * 7 * 12
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<title>&lt;b&gt; &amp; co</title>" in page
    (imports,) = re.findall(r'<script type="importmap">(.*?)</script>', page)
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page
    for target in json.loads(imports)["imports"].values():
        assert (folder / target).is_file()
    texts = [p for p in folder.rglob("*") if p.suffix in (".html", ".css", ".js", ".json")]
    assert len(texts) > 8
    for path in texts:
        assert not re.findall(r"https?://", path.read_text(encoding="utf-8")), path
    assert sorted(p.name for p in tmp_path.iterdir()) == ["node_modules", "page"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_bytes(b"")
    with pytest.raises(ValueError, match="holds other files, not a page"):
        write_site(other, classifier, litertjs=litertjs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "float16"], "`--precision` does not apply to a .tflite file"),
        (["--port", "70000"], "`--port` must lie in 0..65535. Received: 70000"),
        (["--output", "x", "--port", "1"], "`--port` and `--no-browser` serve the page"),
        (["--examples", "no"], "No picture or folder 'no'"),
    ],
)
def test_options_that_do_not_apply(
    command: Command, files: pathlib.Path, words: list[str], message: str
) -> None:
    ended = command("demo", files / "model.tflite", *words)
    assert ended.status == 1
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_run_is_exported_and_offers_test_images(
    command: Command, finished_run: pathlib.Path, litertjs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "page"
    ended = command("demo", finished_run, "--output", folder, "--litertjs", litertjs)
    assert ended.status == 0, ended.err
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert (description["title"], description["classes"]) == ("cifar_resnet8, tiny", 10)
    assert description["output"] == {"name": "logits", "activation": "softmax"}
    names = [sample["name"] for sample in description["samples"]]
    assert names[0] == "example 1, labelled 1"
    assert len({name.rpartition(" ")[2] for name in names}) == 8  # eight different digits
    with Image.open(folder / description["samples"][0]["file"]) as picture:
        assert picture.size == (8, 8)


@pytest.mark.network
def test_the_server_shows_files_and_no_folders(tmp_path: pathlib.Path) -> None:
    import urllib.error
    import urllib.request

    (tmp_path / "a.wasm").write_bytes(b"wasm")
    with served(tmp_path) as url:
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url + "a.wasm") as answer:
            assert answer.read() == b"wasm"
            assert answer.headers["Content-Type"] == "application/wasm"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url)
        port = int(url.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(ValueError, match=f"Port {port} cannot be used"):
            StaticServer(tmp_path, port)


needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")


@needs_chromium
@pytest.mark.network
def test_pictures_are_resized_as_in_python(tmp_path: pathlib.Path) -> None:
    """The page's pixels are Python's, but for one grey level where a value lies at a half."""
    page_files = pathlib.Path(graph.__file__).parent / "page"
    shutil.copytree(page_files, tmp_path, dirs_exist_ok=True)
    (tmp_path / "index.html").write_text("<title>pixels</title>", encoding="utf-8")
    rng = np.random.default_rng(0)
    low = rng.integers(0, 256, (13, 17, 3), dtype="uint8")
    picture = Image.fromarray(low).resize((210, 140), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[274] = 6
    picture.save(tmp_path / "turned.jpg", exif=turned, quality=90)
    clear = np.dstack([np.asarray(picture), np.tile(np.arange(210, dtype="uint8"), (140, 1))])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    picture.convert("L").resize((30, 40)).save(tmp_path / "gray.png")
    script = """(async () => {
      const pixels = await import("./pixels.js");
      const image = await pixels.decode(await (await fetch("NAME")).blob());
      return [...pixels.fit(image, SPEC, CHANNELS)];
    })()"""
    with served(tmp_path) as url, chromium() as page:
        page.visit(url + "index.html")
        for kind, fraction in (("bilinear", 0.875), ("bicubic", 1.0), ("lanczos3", 0.9)):
            spec = PreprocessSpec((48, 64), crop_fraction=fraction, interpolation=kind)
            for name, channels in (("turned.jpg", 3), ("clear.png", 3), ("gray.png", 1)):
                expected = fit(decode((tmp_path / name).read_bytes(), channels), spec)
                text = script.replace("NAME", name).replace("CHANNELS", str(channels))
                found = page.evaluate(text.replace("SPEC", json.dumps(spec.to_dict())))
                difference = np.abs(np.reshape(found, expected.shape) - np.asarray(expected, int))
                assert difference.max() <= 1, (kind, name)
                assert (difference > 0).mean() < 1e-3, (kind, name)
        with pytest.raises(Exception, match="not a picture that the browser can read"):
            page.evaluate(
                'import("./pixels.js").then((m) => m.decode(new Blob(["no"], {type: "image/png"})))'
            )


_MAIN = """
import java.nio.ByteBuffer;
public class Main {
    public static void main(String[] a) throws Exception {
        int width = Integer.parseInt(a[0]), height = Integer.parseInt(a[1]);
        int[] pixels = new int[width * height];
        ByteBuffer.wrap(System.in.readAllBytes()).asIntBuffer().get(pixels);
        int[] found = org.example.classifier.CentreCrop.fit(
            pixels, width, height, Integer.parseInt(a[2]), Integer.parseInt(a[3]),
            Double.parseDouble(a[4]));
        ByteBuffer answer = ByteBuffer.allocate(4 * found.length);
        answer.asIntBuffer().put(found);
        System.out.write(answer.array());
        System.out.flush();
    }
}
"""


@pytest.mark.multi_process
@pytest.mark.skipif(shutil.which("javac") is None, reason="Java's compiler is not installed")
def test_the_android_crop_is_that_of_predict(tmp_path: pathlib.Path) -> None:
    source = pathlib.Path(__file__).parents[2] / "deploy" / "android" / "CentreCrop.java"
    (tmp_path / "Main.java").write_text(_MAIN, encoding="utf-8", newline="\n")
    javac = ["javac", "-d", str(tmp_path), str(source), str(tmp_path / "Main.java")]
    subprocess.run(javac, check=True)
    image = np.random.default_rng(0).integers(0, 256, (97, 150, 3), dtype="uint8")
    argb = np.dstack([np.full((97, 150), 255, "uint8"), image])
    spec = PreprocessSpec((24, 32), crop_fraction=0.9)
    words = ["java", "-cp", str(tmp_path), "Main", "150", "97", "32", "24", "0.9"]
    answer = subprocess.run(words, input=argb.tobytes(), capture_output=True, check=True).stdout
    found = np.frombuffer(answer, "uint8").reshape(24, 32, 4)
    assert (found[..., 0] == 255).all()
    difference = np.abs(found[..., 1:].astype(int) - spec.fit(image))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-2


@pytest.fixture(scope="module")
def real_litertjs() -> None:
    for package in (LITERTJS, WASM_UTILS):
        try:
            package_folder(package, fetch=False)
        except ValueError as error:
            pytest.skip(f"{error}: `keras-resnet demo` fetches it once")


@needs_chromium
@pytest.mark.network
def test_the_page_classifies_as_python_does(
    files: pathlib.Path, real_litertjs: None, tmp_path: pathlib.Path
) -> None:
    """A real picture through the whole page: class by class, map, keyboard, words for readers."""
    from sklearn.datasets import load_sample_image

    picture = tmp_path / "flower.png"
    Image.fromarray(load_sample_image("flower.jpg")).save(picture)
    classifier = open_classifier(files / "model.tflite")
    write_site(tmp_path / "page", classifier)
    pixels = np.asarray(fit(decode(picture.read_bytes(), 3), PREPROCESS))
    expected = graph.run(classifier.content, pixels[None])["probabilities"][0]
    maps = graph.run(classifier.page.content, pixels[None])["features"][0]
    assert classifier.page.head is not None
    maps = graph.class_activation_map(maps, classifier.page.head.kernel)
    with served(tmp_path / "page") as url, chromium() as page:
        page.visit(url)
        page.wait("globalThis.demoReady || !document.getElementById('error').hidden")
        root = page.command("DOM.getDocument")["root"]["nodeId"]
        chooser = page.command("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        page.command("DOM.setFileInputFiles", files=[str(picture)], nodeId=chooser)
        page.wait("globalThis.demoResult")
        found = page.evaluate("[...demoResult.probabilities]")
        np.testing.assert_allclose(found, expected, atol=1e-5)
        order = np.argsort(-expected, kind="stable")[:5]
        assert page.evaluate("demoResult.top") == order.tolist()
        np.testing.assert_allclose(
            page.evaluate("[...demoResult.map]"), maps[order[0]].ravel(), rtol=1e-3, atol=1e-3
        )
        shown = "[...document.querySelectorAll('#classes .name')].map((e) => e.textContent)"
        assert page.evaluate(shown) == [NAMES[index] for index in order]
        said = page.evaluate("document.querySelector('[aria-live=polite]').textContent")
        assert said.startswith(f"{NAMES[order[0]]}, ")
        # By the keyboard: the next class, and its map.
        page.evaluate("document.querySelector('#classes input').focus()")
        for kind in ("keyDown", "keyUp"):
            page.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key="ArrowDown",
                code="ArrowDown",
                windowsVirtualKeyCode=40,
            )
        page.wait(f"demoResult.mapOf === {order[1]}")
        words = page.evaluate("document.getElementById('picture').ariaLabel")
        assert words == f"flower.png, with the class activation map of {NAMES[order[1]]}"
        # A picture that is none: one sentence, and the page goes on.
        (tmp_path / "no.png").write_bytes(b"no picture")
        page.command("DOM.setFileInputFiles", files=[str(tmp_path / "no.png")], nodeId=chooser)
        page.wait("!document.getElementById('error').hidden")
        page.command("DOM.setFileInputFiles", files=[str(picture)], nodeId=chooser)
        page.wait("document.getElementById('error').hidden")
        for width in (320, 390):
            page.command(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=800,
                deviceScaleFactor=1,
                mobile=True,
            )
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        unnamed = [
            node
            for node in page.command("Accessibility.getFullAXTree")["nodes"]
            if node.get("role", {}).get("value")
            in ("button", "radio", "checkbox", "combobox", "slider", "img", "image")
            and not node["ignored"]
            and not node.get("name", {}).get("value")
        ]
        assert unnamed == []
        assert all(each.startswith((url, "blob:", "data:")) for each in page.requests)
