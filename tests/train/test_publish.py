"""`keras-resnet publish`: the folder, its card, and its upload."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import json
import pathlib
import threading
from typing import Any

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet_train import rundir

pytestmark = pytest.mark.tf


def test_a_net_that_timm_does_not_have(finished_run, command, tmp_path):
    folder = tmp_path / "published"
    ended = command("publish", finished_run, folder, "--licence", "apache-2.0")
    assert (ended.status, ended.err) == (0, "")
    assert "timm cannot read this net, so it is written as model.keras: timm has no" in ended.out
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "curves.png", "history.csv", "labels.txt", "model.keras", "training.json"),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["published"]
    model = keras.saving.load_model(folder / "model.keras")
    run = rundir.open_run(finished_run)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(model.predict(images), run.model.predict(images), atol=1e-6)
    assert model.preprocess == run.preprocess
    again = keras_resnet.from_pretrained(folder / "model.keras")
    np.testing.assert_allclose(again.predict(images), run.model.predict(images), atol=1e-6)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "labels.txt").read_text(encoding="utf-8").split() == list("0123456789")
    card = (folder / "README.md").read_text(encoding="utf-8")
    fields = _front_matter(card)
    assert fields["license"] == "apache-2.0"
    assert fields["library_name"] == "keras"
    measured = run.directory.metrics["test"]
    assert fields["model-index"][0]["results"][0]["metrics"][0]["value"] == measured["accuracy"]
    low, high = (f"{100 * end:.2f}" for end in measured["accuracy_interval"])
    assert f"{100 * measured['accuracy']:.2f} % ({low} to {high})" in card
    assert "| Images | 1,257 train" in card
    assert "![Accuracy and loss against the epoch](curves.png)" in card
    assert "None: there is no other implementation" in card
    assert str(finished_run) not in card


def _front_matter(card: str) -> dict[str, Any]:
    lines = card.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, value in (line.split(": ", 1) for line in lines)}


@pytest.fixture
def timm_run(copied_run: pathlib.Path, monkeypatch) -> pathlib.Path:
    """A run whose net is one of timm's, with weights that were not trained."""
    run = rundir.open_run(copied_run)
    model = keras_resnet.build("resnet18", classes=10, input_shape=(32, 32, 1), seed=0)
    preprocess = dataclasses.replace(run.preprocess, size=(32, 32))
    changed = dataclasses.replace(run, spec=model.spec, model=model, preprocess=preprocess)
    monkeypatch.setattr(rundir, "open_run", lambda path, which="auto": changed)
    return copied_run


def test_a_net_of_timm(timm_run, command, tmp_path):
    folder = tmp_path / "published"
    ended = command("publish", timm_run, folder)
    assert (ended.status, ended.err) == (0, "")
    assert "no licence is stated" in ended.out
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["architecture"], config["num_classes"]) == ("resnet18", 10)
    assert config["label_names"] == list("0123456789")
    certificate = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    assert certificate["holds"]
    run = rundir.open_run(timm_run)
    again = keras_resnet.from_pretrained(folder / "model.safetensors")
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
    np.testing.assert_allclose(again.predict(images), run.model.predict(images), atol=1e-5)
    assert again.preprocess == run.preprocess
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert _front_matter(card)["library_name"] == "timm"
    assert "license" not in _front_matter(card)
    assert 'timm.create_model("local-dir:FOLDER", pretrained=True)' in card
    assert "Not stated by the publisher." in card
    timm = pytest.importorskip("timm", reason="reading by timm needs timm and PyTorch")
    torch = pytest.importorskip("torch")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        logits = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(logits, run.model.predict(images), atol=1e-4)


