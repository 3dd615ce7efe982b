"""`keras-resnet convert`: from and to other libraries, with a certificate, or one line alone."""

from __future__ import annotations

import functools
import http.server
import json
import pathlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec, weights
from keras_resnet.weights import open_weights
from keras_resnet.weights.files.tensor_file import read, write_safetensors
from keras_resnet_train.commands import convert

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
SPEC = ResNetSpec("small", (1, 1), (8, 16), classes=5, input_size=16)


# No test changes these.


@pytest.fixture(scope="module")
def net() -> keras_resnet.ResNet:
    model = keras_resnet.build(SPEC)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # kernels have four axes; scales and variances are above 0
        one = rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(one if len(weight.shape) == 1 else rng.normal(0, 0.1, weight.shape))
    model.preprocess = PreprocessSpec((16, 16), (100.0,) * 3, (50.0,) * 3)
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory, net) -> pathlib.Path:
    """The net as a file of torchvision's."""
    path = tmp_path_factory.mktemp("from") / "net.safetensors"
    weights.save(net, path)
    return path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, net) -> pathlib.Path:
    """What a run leaves, as far as `convert` looks at it."""
    folder = tmp_path_factory.mktemp("run")
    net.save(folder / "model.keras")
    return folder


@pytest.fixture
def to(tmp_path) -> pathlib.Path:
    """An empty folder to write in."""
    (tmp_path / "to").mkdir()
    return tmp_path / "to"


def _names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _equal(one: keras.Model, other: keras.Model) -> None:
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# From other libraries.


@pytest.mark.parametrize("name", ["net.keras", "net.weights.h5", "net.safetensors"])
def test_a_file_of_another_library(command: Command, file, to, net, name):
    ended = command("convert", file, "--to", to / name, "--certificate", to / "said.json")
    assert (ended.status, ended.err) == (0, "")
    told, compared, *wrote = ended.out.splitlines()
    assert told == f"{str(file)!r}: a 6-layer net, 38 tensors as named by torchvision"
    assert compared.startswith("largest difference of a logit: ")
    assert compared.endswith(
        f"compared with NumPy {np.__version__} in float64, by the names of torchvision"
    )
    assert wrote == [f"wrote {to / name}", f"wrote {to / 'said.json'}"]
    assert _names(to) == sorted([name, "said.json"])
    said = json.loads((to / "said.json").read_text())
    assert said["holds"] is True
    assert said["source"]["files"][0]["path"] == str(file)
    if name.endswith(".keras"):
        model = keras.saving.load_model(to / name)
    elif name.endswith(".h5"):
        model = keras_resnet.build(SPEC)
        weights.load(model, to / name)
    else:
        model = keras_resnet.from_pretrained(to / name)
    _equal(model, net)


def test_from_library_to_library(command: Command, file, to):
    ended = command("convert", file, "--to", to / "model.safetensors", "--layout", "hf")
    assert (ended.status, ended.err) == (0, "")
    assert _names(to) == ["config.json", "model.safetensors"]
    tensors = open_weights(to / "model.safetensors").tensors
    assert any(name.startswith("resnet.encoder.") for name in tensors)


def test_without_the_top(command: Command, file, to, net):
    ended = command("convert", file, "--to", to / "net.keras", "--no-top")
    assert (ended.status, ended.err) == (0, "")
    assert "difference" not in ended.out
    model = keras.saving.load_model(to / "net.keras")
    assert "logits" not in {layer.name for layer in model.layers}
    np.testing.assert_array_equal(model.get_weights()[0], net.get_weights()[0])


def test_one_of_several_nets(command: Command, tmp_path, file, to, net):
    both = {
        f"{name}.{key}": array
        for key, array in read(file).tensors.items()
        for name in ("student", "teacher")
    }
    path = tmp_path / "both.safetensors"
    write_safetensors(path, both)
    ended = command("convert", path, "--to", to / "net.keras", "--prefix", "teacher")
    assert (ended.status, ended.err) == (0, "")
    message = f"the net was loaded (prefix 'teacher.'); left out {len(both) // 2} of student"
    assert ended.out.count(message) == 1
    _equal(keras.saving.load_model(to / "net.keras"), net)


