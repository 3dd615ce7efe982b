"""`weights=` and `from_pretrained`, from files and from a server on 127.0.0.1."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import PreprocessSpec, from_pretrained, variants, weights
from keras_resnet.nets.named_weights import weighted_layers
from keras_resnet.weights import DownloadError, local_files, open_weights, resolve
from keras_resnet.weights.certificate import certify, source_of
from keras_resnet.weights.files.tensor_file import write_safetensors
from keras_resnet.weights.sources import SOURCES, TORCHVISION_V1, TORCHVISION_V2
from keras_resnet.weights.transfer import dump_tensors

# Most files here show less than the net computes; test_assumed.py has the warning.
pytestmark = [
    pytest.mark.network,
    pytest.mark.filterwarnings("ignore:.*does not show:UserWarning"),
]

PIXELS = PreprocessSpec((20, 20), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), crop_fraction=0.5)


def _write(net, path: pathlib.Path, seed: int = 1, **changes) -> keras.Model:
    """Writes a net's tensors as its library names them; returns the net."""
    model = net.make(seed, **changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, dump_tensors(model, net.layout), None)
    return model


def _equal(one: keras.Model, other: keras.Model) -> None:
    assert [name for name, _ in weighted_layers(one)] == [
        name for name, _ in weighted_layers(other)
    ]
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


# Files.


@pytest.mark.parametrize(
    "name", ["torchvision-grouped", "timm-rs", "timm_repvgg", "hf-basic", "akamaster"]
)
def test_a_file_says_what_it_holds(tmp_path, small_net, name):
    net = small_net(name)
    source = _write(net, tmp_path / "net.safetensors")
    model = from_pretrained(tmp_path / "net.safetensors", input_shape=(None, None, 3))
    _equal(model, source)
    assert model.output_shape == (None, 5)
    assert model.layers[-1].name == "logits"
    free = {
        "name": net.spec.name,
        "input_size": net.spec.input_size,
        "stochastic_depth": net.spec.stochastic_depth,
    }
    assert model.spec.replace(**free) == net.spec
    assert not model.preprocess


