"""Public reports of people who put a residual net into an app, each as one case of a table.

The reports are those of the first users' review: files in the wrapping of other programs, files of
Keras with a net and something else, and idioms of keras.applications. Each is answered with the
right function or with one line that helps.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import keras_resnet
from benchmarks.wrappings import ONE, SPEC, WRAPPINGS, body, random_net, tensors_of, under, write
from keras_resnet import PreprocessSpec, ResNet, ResNetSpec, build, from_pretrained, weights
from keras_resnet.finetune import freeze, with_classes
from keras_resnet.weights import open_weights
from keras_resnet.weights.files.tensor_file import write_safetensors
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.pretrained import apply
from keras_resnet.weights.transfer import dump_tensors

Folder = pathlib.Path
TINY = ResNetSpec("tiny", (1, 2), (4, 6), stem="cifar", classes=3, input_size=8)


def _run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def _images(size: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(2, size, size, channels)).astype("float32")


@pytest.fixture(scope="module")
def source() -> keras.Model:
    """A net that no test changes."""
    return random_net()


@pytest.fixture(scope="module")
def targets() -> dict[bool, keras.Model]:
    """Nets that the wrapped files are loaded into, with and without the classifier."""
    return {True: build(SPEC), False: build(SPEC, include_top=False, pooling="avg")}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_wrapped_net(source, targets, name):
    wrapping = WRAPPINGS[name]
    values = wrapping.wrap(dump_tensors(source, LAYOUTS[wrapping.layout]))
    if wrapping.choose:
        with pytest.raises(ValueError, match=r"holds 2 nets; choose one: prefix='.*', prefix='"):
            open_weights(values)
    opened = open_weights(values, prefix=wrapping.choose)
    assert opened.prefix == wrapping.prefix
    assert (opened.classes is not None) == wrapping.classifier
    assert wrapping.left_out.items() <= opened.left_out.items()
    assert opened.tensors.keys() >= tensors_of(wrapping, source).keys()
    target = targets[wrapping.classifier]
    target.set_weights([0 * weight for weight in target.get_weights()])
    assert apply(target, opened).complete
    pooled = keras.Model(source.input, source.get_layer("pool").output)
    wanted = _run(source if wrapping.classifier else pooled, _images())
    np.testing.assert_array_equal(_run(target, _images()), wanted)


# Files.


def caffes_strides(folder: Folder, source: keras.Model) -> None:
    """faster-rcnn.pytorch#293, vision#191: torchvision's names, strides in the 1x1."""
    caffe = build(SPEC.replace(name="caffe", stride_placement="1x1"))
    caffe.set_weights(source.get_weights())
    path = write(folder / "net.pth", dump_tensors(source, LAYOUTS["torchvision"]))
    with pytest.warns(UserWarning, match="does not show 7 properties .* stride_placement='3x3', "):
        from_pretrained(path)
    with pytest.warns(UserWarning, match="is read as caffe, with stride_placement='1x1'; nets of"):
        named = from_pretrained(path, caffe.spec)
    np.testing.assert_array_equal(_run(named, _images()), _run(caffe, _images()))
    assert "stride_placement" in open_weights(path).assumed


def blurred_net_of_timm(folder: Folder, source: keras.Model) -> None:
    """`resnetblur50` as `model.safetensors` beside timm's config.json."""
    write_safetensors(
        folder / "model.safetensors", dump_tensors(source, LAYOUTS["torchvision"]), None
    )
    (folder / "config.json").write_text(json.dumps({"architecture": "resnetblur11"}))
    assert open_weights(folder).spec.blur == 3
    message = r"^'.*safetensors' holds .*net, not resnet50: use `keras_resnet.from_pretrained"
    with pytest.raises(ValueError, match=message):
        keras_resnet.ResNet50(weights=folder / "model.safetensors", include_top=False)


