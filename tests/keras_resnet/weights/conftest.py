"""Small nets of every layout with random weights, and a server of files on 127.0.0.1."""

from __future__ import annotations

import collections
import dataclasses
import functools
import http.server
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet import ResNetSpec, build, variants
from keras_resnet.weights.layouts import LAYOUTS, Layout

# Two stages: the first has a unit without a projection, the second opens with one.
BASIC = ResNetSpec("basic", (2, 1), (8, 16), classes=5, input_size=20)
BOTTLENECK = BASIC.replace(name="bottleneck", branch="bottleneck")
_SIZE: dict[str, Any] = {
    "depths": (2, 1),
    "widths": (8, 16),
    "stem_width": None,
    "classes": 5,
    "input_size": 20,
}

# Layout and net, by a name for the test's.
NETS: dict[str, tuple[str, ResNetSpec]] = {
    "torchvision": ("torchvision", BOTTLENECK),
    "torchvision-basic": ("torchvision", BASIC),
    "torchvision-grouped": ("torchvision", BOTTLENECK.replace(groups=4, base_width=32)),
    "timm-rs": ("timm", variants["resnetrs50"].replace(**_SIZE)),
    "timm-d": ("timm", variants["resnet18d"].replace(**_SIZE)),
    "timm-tiered": ("timm", variants["timm_seresnet18"].replace(**_SIZE, stem="tiered")),
    "timm-eca": ("timm", variants["ecaresnetlight"].replace(**_SIZE)),
    "timm-gn": ("timm", variants["resnet50_gn"].replace(**{**_SIZE, "widths": (32, 64)})),
    "timm_v2-d": ("timm_v2", variants["resnetv2_50d"].replace(**_SIZE)),
    "timm_v2": ("timm_v2", variants["resnetv2_50"].replace(**_SIZE)),
    "timm_v2-basic": ("timm_v2", variants["resnetv2_18"].replace(**_SIZE)),
    "timm_repvgg": ("timm_repvgg", variants["repvgg_a0"].replace(**_SIZE)),
    "hf": ("hf", BOTTLENECK.replace(stride_placement="1x1")),
    "hf-basic": ("hf", BASIC),
    "akamaster": ("akamaster", BASIC.replace(shortcut="A", stem="cifar")),
    "keras": ("keras", variants["keras_resnet50"].replace(**_SIZE)),
    "keras-v2": ("keras", variants["keras_resnet50v2"].replace(**_SIZE)),
    "keras_hub": ("keras_hub", BOTTLENECK),
    "keras_hub-vd": ("keras_hub", variants["resnet18vd"].replace(**_SIZE)),
    "keras_hub-v2": ("keras_hub", variants["resnetv2_50"].replace(**_SIZE)),
    "mlperf_tiny": ("mlperf_tiny", variants["mlperf_tiny_resnet8"]),
}


@dataclasses.dataclass(frozen=True)
class Net:
    """A small net and the layout that its weights are written in."""

    layout: Layout
    spec: ResNetSpec
    make: Callable[..., keras.Model]


@pytest.fixture(scope="session")
def built() -> dict[str, list[keras.Model]]:
    """Nets that no test holds, by what they are: building takes longer than drawing anew."""
    return collections.defaultdict(list)


@pytest.fixture
def small_net(
    randomize: Callable[[keras.Model, int], None], built: dict[str, list[keras.Model]]
) -> Iterator[Callable[[str], Net]]:
    """A function that returns the net of a name in `NETS`; its `make()` builds it, randomized."""
    lent: list[tuple[str, keras.Model]] = []

    def get(name: str) -> Net:
        layout, spec = NETS[name]

        def make(seed: int = 1, **changes: Any) -> keras.Model:
            form = {"input_shape": (None, None, 3)} | {
                key: changes.pop(key)
                for key in ("include_top", "input_shape", "features", "classes")
                if key in changes
            }
            key = f"{name} {changes} {form}"
            model = built[key].pop() if built[key] else build(spec.replace(**changes), **form)
            lent.append((key, model))
            model.preprocess = None
            randomize(model, seed)
            return model

        return Net(LAYOUTS[layout], spec, make)

    yield get
    for key, model in lent:
        built[key].append(model)


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest, small_net: Callable[[str], Net]) -> Net:
    """Each of the nets in turn."""
    return small_net(request.param)


@pytest.fixture(scope="session")
def resnet18() -> keras.Model:
    """ResNet-18 for 3 classes; no test changes it."""
    return build("resnet18", classes=3, input_shape=(32, 32, 3))


@pytest.fixture
def images() -> np.ndarray:
    """Normalised images of an odd height and an even width."""
    return np.random.default_rng(3).normal(size=(2, 21, 26, 3)).astype("float32")


class Server:
    """Files in a folder over HTTP, and the paths that were asked for."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.refused: dict[str, int] = {}  # paths and the status that they are answered with
        handler = functools.partial(_Handler, self, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def put(self, path: str, content: bytes | str | dict[str, Any]) -> pathlib.Path:
        """Serves bytes, a text, or a dict as JSON."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(content) if isinstance(content, dict) else content
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, server: Server, *args: Any, **kwargs: Any) -> None:
        self._record = server
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self._record.asked.append(self.path)
        if self.path in self._record.refused:
            self.send_error(self._record.refused[self.path])
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on 127.0.0.1 that stands for the hub; downloads go to a cache of the test's own."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = Server(folder)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    yield server
    server.close()