def test_forms_of_the_net(tmp_path, small_net):
    net = small_net("torchvision-basic")
    source = _write(net, tmp_path / "net.safetensors")
    path = tmp_path / "net.safetensors"
    top = from_pretrained(path, classifier_activation="softmax", input_shape=(20, 20, 3), name="m")
    assert (top.name, top.layers[-1].name) == ("m", "predictions")
    bare = from_pretrained(path, include_top=False, pooling="avg", input_shape=(20, 20, 3))
    assert bare.output_shape == (None, 16)
    pyramid = from_pretrained(path, features=("C2", "C3"), input_shape=(20, 20, 3))
    assert {level: map.shape[-1] for level, map in pyramid.output.items()} == {"C2": 8, "C3": 16}
    for model in (bare, pyramid):
        for layer in model.layers[1:]:
            for one, other in zip(
                layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(one, other)


def test_what_open_weights_returns_can_be_built(tmp_path, small_net):
    source = _write(small_net("hf"), tmp_path / "net.safetensors")
    opened = open_weights(tmp_path / "net.safetensors", net=small_net("hf").spec)
    assert (opened.classes, opened.preprocess, opened.licence) == (5, None, None)
    assert opened.describe() == "a 11-layer net"
    (file,) = opened.files
    assert file.sha256 == hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
    _equal(from_pretrained(opened, input_shape=(20, 20, 3)), source)


def test_a_file_without_a_classifier(tmp_path, small_net):
    net = small_net("torchvision-basic")
    _write(net, tmp_path / "net.safetensors", include_top=False)
    with pytest.raises(ValueError, match=r"net.safetensors' has no classifier: use `include_top=F"):
        from_pretrained(tmp_path / "net.safetensors")
    model = from_pretrained(tmp_path / "net.safetensors", include_top=False)
    assert model.output_shape == (None, 28, 28, 16)


def test_a_net_that_the_file_does_not_hold(tmp_path, small_net):
    _write(small_net("torchvision-basic"), tmp_path / "net.safetensors")
    message = "does not hold resnet50. Nets of its shapes: none of the catalog"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_pretrained(tmp_path / "net.safetensors", "resnet50")


def test_published_files_are_known_by_their_hash(tmp_path, small_net, monkeypatch):
    """A file of torchvision's under another name brings its preprocessing along."""
    net = small_net("torchvision-basic")
    _write(net, tmp_path / "mine.safetensors")
    digest = hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    published = dataclasses.replace(
        SOURCES["resnet18", "torchvision/v1"], spec=net.spec, hash=f"sha256:{digest[:8]}"
    )
    monkeypatch.setitem(SOURCES, ("x", "torchvision/v1"), published)
    model = from_pretrained(tmp_path / "mine.safetensors")
    assert model.preprocess == TORCHVISION_V1
    assert model.spec is net.spec


def test_damaged_and_missing_files(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"<!DOCTYPE html><html>sign in</html>")
    with pytest.raises(ValueError, match="Received: a web page"):
        from_pretrained(tmp_path / "net.pth")
    with pytest.raises(FileNotFoundError, match=r"No weights file at '.*none.pth'"):
        from_pretrained(tmp_path / "none.pth")


# `weights.load` into a net that is there.


@pytest.fixture
def basic_file(tmp_path, small_net):
    path = tmp_path / "net.safetensors"
    _write(small_net("torchvision-basic"), path)
    return path


def test_load_tells_the_library_by_itself(basic_file, small_net):
    model, source = small_net("torchvision-basic").make(2), small_net("torchvision-basic").make(1)
    assert weights.load(model, str(basic_file)).complete
    _equal(model, source)


def test_load_in_part(tmp_path, small_net):
    net = small_net("torchvision-basic")
    tensors = dump_tensors(net.make(1), net.layout)
    tensors["extra.weight"] = tensors.pop("bn1.bias")
    write_safetensors(tmp_path / "net.safetensors", tensors, None)
    model = net.make(2)
    before = model.get_weights()
    message = "does not fit basic: 1 missing: bn1.bias; 1 unexpected: extra.weight"
    with pytest.raises(ValueError, match=message):
        weights.load(model, tmp_path / "net.safetensors")
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    report = weights.load(model, tmp_path / "net.safetensors", strict=False)
    assert (report.missing, report.unexpected) == (("bn1.bias",), ("extra.weight",))
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_load_names_nets_of_the_files_shapes(tmp_path, small_net):
    net = small_net("akamaster")
    path = tmp_path / "net.safetensors"
    _write(net, path, depths=(3, 3, 3), widths=(16, 32, 64))
    model = net.make(2)
    with pytest.raises(
        ValueError, match=r"of another shape: .*\. Nets of these shapes: cifar_resnet20"
    ):
        weights.load(model, path)


def test_another_number_of_classes(basic_file, small_net):
    model = small_net("torchvision-basic").make(2, classes=7)
    message = "has 5 classes, the net 7: build it with `include_top=False`"
    with pytest.raises(ValueError, match=message):
        weights.load(model, basic_file)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (
            "torchvision",
            {"shortcut": "D"},
            "torchvision computes another function with them, without shortcut='D' (not 'B')",
        ),
        ("timm_repvgg", {"norm_eps": 1e-3}, "norm_eps=0.001 (not 1e-05)"),
        ("timm_v2", {"stride_unit": "last"}, "stride_unit='last' (not 'first')"),
    ],
)
def test_the_same_shapes_but_another_function(tmp_path, small_net, name, changes, told):
    path = tmp_path / "net.safetensors"
    _write(small_net(name), path)
    model = small_net(name).make(2, **changes)
    before = model.get_weights()
    with pytest.raises(ValueError, match=re.escape(told)):
        weights.load(model, path)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("keras", {"stride_placement": "3x3"}),
        ("keras-v2", {"stem_pool": "max"}),
        ("keras_hub", {"stride_placement": "1x1"}),
        ("keras_hub-vd", {"shortcut": "B"}),
    ],
)
def test_the_same_shapes_in_kerass_layouts(tmp_path, small_net, monkeypatch, name, changes):
    net = small_net(name)
    tensors = dump_tensors(net.make(1), net.layout)
    found = local_files.TensorFile(path="x", kind="hdf5", tensors=tensors, metadata={}, sha256="0")
    monkeypatch.setattr(local_files, "read_parts", lambda paths: found)
    (tmp_path / "net.h5").touch()
    assert weights.load(net.make(2), tmp_path / "net.h5").complete
    ((field, value),) = changes.items()
    with pytest.raises(
        ValueError, match=re.escape(f"another function with them, without {field}={value!r}")
    ):
        weights.load(net.make(2, **changes), tmp_path / "net.h5")