def test_images_of_ones_own(command: Command, tmp_path, file, to):
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype("uint8")
    np.save(tmp_path / "images.npy", images)
    ended = command(
        "convert",
        file,
        "--to",
        to / "net.keras",
        "--inputs",
        tmp_path / "images.npy",
        "--certificate",
        to / "said.json",
    )
    assert (ended.status, ended.err) == (0, "")
    said = json.loads((to / "said.json").read_text())
    assert said["inputs"] == {"shape": [3, 16, 16, 3], "given": True}


def test_akamasters_checkpoint(command: Command, shared, to):
    """PyTorch's pickle, known by its hash: net and preprocessing come along."""
    path = shared / "weights" / "resnet20-12fca82f.th"
    if not path.is_file():
        pytest.skip(f"no {path}")
    ended = command("convert", path, "--to", to / "net.keras")
    assert (ended.status, ended.err) == (0, "")
    assert ": cifar_resnet20, " in ended.out
    model = keras.saving.load_model(to / "net.keras")
    assert model.spec == keras_resnet.variants["cifar_resnet20"]
    assert model.preprocess == keras_resnet.weights.preprocess_spec("akamaster")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[pathlib.Path]:
    """A folder that a server on 127.0.0.1 shows as the hub."""
    folder = tmp_path / "hub"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.network
def test_the_hub(command: Command, hub, file, to, net):
    folder = hub / "timm" / "resnet18.x" / "resolve" / "main"
    folder.mkdir(parents=True)
    shutil.copy(file, folder / "model.safetensors")
    config = {"architecture": "resnet8", "pretrained_cfg": {"license": "apache-2.0"}}
    (folder / "config.json").write_text(json.dumps(config))
    ended = command(
        "convert",
        "hf://timm/resnet18.x",
        "--to",
        to / "net.keras",
        "--certificate",
        to / "said.json",
    )
    assert ended.status == 0
    model = keras.saving.load_model(to / "net.keras")
    _equal(model, net)
    assert model.preprocess.size == (224, 224)
    source = json.loads((to / "said.json").read_text())["source"]
    assert (source["name"], source["licence"]) == ("hf://timm/resnet18.x", "apache-2.0")
    assert source["files"][0]["url"].endswith("/timm/resnet18.x/resolve/main/model.safetensors")


# To other libraries.


@pytest.mark.parametrize(
    ("source", "layout"), [("", "torchvision"), ("model.keras", "timm"), ("", "hf")]
)
def test_a_run(command: Command, run_folder, to, net, layout, source):
    ended = command(
        "convert",
        run_folder / source,
        "--to",
        to / "model.safetensors",
        "--layout",
        layout,
        "--certificate",
        to / "said.json",
    )
    assert (ended.status, ended.err) == (0, "")
    assert _names(to) == ["config.json"] * (layout == "hf") + ["model.safetensors", "said.json"]
    _equal(keras_resnet.from_pretrained(to / "model.safetensors"), net)
    said = json.loads((to / "said.json").read_text())
    assert said["holds"] is True
    assert said["source"] == {"name": str(run_folder / "model.keras")}
    assert said["preprocess"] == net.preprocess.to_dict()


def test_a_net_that_ends_in_probabilities(command: Command, tmp_path, to, net):
    """Logits are what is compared and what the other library returns."""
    top = keras_resnet.build(SPEC, classifier_activation="softmax")
    top.set_weights(net.get_weights())
    top.save(tmp_path / "net.keras")
    ended = command("convert", tmp_path / "net.keras", "--to", to / "net.safetensors")
    assert (ended.status, ended.err) == (0, "")
    _equal(keras_resnet.from_pretrained(to / "net.safetensors"), net)


# What is refused leaves one line, and nothing else.