class Settings:
    """A user's class."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def objects_beside_the_tensors(folder: Folder, source: keras.Model) -> None:
    """Arrays, sets, defaultdicts, paths, dates and a program's own classes."""
    beside = {
        "array": np.arange(4),
        "objects": np.array([None, "a"], dtype=object),
        "names": np.array(["a", "b"]),
        "set": {1, 2},
        "frozen": frozenset("ab"),
        "counts": collections.defaultdict(int, a=1),
        "path": pathlib.PurePosixPath("/a/b"),
        "date": datetime.datetime(2020, 1, 2),
        "args": argparse.Namespace(lr=0.1, inner=argparse.Namespace(a=1)),
        "settings": Settings(lr=0.1, values=[1, 2]),
        "class": Settings,
        "function": collections.OrderedDict,
        "keys": {(1, 2): 3, np.int64(4): 5},
        "complex": 3j,
        "bytes": b"x" * 100,
        "generator": np.random.default_rng(0),
        "legacy": np.random.RandomState(0),
        "state": np.random.RandomState(0).get_state(),
    }
    tensors = dump_tensors(source, LAYOUTS["torchvision"])
    path = write(folder / "net.pth", {"model": tensors, **beside})
    left_out = open_weights(path).left_out
    assert left_out["argparse.Namespace"] == 1
    assert any(name.endswith("Settings") for name in left_out)
    with pytest.warns(UserWarning, match=r"left out 1 of array, 1 of state, 2 of numpy.ndarray, "):
        model = from_pretrained(path, SPEC)
    np.testing.assert_array_equal(_run(model, _images()), _run(source, _images()))


def a_pickled_model(folder: Folder, source: keras.Model) -> None:
    """torch.save(model, path)."""
    with pytest.raises(ValueError, match=r"object of '.*Settings'; .*torch.save\(model.state_dict"):
        open_weights(_pickled(folder / "net.pth", Settings(conv1=ONE)))


def _pickled(path: pathlib.Path, value: Any) -> pathlib.Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(value, protocol=2))
    return path


def a_head_of_several_layers(folder: Folder, source: keras.Model) -> None:
    """Torch heads fc.0 and fc.3."""
    values = body(dump_tensors(source, LAYOUTS["torchvision"]))
    values |= {"fc.0.weight": np.ones((8, 64)), "fc.3.weight": np.ones((2, 8))}
    message = "it holds fc.0.weight (8, 64), fc.3.weight (2, 8): use `include_top=False` to read"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_pretrained(values, SPEC)
    with pytest.raises(ValueError, match=re.escape(message)):
        weights.load(source, values)
    with pytest.warns(UserWarning, match="left out 2 of fc"):
        from_pretrained(values, SPEC, include_top=False)


def keras_retinanet(folder: Folder, source: keras.Model) -> None:
    """keras-resnet's small nets: Keras 2's names without biases, two kinds of padding."""
    with pytest.raises(ValueError, match="a net of keras-resnet with basic branches"):
        open_weights({"res2a_branch2a/kernel": ONE, "bn2a_branch2a/gamma": ONE[0]})


def detectron2s_pickles(folder: Folder, source: keras.Model) -> None:
    """R-50.pkl, in Caffe2's names: BGR, strides in the 1x1, norms as an affine map."""
    model = build(SPEC.replace(stride_placement="1x1"), include_top=False)
    for layer in model.layers:
        stored = source.get_layer(layer.name).get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            stored[2:] = 0 * stored[2], 0 * stored[3] + np.float32(1 - 1e-5)
        layer.set_weights(stored)
    theirs = {}
    for name, array in dump_tensors(source, LAYOUTS["torchvision"]).items():
        if _caffe2(name):
            theirs[_caffe2(name)] = array
    path = folder / "R-11.pkl"
    for protocol in (2, 5):
        content = {"model": theirs, "__author__": "MSRA", "matching_heuristics": True}
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        opened = open_weights(path)
        assert "stride_placement" in opened.assumed
        assert opened.preprocess.channel_order == "bgr"
        assert opened.preprocess.mean == (103.53, 116.28, 123.675)
        assert opened.preprocess.std == (1.0, 1.0, 1.0)
        loaded = from_pretrained(path, opened.spec, include_top=False, input_shape=(32, 32, 3))
        np.testing.assert_allclose(_run(loaded, _images()), _run(model, _images()), rtol=1e-5)


def _caffe2(name: str) -> str | None:
    """Returns Caffe2's name of a tensor; None for the norms' statistics."""
    stem = {"conv1.weight": "conv1_w", "bn1.weight": "res_conv1_bn_s", "bn1.bias": "res_conv1_bn_b"}
    unit = re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn|downsample\.)(\d)\.(weight|bias)", name)
    if unit is None:
        return stem.get(name)
    stage, block, kind, number, role = unit.groups()
    branch = "1" if kind == "downsample." else "2" + " abc"[int(number)]
    is_conv = kind == "conv" or (kind, number) == ("downsample.", "0")
    end = "w" if is_conv else {"weight": "bn_s", "bias": "bn_b"}[role]
    return f"res{int(stage) + 1}_{block}_branch{branch}_{end}"