def test_weights_that_load_keep_their_preprocessing_out_of_failures(tmp_path, small_net):
    """A `.keras` file of another net changes nothing, the net's preprocessing included."""
    source = small_net("torchvision-basic").make(1)
    source.preprocess = PIXELS
    source.save(tmp_path / "net.keras")
    model, other = small_net("torchvision-basic").make(2), small_net("torchvision").make(2)
    with pytest.raises(ValueError, match="do not fit bottleneck"):
        weights.load(other, tmp_path / "net.keras")
    assert not other.preprocess
    weights.load(model, tmp_path / "net.keras")
    assert model.preprocess == PIXELS
    own = PreprocessSpec((20, 20))
    model.preprocess = own
    weights.load(model, tmp_path / "net.keras")
    assert model.preprocess is own


# Published names.


@pytest.fixture
def published(server, small_net, monkeypatch):
    """A source of torchvision's that lies on the server."""
    net = small_net("torchvision-basic")
    file = server.folder / "resnet18-x.safetensors"
    model = _write(net, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    source = dataclasses.replace(
        SOURCES["resnet18", "torchvision/v1"],
        spec=net.spec,
        url=f"{server.url}/{file.name}",
        hash=f"sha256:{digest[:8]}",
        preprocess=PIXELS,
    )
    monkeypatch.setitem(SOURCES, ("resnet18", "torchvision/v1"), source)
    return model, source


def test_a_published_name(server, published, images):
    wanted, source = published
    model = from_pretrained("torchvision/v1", "resnet18", input_shape=(None, None, 3))
    np.testing.assert_array_equal(_logits(model, images), _logits(wanted, images))
    assert model.preprocess == PIXELS
    assert server.asked == ["/resnet18-x.safetensors"]
    # A second time nobody is asked.
    opened = open_weights("torchvision/v1", net="resnet18")
    assert server.asked == ["/resnet18-x.safetensors"]
    assert opened.licence == source.licence
    (file,) = opened.files
    assert (file.from_cache, file.verified_by, file.url) == (True, "pinned", source.url)
    cache = pathlib.Path(file.path)
    assert cache.parent == server.folder.parent / "home" / "models" / "keras_resnet"


def test_preprocessing_stays_with_the_net(tmp_path, published):
    model = from_pretrained("torchvision/v1", "resnet18", input_shape=(20, 20, 3))
    model.save(tmp_path / "net.keras")
    assert keras.saving.load_model(tmp_path / "net.keras").preprocess == PIXELS


def test_a_wrong_hash(server, published, monkeypatch):
    _, source = published
    wrong = dataclasses.replace(source, hash="sha256:00000000")
    monkeypatch.setitem(SOURCES, ("resnet18", "torchvision/v1"), wrong)
    with pytest.raises(ValueError, match="does not have the hash that was asked for"):
        from_pretrained("torchvision/v1", "resnet18")
    cache = server.folder.parent / "home" / "models" / "keras_resnet"
    assert list(cache.iterdir()) == []


def test_a_web_page_in_the_place_of_weights(server, published, monkeypatch):
    _, source = published
    server.put("page", "<!doctype html><html>403</html>")
    page = dataclasses.replace(source, url=f"{server.url}/page", hash=None)
    monkeypatch.setitem(SOURCES, ("resnet18", "torchvision/v1"), page)
    with pytest.raises(DownloadError, match="the server sent a web page"):
        from_pretrained("torchvision/v1", "resnet18")


def test_a_file_without_the_top_where_one_is_published(server, published, small_net, monkeypatch):
    _, source = published
    file = server.folder / "notop.safetensors"
    _write(small_net("torchvision-basic"), file, seed=7, include_top=False)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    both = dataclasses.replace(source, headless=(f"{server.url}/{file.name}", f"sha256:{digest}"))
    monkeypatch.setitem(SOURCES, ("resnet18", "torchvision/v1"), both)
    from_pretrained("torchvision/v1", "resnet18", include_top=False)
    from_pretrained("torchvision/v1", "resnet18", features=True)
    assert server.asked == ["/notop.safetensors"]
    from_pretrained("torchvision/v1", "resnet18")
    assert server.asked == ["/notop.safetensors", "/resnet18-x.safetensors"]


def test_names_need_their_net(published):
    message = "'torchvision/v1' is published for several nets: say which one (`net=`)"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_pretrained("torchvision/v1")
    with pytest.raises(
        ValueError, match="No weights named 'torchvision/v9' for 'resnet18'. Nearest"
    ):
        from_pretrained("torchvision/v9", "resnet18")
    with pytest.raises(ValueError, match="Unknown model 'resnet19'. Nearest: "):
        from_pretrained("torchvision/v1", "resnet19")


@pytest.mark.parametrize("net", ["resnet50", "resnet50_v1_5", "keras_resnet50"])
def test_all_forms_of_a_net_find_its_sources(net, monkeypatch):
    asked = []
    monkeypatch.setattr(resolve, "_from_source", lambda source, **_: asked.append(source))
    open_weights("torchvision/v2", net=net)
    assert asked == [SOURCES["resnet50", "torchvision/v2"]]


def test_a_folder_does_not_hide_a_published_name(tmp_path, monkeypatch):
    """Data often lie in a folder called `imagenet`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "run").mkdir()
    assert resolve.names_source("imagenet")
    assert not resolve.names_source("run")
    (tmp_path / "akamaster").write_bytes(b"")
    assert not resolve.names_source("akamaster")


# The applications.


@pytest.fixture(scope="module")
def resnet18_file(resnet18, tmp_path_factory):
    """ResNet-18's tensors as torchvision names them."""
    path = tmp_path_factory.mktemp("resnet18") / "resnet18.safetensors"
    weights.save(resnet18, path)
    return path


def test_applications_take_files_of_other_libraries(resnet18_file, resnet18):
    path = resnet18_file
    model = keras_resnet.ResNet18(weights=path, classes=3, input_shape=(None, None, 3))
    _equal(model, resnet18)
    assert model.layers[-1].name == "predictions"
    with pytest.raises(ValueError, match="has 3 classes, the net 1000: build it with `include_top"):
        keras_resnet.ResNet18(weights=path, input_shape=(32, 32, 3))


@pytest.mark.parametrize("function", ["ResNet34", "ResNet18V2", "ResNet18D"])
def test_applications_refuse_another_family(resnet18_file, function):
    path = resnet18_file
    message = f"holds resnet18, not {function.lower()}: use `keras_resnet.from_pretrained("
    with pytest.raises(ValueError, match=re.escape(f"{message}{str(path)!r})`")):
        getattr(keras_resnet, function)(weights=path, classes=3)


def test_applications_take_published_names(published, monkeypatch):
    _, _source = published
    asked = []
    monkeypatch.setattr(resolve, "_from_source", lambda source, **_: asked.append(source) or 1 / 0)
    for function, name, wanted in (
        (keras_resnet.ResNet50, "imagenet", ("resnet50", "imagenet")),
        (keras_resnet.ResNet50V2, "imagenet", ("resnet50v2", "imagenet")),
        (keras_resnet.ResNet18, "torchvision/v1", ("resnet18", "torchvision/v1")),
        (keras_resnet.WideResNet50_2, "torchvision/v2", ("wide_resnet50_2", "torchvision/v2")),
    ):
        with pytest.raises(ZeroDivisionError):
            function(weights=name, include_top=False)
        assert asked.pop() is SOURCES[wanted]
    with pytest.raises(ValueError, match="'imagenet' has 1000 classes: build resnet50 with"):
        keras_resnet.ResNet50(weights="imagenet", classes=10)
    assert not asked  # before anything was fetched
    assert SOURCES["resnet50", "torchvision/v2"].preprocess == TORCHVISION_V2


# The hub.


def _repository(server, net, config, *, name="owner/net", seed=1, revision="main", **files):
    """Puts a repository on the server; returns the net whose weights are in it."""
    folder = f"{name}/resolve/{revision}"
    server.put(f"{folder}/config.json", config)
    for file, content in files.items():
        server.put(f"{folder}/{file}.json", content)
    return _write(net, server.folder / folder / "model.safetensors", seed)


# Architectures of depths that the catalog does not have: their shapes are not compared.
TIMM = {
    "architecture": "resnet11",
    "pretrained_cfg": {"input_size": [3, 24, 24], "crop_pct": 0.9, "license": "apache-2.0"},
}


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("torchvision", "resnet11"), ("timm_v2", "resnetv2_11")],
)
def test_timm(server, small_net, images, name, architecture):
    wanted = _repository(server, small_net(name), {**TIMM, "architecture": architecture})
    model = from_pretrained("hf://owner/net", input_shape=(None, None, 3))
    np.testing.assert_array_equal(_logits(model, images), _logits(wanted, images))
    assert (model.preprocess.size, model.preprocess.crop_fraction) == ((24, 24), 0.9)
    start = "/owner/net/resolve/main/"
    assert server.asked == [f"{start}config.json", f"{start}model.safetensors"]
    assert weights.preprocess_spec("hf://owner/net") == model.preprocess
    opened = open_weights("hf://owner/net")  # from the cache
    assert len(server.asked) == 2
    assert (opened.licence, opened.name) == ("apache-2.0", "hf://owner/net")