@pytest.fixture
def refused(command: Command, to) -> Callable[..., str]:
    """Runs a command that must be refused; returns the line that it says."""

    def run(*words: object) -> str:
        before = _names(to)
        ended = command("convert", *words)
        assert ended.status == 1
        (line,) = ended.err.splitlines()
        assert line.startswith("Error: ")
        assert _names(to) == before
        return line

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "{to}/net.pth"), "--to must end in .keras, .weights.h5, .safetensors. Received"),
        (("--to", "{to}/net.h5"), "--to must end in .keras, .weights.h5, .safetensors. Received"),
        (("--to", "{to}/no/net.keras"), "No folder .*/to/no to write net.keras in"),
        (("--to", "{to}/n.keras", "--certificate", "{to}/no/c.json"), "No folder .*write c.json"),
        (("--to", "{to}/n.keras", "--layout", "hf"), "--layout applies to --to FILE.safetensors"),
        (("--to", "{to}/n.keras", "--no-top", "--certificate", "{to}/c"), "compares logits, which"),
        (("--to", "{to}/n.keras", "--net", "resnet51"), "Unknown model 'resnet51'. Nearest: "),
        (("--to", "{to}/n.keras", "--net", "resnet50"), "does not hold resnet50. Nets of its"),
        (("--to", "{to}/n.keras", "--inputs", "{to}/none.npy"), "none.npy is not a readable .npy"),
        (
            ("--to", "{to}/m.safetensors", "--layout", "hf", "--no-top"),
            "ResNetForImageClassification needs a classifier, which 'small' does not have",
        ),
    ],
)
def test_bad_options(refused, file, to, words, message):
    assert re.search(message, refused(file, *(word.format(to=to) for word in words)))


def test_files_that_are_there_stay(refused, file, to):
    (to / "net.keras").write_text("mine")
    line = refused(file, "--to", to / "net.keras")
    assert line.endswith("net.keras exists: remove it or choose another name")
    assert (to / "net.keras").read_text() == "mine"
    (to / "config.json").write_text("{}")
    line = refused(
        file, "--to", to / "m.safetensors", "--layout", "hf", "--certificate", to / "c.json"
    )
    assert "config.json' exists: transformers needs the net's config beside its weights" in line


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((224, 224, 3)), r"must hold \(images, height, width, channels\). Received: an"),
        (np.zeros((0, 224, 224, 3)), r"must hold \(images, height, width, channels\)"),
        (np.zeros((1, 32, 32, 3)), r"of \(16, 16, 3\), .* an array of \(1, 32, 32, 3\)"),
        (np.array([["a"]], dtype=object), "is not a readable .npy file"),
    ],
    ids=["rank", "none", "size", "pickle"],
)
def test_bad_images(refused, tmp_path, file, to, array, message):
    np.save(tmp_path / "images.npy", array, allow_pickle=True)
    line = refused(file, "--to", to / "net.keras", "--inputs", tmp_path / "images.npy")
    assert re.search(message, line)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.pth", "No weights file at 'none.pth'"),
        ("imagenet", "'imagenet' is published for several nets: say which one"),
        ("hf://timm", "The name of a net of the hub must be `hf://owner/repository`"),
        ("{to}", "The folder '.*/to' holds no weights"),
    ],
)
def test_bad_sources(refused, to, source, message):
    assert re.search(message, refused(source.format(to=to), "--to", to / "net.keras"))


def test_published_names_need_one_that_there_is(refused, to):
    line = refused("torchvision/v9", "--to", to / "net.keras", "--net", "resnet50")
    assert "No weights named 'torchvision/v9' for 'resnet50'. Nearest: torchvision/v" in line


def test_damaged_sources(refused, tmp_path, to):
    for name in ("net.keras", "net.safetensors", "net.th"):
        (tmp_path / name).write_bytes(b"<html>sign in</html>")
        line = refused(tmp_path / name, "--to", to / "net.weights.h5")
        assert name in line


def test_our_own_files_go_to_other_libraries_only(refused, run_folder, to):
    line = refused(run_folder, "--to", to / "net.keras")
    assert line.endswith(
        "model.keras is a file of this package: convert it with --to FILE.safetensors"
    )
    line = refused(run_folder, "--to", to / "net.safetensors", "--no-top")
    assert "--no-top applies to weights of other libraries" in line