def deep_and_gated_nets_of_openmmlab(folder: Folder, source: keras.Model) -> None:
    """OpenMMLab's ResNetV1d and SEResNet; mmsegmentation's stem in one list."""
    spec = SPEC.replace(stem="deep", shortcut="D", se_reduction=4, stem_width=8)
    model = build(spec)
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 1.5, each.shape) / 9 for each in model.weights])
    tensors = dump_tensors(model, LAYOUTS["timm"])

    def renamed(stem: Callable[[int], str]) -> dict[str, np.ndarray]:
        theirs = {}
        for name, array in tensors.items():
            new = re.sub(r"\.se\.fc(\d)", r".se_layer.conv\1.conv", name)
            new = re.sub(r"(layer1\.0\.downsample)\.([12])", _one_less, new)
            new = new.replace("fc.", "head.fc.") if new.startswith("fc.") else f"backbone.{new}"
            place = re.fullmatch(r"backbone\.conv1\.(\d)\.(\w+)", new)
            if place is not None:
                new = f"backbone.stem.{stem(int(place[1]))}.{place[2]}"
            new = re.sub(r"backbone\.bn1\.", f"backbone.stem.{stem(7)}.", new)
            theirs[new] = array
        return theirs

    for stem in (str, lambda place: f"{place // 3}.{'bn' if place % 3 else 'conv'}"):
        values = renamed(stem)
        assert "backbone.layer1.0.se_layer.conv1.conv.weight" in values
        opened = open_weights({"state_dict": values})
        assert (opened.prefix, opened.left_out) == ("state_dict.backbone.", {})
        assert "stride_placement" in opened.assumed
        loaded = from_pretrained({"state_dict": values}, spec)
        np.testing.assert_array_equal(_run(loaded, _images()), _run(model, _images()))


def _one_less(match: re.Match[str]) -> str:
    return f"{match[1]}.{int(match[2]) - 1}"


def medical_volumes(folder: Folder, source: keras.Model) -> None:
    """MedicalNet and 3D-ResNets: torchvision's names, kernels of rank 5."""
    spec = SPEC.replace(branch="basic", input_channels=1)
    model = build(spec, dims=3, input_shape=(16, 16, 16, 1))
    tensors = dump_tensors(model, LAYOUTS["torchvision"])
    message = "does not show 7 properties of its net, .*, stem='imagenet'"
    with pytest.warns(UserWarning, match=message):
        loaded = from_pretrained({"state_dict": under("module.", tensors)})
    assert loaded.get_layer("stem_conv").kernel.shape == (7, 7, 7, 1, 8)


def signals(folder: Folder, source: keras.Model) -> None:
    """1-D nets of torchvision's names; save and load."""
    spec = SPEC.replace(input_channels=12)
    model = build(spec, dims=1, input_shape=(64, 12))
    weights.save(model, folder / "net.safetensors")
    loaded = from_pretrained(folder / "net.safetensors", input_shape=(64, 12))
    x = np.random.default_rng(0).normal(size=(2, 64, 12)).astype("float32")
    np.testing.assert_array_equal(_run(loaded, x), _run(model, x))


def signals_in_keras_files(folder: Folder, source: keras.Model) -> None:
    """1-D and 3-D nets in .keras and .weights.h5 were built for images."""
    for shape in ((64, 12), (16, 16, 16, 2)):
        model = build(SPEC, dims=len(shape) - 1, input_shape=shape)
        x = np.random.default_rng(0).normal(size=(1, *shape)).astype("float32")
        for name in ("net.keras", "net.weights.h5"):
            _save(model, folder / name)
            loaded = from_pretrained(folder / name, SPEC, input_shape=shape)
            np.testing.assert_array_equal(_run(loaded, x), _run(model, x))
        assert from_pretrained(folder / "net.keras").input_shape[-1] == shape[-1]