def test_revisions(server, small_net, images):
    net = small_net("torchvision-basic")
    config = {**TIMM, "architecture": "resnet8"}
    nets = [_repository(server, net, config, seed=n, revision=f"v{n}") for n in (1, 2)]
    for number, wanted in enumerate(nets, start=1):
        model = from_pretrained(f"hf://owner/net@v{number}", input_shape=(None, None, 3))
        np.testing.assert_array_equal(_logits(model, images), _logits(wanted, images))
    assert server.asked[2] == "/owner/net/resolve/v2/config.json"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnetv2_50x1_bit"}, "which is not supported: BiT"),
        ({"architecture": "skresnet50"}, "is timm's 'skresnet50', which is not supported"),
        ({"architecture": "resnet50", "model_args": {"act_layer": "silu"}}, "with {'act_layer'"),
        ({"model_type": "vit"}, "its config names 'vit'"),
    ],
)
def test_other_nets_are_refused_before_their_weights_are_fetched(server, config, message):
    server.put("owner/net/resolve/main/config.json", config)
    with pytest.raises(ValueError, match=re.escape(message)):
        from_pretrained("hf://owner/net")
    assert all(path.endswith(".json") for path in server.asked)


@pytest.mark.parametrize("early", [True, False])
def test_transformers(server, small_net, images, early):
    """`downsample_in_bottleneck` says where the stride stands; the tensors do not."""
    net = small_net("hf")
    placement = "1x1" if early else "3x3"
    processor = {"size": {"shortest_edge": 160}, "crop_pct": 0.9, "resample": 3}
    _repository(
        server,
        net,
        {"model_type": "resnet", "downsample_in_bottleneck": early},
        preprocessor_config=processor,
    )
    wanted = net.make(1, stride_placement=placement)
    model = from_pretrained("hf://owner/net", input_shape=(None, None, 3))
    assert model.spec.stride_placement == placement
    np.testing.assert_array_equal(_logits(model, images), _logits(wanted, images))
    other = net.make(1, stride_placement="3x3" if early else "1x1")
    assert np.abs(_logits(model, images) - _logits(other, images)).max() > 1e-3
    assert (model.preprocess.size, model.preprocess.crop_fraction) == ((160, 160), 0.9)
    assert open_weights("hf://owner/net").licence == "see the model card"


