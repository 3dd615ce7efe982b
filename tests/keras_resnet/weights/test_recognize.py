"""Recognition of nets by the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from keras_resnet import ResNetSpec, variants
from keras_resnet.nets.geometry import units
from keras_resnet.weights.layouts import LAYOUTS, Layout
from keras_resnet.weights.recognize import recognize
from keras_resnet.weights.transfer import dump_tensors

# The catalog's nets that each library has; those that differ in what shapes do not show follow
# the one that is recognised.
CATALOG = {
    "torchvision": """resnet18 resnet34 resnet50_v1_5 resnet101_v1_5 resnet152_v1_5 resnet200_v1_5
        resnext50_32x4d resnext101_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2
        wide_resnet101_2""",
    "timm": """resnet18d resnet34d resnet50d resnet101d resnet152d resnet200d resnet50c resnet101c
        resnet152c resnetrs50 resnetrs101 resnetrs152 resnetrs200 resnetrs270 resnetrs350
        resnetrs420 seresnet50 seresnet101 seresnet152 seresnext50_32x4d
        seresnext101_32x4d seresnext101_32x8d""",
    "timm_v2": "resnetv2_18 resnetv2_34 resnetv2_50 resnetv2_101 resnetv2_152",
    "timm_repvgg": "repvgg_a0 repvgg_a1 repvgg_a2 repvgg_b0 repvgg_b1",
    "hf": "resnet18 resnet34 resnet50_v1_5 resnet101_v1_5 resnet152_v1_5 resnet200_v1_5",
    "akamaster": "cifar_resnet20 cifar_resnet32 cifar_resnet44 cifar_resnet56 cifar_resnet110",
    "keras": """keras_resnet50 keras_resnet101 keras_resnet152 keras_resnet50v2 keras_resnet101v2
        keras_resnet152v2""",
    "keras_hub": """resnet18 resnet34 resnet50_v1_5 resnet101_v1_5 resnet152_v1_5 resnet18vd
        resnet34vd resnet50vd resnet101vd resnet152vd resnet200vd resnetv2_18 resnetv2_34
        resnetv2_50 resnetv2_101 resnetv2_152""",
    "mlperf_tiny": "mlperf_tiny_resnet8",
}
PAIRS = [(layout, name) for layout, names in CATALOG.items() for name in names.split()]


def _layers(spec: ResNetSpec, classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Our layers and their kernels' shapes, or `(channels,)` of norms, without building the net."""
    pre, width = spec.order == "pre", spec.stem_filters
    if spec.stem == "deep":
        for number, (into, out) in enumerate(
            ((3, width // 2), (width // 2,) * 2, (width // 2, width))
        ):
            yield f"stem_conv{number + 1}", (3, 3, into, out)
            yield f"stem_norm{number + 1}", (out,)
    elif spec.stem != "unit":
        size = 3 if spec.stem == "cifar" else 7
        yield "stem_conv", (size, size, 3, width)
        if spec.stem_activation:
            yield "stem_norm", (width,)
    if spec.stem_pool == "conv":
        yield from (("stem_pool_conv", (3, 3, width, width)), ("stem_pool_norm", (width,)))
    if spec.branch == "repvgg":
        first = ("stem", 3, width, width, False)
        rest = [
            (u.name, u.in_channels, u.inner, u.out_channels, not u.changes_shape)
            for u in units(spec)
        ]
        for name, into, _, out, identity in (first, *rest):
            for number, size in ((1, 3), (2, 1)):
                yield f"{name}_conv{number}", (size, size, into, out)
                yield f"{name}_norm{number}", (out,)
            if identity:
                yield f"{name}_shortcut_norm", (out,)
    else:
        for unit in units(spec):
            into, inner, out = unit.in_channels, unit.inner, unit.out_channels
            shapes = [(3, 3, into, inner), (3, 3, inner, out)]
            if spec.branch == "bottleneck":
                middle = (3, 3, inner // spec.groups, inner)
                shapes = [(1, 1, into, inner), middle, (1, 1, inner, out)]
            for number, shape in enumerate(shapes, start=1):
                yield f"{unit.name}_conv{number}", shape
                if not (pre and number == 1 and unit.first and spec.stem_activation):
                    channels = (
                        into
                        if pre and number == 1
                        else shapes[number - 2][-1]
                        if pre
                        else shape[-1]
                    )
                    yield f"{unit.name}_norm{number}", (channels,)
            if spec.se_reduction:
                yield f"{unit.name}_se_fc1", (1, 1, out, out // spec.se_reduction)
                yield f"{unit.name}_se_fc2", (1, 1, out // spec.se_reduction, out)
            opens = spec.stage_projection and unit.opens
            kept = spec.stride_unit == "last" and into == out
            if spec.shortcut != "A" and (unit.changes_shape or opens) and not kept:
                yield f"{unit.name}_shortcut_conv", (1, 1, into, out)
                if not pre and spec.shortcut_norm:
                    yield f"{unit.name}_shortcut_norm", (out,)
    if pre:
        yield "final_norm", (spec.widths[-1] * spec.expansion,)
    yield "logits", (spec.widths[-1] * spec.expansion, classes)


def _tensors(spec: ResNetSpec, layout: Layout, classes: int = 10) -> dict[str, np.ndarray]:
    """A net's tensors as another library names and shapes them, without memory for their values."""
    found = {}
    for name, shape in _layers(spec, classes):
        kind = "norm" if len(shape) == 1 else "dense" if len(shape) == 2 else "conv"
        shapes = [shape] * 4 if kind == "norm" else [shape, shape[-1:]]
        normed = spec.order == "post" or not name.endswith(("3", "shortcut_conv", "stem_conv"))
        if kind == "conv" and "_se_" not in name:
            bias = spec.conv_bias is True or (spec.conv_bias == "unnormed" and not normed)
            shapes = shapes[: 1 + bias]
        if layout.torch and kind != "norm":
            shapes[0] = (*shape[:-3:-1], *shape[:-2])
        prefix = layout.translate(name, spec)
        for role, each in zip(layout.roles[kind], shapes, strict=False):
            found[f"{prefix}{layout.separator}{role}"] = np.broadcast_to(np.float32(0), each)
    return found


def test_the_shapes_of_this_test_are_those_of_real_nets(net):
    """What the catalog's large nets are told by is what a built net has."""
    real = dump_tensors(net.make(), net.layout)
    ours = _tensors(net.spec, net.layout, net.spec.classes)
    wanted = {name: each.shape for name, each in real.items() if not name.endswith("tracked")}
    if net.layout.head_as_conv:
        wanted["head.fc.weight"] = wanted["head.fc.weight"][:2]
    assert {name: each.shape for name, each in ours.items()} == wanted


@pytest.mark.parametrize(("layout", "name"), PAIRS, ids=lambda each: each)
def test_every_net_of_the_catalog(layout, name):
    spec = variants[name]
    found = recognize(_tensors(spec, LAYOUTS[layout]), source="x")
    assert found.layout is LAYOUTS[layout]
    assert found.classes == 10
    assert name in found.variants
    # What says nothing about a net's function: its name, and what only training and shapes of
    # images have to do with.
    free = {
        field: getattr(spec, field)
        for field in ("name", "classes", "input_size", "norm_momentum", "stochastic_depth")
    }
    if layout == "keras_hub" and spec.branch == "bottleneck":  # which projects there anyway
        free["stage_projection"] = spec.stage_projection
    assert found.spec.replace(**free) == spec
    assert found.spec.classes == 10


def test_the_catalog_is_all_there():
    """Nets of the catalog that a library can have and that are not named above."""
    for layout, names in CATALOG.items():
        fits = {name for name in variants if not LAYOUTS[layout].misfits(variants[name])}
        more = fits - set(names.split())
        allowed = {
            "timm": set(CATALOG["torchvision"].split()),  # timm's plain nets are torchvision's
            "hf": {"resnet50", "resnet101", "resnet152", "resnet200"},  # config.json says which
            "akamaster": {"cifar_resnet1202", "cifar_resnet110_sd", "cifar_resnet1202_sd"},
            "keras_hub": {f"resnet{n}d" for n in (18, 34, 50, 101, 152, 200)} | {"resnet200_v1_5"},
        }
        assert more <= allowed.get(layout, set()), layout
        assert not set(names.split()) - fits, layout


def test_nets_of_the_same_shapes_are_named():
    found = recognize(_tensors(variants["resnet50_v1_5"], LAYOUTS["torchvision"]), source="x")
    assert found.variants == ("resnet50", "resnet50_v1_5", "resnet50_blur")
    assert found.spec.stride_placement == "3x3"
    assert found.spec.name == "resnet50"
    found = recognize(_tensors(variants["keras_resnet50"], LAYOUTS["keras"]), source="x")
    assert found.variants == ("keras_resnet50",)
    # A plain net has other names, and a net of other widths is none of the catalog's.
    found = recognize(_tensors(ResNetSpec("x", (2, 2), (4, 8)), LAYOUTS["torchvision"]), source="x")
    assert found.variants == ()
    assert found.spec.layers == 10


def test_a_net_without_a_classifier():
    tensors = _tensors(variants["resnet18"], LAYOUTS["torchvision"])
    for name in ("fc.weight", "fc.bias"):
        del tensors[name]
    found = recognize(tensors, source="x")
    assert found.classes is None
    assert "resnet18" in found.variants


@pytest.mark.parametrize(
    "tensors",
    [
        ["stem.conv.weight", "stages.0.blocks.0.conv1.weight", "stages.0.blocks.0.norm1.weight"],
        ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight"],
    ],
    ids=["BiT", "resnet50_gn"],
)
def test_group_norms_are_refused_by_name(tensors):
    message = "x has no batch-norm statistics: this package does not build GroupNorm nets"
    with pytest.raises(ValueError, match=re.escape(message)):
        recognize({name: np.zeros((8, 8, 1, 1)) for name in tensors}, source="x")


def test_tensors_of_other_nets_are_refused():
    names = [f"features.{index}.weight" for index in range(6)]
    with pytest.raises(
        ValueError,
        match=r"^net.pth is not a residual net of torchvision, .*\. Its tensors: features\.0\."
        r"weight, features\.1\.weight, features\.2\.weight, features\.3\.weight \.\.\.$",
    ):
        recognize({name: np.zeros(3) for name in names}, source="net.pth")
    with pytest.raises(ValueError, match="^x is not a residual net of "):
        recognize({}, source="x")


@pytest.mark.parametrize("lacks", ["conv1.weight", "layer1.0.conv2.weight"])
def test_names_without_the_shapes_are_refused(lacks):
    tensors = _tensors(variants["resnet18"], LAYOUTS["torchvision"])
    del tensors[lacks]
    message = "x has the names of torchvision, but not the shapes of a residual net: no kernel for "
    with pytest.raises(ValueError, match=re.escape(message)):
        recognize(tensors, source="x")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (64, 3, 5, 5)),
        ("conv1.weight", ()),
        ("layer1.0.conv1.weight", ()),
        ("layer1.0.conv2.weight", (3,)),
        ("layer1.0.conv2.weight", (0, 0, 0, 0)),
        ("layer1.0.conv2.weight", (64, 0, 3, 3)),
        ("layer1.0.conv3.weight", (0, 64, 1, 1)),
        ("layer2.0.conv3.weight", (1, 64, 1, 1)),
    ],
)
def test_odd_shapes_are_refused_in_words(name, shape):
    tensors = _tensors(variants["resnet50_v1_5"], LAYOUTS["torchvision"])
    tensors[name] = np.zeros(shape, "float32")
    with pytest.raises(ValueError, match="^x has the names of torchvision, but not the shapes of"):
        recognize(tensors, source="x")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_of_wrappers(tmp_path, small_net, prefix):
    """DataParallel and torch.compile put a word before every name; safetensors keep it too."""
    from keras_resnet.weights import open_weights
    from keras_resnet.weights.files.tensor_file import write_safetensors

    net = small_net("torchvision-basic")
    tensors = dump_tensors(net.make(), net.layout)
    path = tmp_path / "net.safetensors"
    write_safetensors(path, {prefix + name: array for name, array in tensors.items()}, None)
    assert open_weights(path).spec.depths == (2, 1)