def test_nothing_is_left_of_a_failed_publication(timm_run, command, tmp_path, monkeypatch):
    from keras_resnet.weights import Certificate

    monkeypatch.setattr(Certificate, "holds", False)
    ended = command("publish", timm_run, tmp_path / "published")
    assert ended.status == 1
    assert "nothing was written" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_directories_of_this_machine_stay_here(copied_run, command, tmp_path, monkeypatch):
    run = rundir.open_run(copied_run)
    data = dataclasses.replace(run.config.data, dataset=str(tmp_path / "pets"), data_dir="/data")
    changed = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    monkeypatch.setattr(rundir, "open_run", lambda path, which="auto": changed)
    folder = tmp_path / "published"
    ended = command("publish", copied_run, folder)
    assert "left out of training.json: data.data_dir" in ended.out
    for name in ("README.md", "training.json"):
        text = (folder / name).read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        assert "/data" not in text
    config = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert (config["data"]["dataset"], config["data"]["data_dir"]) == ("pets", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--push", "name"], "`--push` must be OWNER/NAME. Received: 'name'"),
        (["--private"], "`--private` applies to `--push OWNER/NAME`"),
        (["--licence", "my own"], "`--licence` must be an SPDX identifier. Received: 'my own'"),
    ],
)
def test_wrong_options(finished_run, command, tmp_path, words, message):
    ended = command("publish", finished_run, tmp_path / "published", *words)
    assert (ended.status, ended.out) == (1, "")
    assert message in ended.err
    assert not (tmp_path / "published").exists()


def test_folders_are_not_replaced(finished_run, command, tmp_path):
    ended = command("publish", finished_run, tmp_path)
    assert ended.status == 1
    assert f"{tmp_path} exists: remove it or choose another DIR" in ended.err
    ended = command("publish", tmp_path, tmp_path / "published")
    assert "is not a run: it has no config.json" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_push(finished_run, command, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="uploading needs huggingface_hub")
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def __init__(self, **options: Any) -> None:
            calls.append(("api", options))

        def create_repo(self, repository: str, **options: Any) -> str:
            calls.append(("create", {"repository": repository, **options}))
            return f"http://127.0.0.1:1/{repository}"

        def upload_folder(self, *, folder_path: pathlib.Path, **options: Any) -> None:
            files = sorted(path.name for path in folder_path.iterdir())
            calls.append(("upload", {"files": files, **options}))

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    words = ("--push", "me/digits", "--private")
    ended = command("publish", finished_run, tmp_path / "published", *words)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.endswith("uploaded: http://127.0.0.1:1/me/digits\n")
    (_, options), (_, created), (_, uploaded) = calls
    assert options["endpoint"] == "http://127.0.0.1:1"
    assert created == {"repository": "me/digits", "private": True, "exist_ok": True}
    assert uploaded["repo_id"] == "me/digits"
    assert {"README.md", "model.keras", "labels.txt"} <= set(uploaded["files"])
    card = (tmp_path / "published" / "README.md").read_text(encoding="utf-8")
    assert 'hf_hub_download("me/digits", "model.keras")' in card


def test_push_without_huggingface_hub(finished_run, command, tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if "hugging" in name else real(name, *a)
    )
    ended = command("publish", finished_run, tmp_path / "published", "--push", "me/digits")
    assert ended.status == 1
    assert "needs huggingface_hub, which is not installed: pip install 'keras3-resnet[hub]'" in (
        ended.err
    )
    assert not (tmp_path / "published").exists()


@pytest.mark.network
def test_push_to_a_server(finished_run, command, tmp_path, monkeypatch):
    """The real client sends every file to the address of HF_ENDPOINT."""
    pytest.importorskip("huggingface_hub", reason="uploading needs huggingface_hub")
    received: dict[str, Any] = {}

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path == "/api/repos/create":
                received["repository"] = json.loads(body)
                self.answer({"url": f"{url}/me/digits", "id": "me/digits"})
            elif self.path.endswith("/preupload/main"):
                files = json.loads(body)["files"]
                self.answer(
                    {
                        "files": [
                            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                            for file in files
                        ]
                    }
                )
            elif self.path.endswith("/commit/main"):
                rows = [json.loads(line) for line in body.splitlines()]
                received["files"] = {
                    row["value"]["path"]: base64.b64decode(row["value"]["content"])
                    for row in rows
                    if row["key"] == "file"
                }
                self.answer({"commitUrl": f"{url}/me/digits/commit/{'0' * 40}", "commitOid": "0"})
            else:
                self.answer({})

        def do_GET(self) -> None:
            self.answer({"id": "me/digits", "sha": "0" * 40, "siblings": []})

        def answer(self, values: dict[str, Any]) -> None:
            content = json.dumps(values).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        try:
            ended = command("publish", finished_run, tmp_path / "published", "--push", "me/digits")
        finally:
            server.shutdown()
            thread.join()
    assert ended.status == 0, ended.err
    assert ended.out.endswith(f"uploaded: {url}/me/digits\n")
    assert received["repository"]["name"] == "digits"
    written = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    assert received["files"] == written