def test_a_repository_may_lack_a_processor(server, small_net):
    _repository(server, small_net("hf-basic"), {"model_type": "resnet"})
    assert not from_pretrained("hf://owner/net", input_shape=(20, 20, 3)).preprocess
    with pytest.raises(ValueError, match="hf://owner/net does not say how it was evaluated"):
        weights.preprocess_spec("hf://owner/net")


@pytest.mark.parametrize("file", ["preprocessor_config.json", "model.safetensors"])
def test_what_a_server_withholds_is_not_taken_for_absent(server, small_net, file):
    """Else a net would lose its preprocessing, or come from another file, without a word."""
    _repository(server, small_net("hf-basic"), {"model_type": "resnet"}, preprocessor_config={})
    server.refused[f"/owner/net/resolve/main/{file}"] = 403
    with pytest.raises(
        DownloadError, match=f"{file} could not be fetched: the server answered 403"
    ):
        from_pretrained("hf://owner/net")


def test_pytorchs_file_where_there_are_no_safetensors(server, small_net, images):
    """Its content tells the format, so a file of any kind serves under PyTorch's name."""
    net = small_net("torchvision-basic")
    wanted = _repository(server, net, {**TIMM, "architecture": "resnet8"})
    folder = server.folder / "owner/net/resolve/main"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    model = from_pretrained("hf://owner/net", input_shape=(None, None, 3))
    np.testing.assert_array_equal(_logits(model, images), _logits(wanted, images))
    assert [path.rsplit("/", 1)[1] for path in server.asked] == [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
    ]