def a_folder_of_transformers(folder: Folder, source: keras.Model) -> None:
    """save_pretrained(folder), whole and in shards."""
    theirs = dump_tensors(source, LAYOUTS["hf"])
    write_safetensors(folder / "model.safetensors", theirs)
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    _check_folder(folder, source)
    (folder / "model.safetensors").unlink()
    names = sorted(theirs)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, chosen in parts.items():
        write_safetensors(folder / file, {name: theirs[name] for name in chosen})
    table = {name: file for file, chosen in parts.items() for name in chosen}
    index = {"weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _check_folder(folder, source)
    (folder / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match="holds no weights: one of model.safetensors, .*not"
    ):
        from_pretrained(folder / "empty")


def _check_folder(folder: Folder, source: keras.Model) -> None:
    model = from_pretrained(folder, input_shape=(32, 32, 3))
    np.testing.assert_array_equal(_run(model, _images()), _run(source, _images()))


def a_preset_of_keras_hub(folder: Folder, source: keras.Model) -> None:
    """save_to_preset(folder) of an image classifier."""
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="bottleneck_block",
        image_shape=(32, 32, 3),
    )
    scaling = hub.layers.ResNetImageConverter(image_size=(32, 32), scale=1 / 255)
    theirs = hub.models.ResNetImageClassifier(
        backbone=backbone,
        num_classes=3,
        preprocessor=hub.models.ResNetImageClassifierPreprocessor(scaling),
    )
    theirs.save_to_preset(str(folder / "preset"))
    model = from_pretrained(folder / "preset", input_shape=(32, 32, 3))
    assert (model.preprocess.size, model.preprocess.std) == ((32, 32), (255.0,) * 3)
    np.testing.assert_allclose(_run(model, _images()), _run(theirs, _images()), atol=1e-4)
    backbone.save_to_preset(str(folder / "backbone"))
    bare = from_pretrained(folder / "backbone", include_top=False, input_shape=(32, 32, 3))
    np.testing.assert_allclose(_run(bare, _images()), _run(backbone, _images()), atol=1e-4)


def a_net_in_a_sequential(folder: Folder, source: keras.Model) -> None:
    """Sequential([net, Dense]) as .keras, .weights.h5 and .h5."""
    net = build(SPEC, include_top=False, pooling="avg", seed=1)
    inputs = keras.Input((32, 32, 3))
    model = keras.Sequential([inputs, net, keras.layers.Dense(2, name="mine")])
    for name in ("net.keras", "net.weights.h5", "net.h5"):
        _save(model, folder / name)
        spec = SPEC if name == "net.weights.h5" else None
        with pytest.raises(ValueError, match="no classifier .*mine.*: use `include_top=False`"):
            from_pretrained(folder / name, spec)
        with pytest.warns(UserWarning, match="left out 2 of .*mine"):
            read = from_pretrained(folder / name, spec, include_top=False, pooling="avg")
        np.testing.assert_array_equal(_run(read, _images()), _run(net, _images()))