def test_what_a_library_cannot_express(refused, tmp_path, to):
    """The net that runs on CIFAR-10 train, of option A."""
    keras_resnet.build("cifar_resnet8").save(tmp_path / "model.keras")
    line = refused(tmp_path, "--to", to / "net.safetensors", "--certificate", to / "c.json")
    assert "torchvision has no net like cifar_resnet8: shortcut='A' (not 'B')" in line


@pytest.mark.parametrize("options", [("--net", "resnet50"), ("--prefix", "x.")])
def test_options_of_other_libraries_are_not_ignored(refused, run_folder, to, options):
    line = refused(run_folder, "--to", to / "net.safetensors", *options)
    assert f"{options[0]} applies to weights of other libraries" in line


def test_images_are_not_ignored_without_the_top(refused, file, to):
    line = refused(file, "--to", to / "net.keras", "--no-top", "--inputs", to / "none.npy")
    assert "--inputs are images to compare logits on, which --no-top leaves out" in line


# A missing proof does not block the product.


@pytest.fixture
def unproven(command: Command, to) -> Callable[..., Any]:
    """Converts to `net.*`, with and without `--certificate`; returns why there is no proof."""

    def run(source: object, name: str) -> str:
        ended = command("convert", source, "--to", to / name)
        assert (ended.status, ended.err) == (0, "")
        first = (to / name).read_bytes()
        (to / name).unlink()
        again = command("convert", source, "--to", to / name, "--certificate", to / "c.json")
        assert again.status == 1
        assert again.err.startswith(f"Error: {to / name} was written without a certificate")
        assert again.out == ended.out
        assert _names(to) == [name]
        assert len(first) == len((to / name).read_bytes())
        (line,) = (line for line in again.out.splitlines() if line.startswith("not compared: "))
        return line

    return run


def test_without_a_reference(unproven, monkeypatch, file, to, net):
    def missing(*arguments: Any, **options: Any) -> None:
        raise weights.certificate.NoReferenceError("there is no other implementation here")

    monkeypatch.setattr(convert, "certify", missing)
    line = unproven(file, "net.keras")
    assert line == "not compared: there is no other implementation here"
    _equal(keras.saving.load_model(to / "net.keras"), net)


def test_a_comparison_that_proves_nothing(unproven, tmp_path):
    """Zero weights: equal logits whatever the image."""
    model = keras_resnet.build(SPEC)
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    weights.save(model, tmp_path / "zero.safetensors")
    line = unproven(tmp_path / "zero.safetensors", "net.keras")
    assert "returns the same logits for every input, so a comparison proves nothing" in line


def test_a_net_without_a_classifier(unproven, tmp_path):
    keras_resnet.build(SPEC, include_top=False).save(tmp_path / "net.keras")
    line = unproven(tmp_path / "net.keras", "net.safetensors")
    assert line == "not compared: it has no classifier, so there are no logits"


def test_a_difference_writes_nothing(refused, monkeypatch, file, to):
    """A net of another function is not passed on, whatever its shapes."""
    wrong = SPEC.replace(norm_eps=1e-2)
    build = convert.from_pretrained

    def other(opened: Any, **form: Any) -> Any:
        model = keras_resnet.build(wrong, input_shape=(16, 16, 3))
        model.set_weights(build(opened, **form).get_weights())
        return model

    monkeypatch.setattr(convert, "from_pretrained", other)
    line = refused(file, "--to", to / "net.keras", "--certificate", to / "c.json")
    assert re.search(r"the logits differ by .*, more than .*: nothing was written", line)


@pytest.mark.parametrize("name", ["net.keras", "net.weights.h5", "net.safetensors"])
def test_a_full_disk_leaves_no_part_of_a_file(refused, monkeypatch, file, to, name):
    def full(*arguments: Any, **options: Any) -> None:
        pathlib.Path(arguments[-1]).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(keras_resnet.ResNet, "save", full)
    monkeypatch.setattr(keras_resnet.ResNet, "save_weights", full)
    if name.endswith("safetensors"):
        # Half of a file stands under a temporary name when the disk is full.
        monkeypatch.setattr(
            "keras_resnet.weights.files.tensor_file.os.replace", lambda old, new: full(old)
        )
    line = refused(file, "--to", to / name, "--certificate", to / "c.json")
    assert line == "Error: No space left on device"