def test_a_web_page_in_the_place_of_a_config(server):
    server.put("owner/net/resolve/main/config.json", "<html>")
    with pytest.raises(DownloadError, match="config.json could not be .* sent a web page"):
        from_pretrained("hf://owner/net")


def test_without_a_network(server, monkeypatch):
    server.close()
    with pytest.raises(
        DownloadError, match=r"config.json could not be fetched: .* put by hand at "
    ):
        from_pretrained("hf://owner/net")


def test_the_net_that_is_wanted(server, small_net):
    _repository(server, small_net("hf-basic"), {"model_type": "resnet"})
    message = "hf://owner/net does not hold resnet50. Nets of its shapes: none of the catalog"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_pretrained("hf://owner/net", "resnet50")
    with pytest.raises(
        ValueError, match=re.escape("use `keras_resnet.from_pretrained('hf://owner")
    ):
        keras_resnet.ResNet50(weights="hf://owner/net")


@pytest.mark.parametrize("block", ["basic_block_vd", "bottleneck_block", "v2"])
def test_keras_hub(server, images, tmp_path, randomize, block):
    """KerasHub's own preset, as it writes it: backbone and classifier in files of their own."""
    hub = pytest.importorskip("keras_hub")
    vd = block.endswith("_vd")
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[32, 32, 64] if vd else [64],
        input_conv_kernel_sizes=[3, 3, 3] if vd else [7],
        stackwise_num_filters=[64, 72],
        stackwise_num_blocks=[2, 1],
        stackwise_num_strides=[1, 2],
        block_type="bottleneck_block" if block == "v2" else block,
        use_pre_activation=block == "v2",
    )
    converter = hub.layers.ResNetImageConverter(
        image_size=(24, 28), scale=[0.01, 0.02, 0.04], offset=[-1.0, -2.0, -3.0]
    )
    preprocessor = hub.models.ResNetImageClassifierPreprocessor(converter)
    theirs = hub.models.ResNetImageClassifier(
        backbone=backbone, num_classes=5, preprocessor=preprocessor
    )
    randomize(backbone, 1)
    randomize(theirs, 2)
    theirs.save_to_preset(tmp_path / "preset")
    folder = server.folder / "owner/net/resolve/main"
    folder.parent.mkdir(parents=True)
    (tmp_path / "preset").rename(folder)
    model = from_pretrained("hf://owner/net", input_shape=(None, None, 3))
    np.testing.assert_allclose(_logits(model, images), _logits(theirs, images), atol=1e-5)
    assert model.preprocess.size == (24, 28)
    np.testing.assert_allclose(model.preprocess.mean, (100, 100, 75), rtol=1e-5)
    np.testing.assert_allclose(model.preprocess.std, (100, 50, 25), rtol=1e-5)
    bare = from_pretrained("hf://owner/net", include_top=False, input_shape=(None, None, 3))
    assert "logits" not in {layer.name for layer in bare.layers}


@pytest.mark.torch
@pytest.mark.parametrize("early", [True, False])
def test_what_transformers_itself_saves(server, images, early):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[32, 64],
        depths=[2, 1],
        layer_type="bottleneck",
        downsample_in_bottleneck=early,
        num_labels=5,
    )
    theirs = transformers.ResNetForImageClassification(config).eval()
    with torch.no_grad():
        for name, value in theirs.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                value.normal_()
    theirs.save_pretrained(server.folder / "owner/net/resolve/main")
    model = from_pretrained("hf://owner/net", input_shape=(None, None, 3))
    with torch.no_grad():
        wanted = theirs(torch.tensor(np.moveaxis(images, -1, 1).copy())).logits.numpy()
    np.testing.assert_allclose(_logits(model, images), wanted, atol=1e-4)