def _save(model: keras.Model, path: pathlib.Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
        save = model.save_weights if path.name.endswith(".weights.h5") else model.save
        save(path)


@keras.saving.register_keras_serializable(package="reports")
class Subclassed(keras.Model):
    """An app's model that calls a net."""

    def __init__(self, net: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.net = net or build(SPEC, include_top=False, pooling="avg", seed=1)
        self.mine = keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.mine(self.net(x))


def a_net_in_a_subclassed_model(folder: Folder, source: keras.Model) -> None:
    """A subclass of keras.Model with the net as an attribute."""
    model = Subclassed()
    model(_images())
    _save(model, folder / "net.weights.h5")
    with pytest.warns(UserWarning, match="left out 2 of dense"):
        read = from_pretrained(folder / "net.weights.h5", SPEC, include_top=False, pooling="avg")
    np.testing.assert_array_equal(_run(read, _images()), _run(model.net, _images()))


def our_whole_model_in_hdf5(folder: Folder, source: keras.Model) -> None:
    """load_model said "Unknown layer: 'ResNet'"."""
    _save(source, folder / "net.h5")
    loaded = keras.saving.load_model(folder / "net.h5", compile=False)
    assert (type(loaded), loaded.spec) == (ResNet, source.spec)


# Idioms.


def the_layer_before_the_last(folder: Folder, source: keras.Model) -> None:
    """Model(m.input, m.layers[-2].output) gives features; m.layers[-1].activation = None logits."""
    model = build(SPEC, classifier_activation="softmax", seed=1)
    features = keras.Model(model.input, model.layers[-2].output)
    assert features.output_shape == (None, 64)
    chances = _run(model, _images())
    model.layers[-1].activation = None
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(_run(model, _images())))
    np.testing.assert_allclose(probabilities, chances, atol=1e-6)


def trainable_from_a_layer_on(folder: Folder, source: keras.Model) -> None:
    """A loop over layers that trains what follows a layer of keras.applications."""
    model = build(TINY)
    start = model.layers.index(model.get_layer("conv2_block1_out"))
    for number, layer in enumerate(model.layers):
        layer.trainable = number > start
    by_hand = {layer.name for layer in model.layers if layer.trainable and layer.weights}
    frozen = freeze(build(TINY), through="conv2_block1_out")
    assert by_hand == {layer.name for layer in frozen.layers if layer.trainable and layer.weights}
    assert "stage2_unit1_conv1" in by_hand


def two_nets_in_one_app(folder: Folder, source: keras.Model) -> None:
    """Two models collided on the name of the input."""
    first, second = build(TINY, name="left"), build(TINY, name="right")
    outputs = keras.layers.Concatenate()([first(first.input), second(second.input)])
    assert keras.Model([first.input, second.input], outputs).output_shape == (None, 6)


def freezing_an_app(folder: Folder, source: keras.Model) -> None:
    """`freeze` refused an app's model with the net inside."""
    inputs = keras.Input((8, 8, 3))
    net = build(TINY, include_top=False, pooling="avg")
    app = keras.Model(inputs, keras.layers.Dense(2, name="mine")(net(inputs)), name="app")
    with pytest.warns(UserWarning, match="Froze layers of the net 'tiny' in 'app'"):
        assert freeze(app, through=1) is app
    assert not net.get_layer("stem_conv").trainable
    assert net.get_layer("stage2_unit1_conv1").trainable
    assert app.get_layer("mine").trainable
    other = build(TINY, include_top=False, pooling="avg", name="other")
    two = keras.Model(inputs, net(inputs) + other(inputs), name="two")
    with pytest.raises(ValueError, match="'two' has several nets: tiny, other"):
        freeze(two)


def preprocessing_that_nothing_set(folder: Folder, source: keras.Model) -> None:
    """model.preprocess(x): 'NoneType' object is not callable."""
    model, other = build(TINY), build(TINY)
    assert not model.preprocess
    message = "'tiny' has no preprocessing, because no published weights set it. Set `model.prep"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.preprocess(np.zeros((1, 8, 8, 3), "uint8"))
    with pytest.raises(ValueError, match=re.escape(message)):
        _ = model.preprocess.size
    other.preprocess = PreprocessSpec((8, 8))
    other.preprocess = model.preprocess
    assert not other.preprocess


def another_head_on_a_net_without_top(folder: Folder, source: keras.Model) -> None:
    """with_classes lost a Rescaling, max pooling and mixed precision."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    net = build(TINY, include_top=False, pooling="max", input_tensor=x, seed=1)
    model = with_classes(net, 2, seed=1)
    kernel, bias = model.get_layer("logits").get_weights()
    wanted = _run(net, 255 * _images(8)) @ kernel + bias
    np.testing.assert_allclose(_run(model, 255 * _images(8)), wanted, rtol=1e-5, atol=1e-5)


def weights_behind_an_input_tensor(folder: Folder, source: keras.Model) -> None:
    """input_tensor= with weights= failed where a layer before the net has weights."""
    inputs = keras.Input((32, 32, 1))
    colours = keras.layers.Conv2D(3, 1, name="colours")(inputs)
    path = write(folder / "net.pth", dump_tensors(source, LAYOUTS["torchvision"]))
    model = from_pretrained(path, SPEC, input_tensor=colours)
    inner = model.get_layer("colours")(_images(channels=1))
    wanted = _run(source, keras.ops.convert_to_numpy(inner))
    np.testing.assert_allclose(_run(model, _images(channels=1)), wanted, rtol=1e-4, atol=1e-5)


def clones(folder: Folder, source: keras.Model) -> None:
    """clone_model and subclasses lose the spec; `describe_as` gives it back."""
    clone = keras.models.clone_model(source)
    with pytest.raises(ValueError, match=r"has no ResNetSpec.*by `model.describe_as\(source\)`"):
        _ = clone.spec
    assert clone.describe_as(source).spec == source.spec


FILES = (
    caffes_strides,
    blurred_net_of_timm,
    objects_beside_the_tensors,
    a_pickled_model,
    a_head_of_several_layers,
    keras_retinanet,
    detectron2s_pickles,
    deep_and_gated_nets_of_openmmlab,
    medical_volumes,
    signals,
    signals_in_keras_files,
    a_folder_of_transformers,
    a_preset_of_keras_hub,
    a_net_in_a_sequential,
    a_net_in_a_subclassed_model,
    our_whole_model_in_hdf5,
)
IDIOMS = (
    the_layer_before_the_last,
    trainable_from_a_layer_on,
    two_nets_in_one_app,
    freezing_an_app,
    preprocessing_that_nothing_set,
    another_head_on_a_net_without_top,
    weights_behind_an_input_tensor,
    clones,
)


@pytest.mark.parametrize("report", [*FILES, *IDIOMS], ids=lambda report: report.__name__)
def test_a_report(report, tmp_path, source):
    report(tmp_path, source)