def test_akamasters_own_file(server, shared, monkeypatch):
    """A PyTorch checkpoint of DataParallel from a server: names, prefix, hash, preprocessing."""
    file = shared / "weights" / "resnet20-12fca82f.th"
    if not file.is_file():
        pytest.skip(f"no {file}")
    server.put(file.name, file.read_bytes())
    source = SOURCES["cifar_resnet20", "akamaster"]
    served = dataclasses.replace(source, url=f"{server.url}/{file.name}")
    monkeypatch.setitem(SOURCES, ("cifar_resnet20", "akamaster"), served)
    model = from_pretrained("akamaster", "cifar_resnet20")
    assert model.spec is variants["cifar_resnet20"]
    assert model.preprocess == source.preprocess
    _equal(model, from_pretrained(file))


# Where the function is another though the shapes are the same.


def test_a_file_given_with_its_net_must_compute_it(tmp_path, small_net):
    net = small_net("timm_repvgg")
    _write(net, tmp_path / "net.safetensors")
    other = net.spec.replace(norm_eps=1e-3, name="other")
    with pytest.raises(ValueError, match="timm computes another function .*norm_eps=0.001"):
        open_weights(tmp_path / "net.safetensors", net=other)
    assert open_weights(tmp_path / "net.safetensors", net=net.spec).spec == net.spec


@pytest.mark.parametrize("early", [False, True])
def test_transformers_config_beside_a_file_is_read(tmp_path, small_net, early):
    _write(small_net("hf"), tmp_path / "model.safetensors")
    config = {"model_type": "resnet", "downsample_in_bottleneck": early}
    (tmp_path / "config.json").write_text(json.dumps(config))
    wanted = "1x1" if early else "3x3"
    assert open_weights(tmp_path / "model.safetensors").spec.stride_placement == wanted


def test_keras_applications_nets_as_keras_3_writes_them(tmp_path):
    theirs = keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=5, classifier_activation=None
    )
    theirs.save(tmp_path / "net.keras")
    theirs.save_weights(tmp_path / "net.weights.h5")
    opened, other = (open_weights(tmp_path / name) for name in ("net.keras", "net.weights.h5"))
    assert {*opened.tensors} == {*other.tensors}
    for layer in theirs.layers:
        for index, weight in enumerate(layer.get_weights()):
            np.testing.assert_array_equal(opened.tensors[f"{layer.name}/{index}"], weight)
            np.testing.assert_array_equal(other.tensors[f"{layer.name}/{index}"], weight)
    ours = from_pretrained(opened, input_shape=(32, 32, 3))
    assert ours.spec.name == "keras_resnet50"
    certificate = certify(ours, opened.tensors, opened.layout, source=source_of(opened))
    assert certificate.compared_with.startswith("keras.applications.ResNet50 of Keras")
    assert certificate.max_difference <= certificate.limit


def test_what_was_saved_says_what_it_is(tmp_path, small_net):
    """A spec that tensors do not show whole, and the preprocessing, stand in the metadata."""
    model = small_net("torchvision").make(stochastic_depth=0.2)
    model.preprocess = TORCHVISION_V2
    keras_resnet.weights.save(model, tmp_path / "net.safetensors")
    opened = open_weights(tmp_path / "net.safetensors")
    assert (opened.spec.stochastic_depth, opened.preprocess) == (0.2, TORCHVISION_V2)
    assert opened.assumed == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{", "net.safetensors' has a damaged spec in its metadata: "),
        (json.dumps({"name": "x"}), "net.safetensors' has a damaged spec in its metadata: "),
        (json.dumps(variants["resnet18"].to_dict()), "tensors of another net than its metadata"),
    ],
    ids=["cut", "incomplete", "another"],
)
def test_metadata_of_another_net_is_refused(tmp_path, small_net, spec, message):
    net = small_net("torchvision-basic")
    tensors = dump_tensors(net.make(), net.layout)
    write_safetensors(tmp_path / "net.safetensors", tensors, {local_files.SPEC_KEY: spec})
    with pytest.raises(ValueError, match=message):
        open_weights(tmp_path / "net.safetensors")
