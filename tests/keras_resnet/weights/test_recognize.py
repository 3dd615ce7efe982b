"""Recognition of nets by the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest

from keras_resnet import ResNetSpec, variants
from keras_resnet.nets.geometry import units
from keras_resnet.weights.layouts import LAYOUTS, Layout
from keras_resnet.weights.recognize import check_function, recognize, with_catalog_name
from keras_resnet.weights.transfer import dump_tensors

# The catalog's nets that each library has; those that differ in what shapes do not show follow
# the one that is recognised.
CATALOG = {
    "torchvision": """resnet18 resnet34 resnet50_v1_5 resnet101_v1_5 resnet152_v1_5 resnet200_v1_5
        resnext50_32x4d resnext101_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2
        wide_resnet101_2 resnet26 resnext101_32x16d resnext101_32x32d""",
    "timm": """resnet18d resnet34d resnet50d resnet101d resnet152d resnet200d resnet50c resnet101c
        resnet152c resnetrs50 resnetrs101 resnetrs152 resnetrs200 resnetrs270 resnetrs350
        resnetrs420 seresnet50 seresnet101 seresnet152 seresnext50_32x4d
        seresnext101_32x4d seresnext101_32x8d resnet10t resnet14t resnet26d resnet26t resnet50t
        resnet50s resnet101s resnet152s resnext50d_32x4d timm_seresnet18 timm_seresnet34 seresnet50t
        seresnet152d seresnet200d seresnet269d seresnext26d_32x4d seresnext26t_32x4d
        seresnext101_64x4d seresnext101d_32x8d ecaresnet26t ecaresnet50t ecaresnet50d ecaresnet101d
        ecaresnet200d ecaresnet269d ecaresnetlight ecaresnext26t_32x4d ecaresnext50t_32x4d
        resnet50_gn""",
    "timm_v2": """resnetv2_18 resnetv2_34 resnetv2_50 resnetv2_101 resnetv2_152 resnetv2_18d
        resnetv2_34d resnetv2_50d resnetv2_50t resnetv2_101d resnetv2_152d resnetv2_50d_gn""",
    "timm_repvgg": "repvgg_a0 repvgg_a1 repvgg_a2 repvgg_b0 repvgg_b1",
    "hf": """resnet18 resnet34 resnet26 resnet50_v1_5 resnet101_v1_5 resnet152_v1_5
        resnet200_v1_5""",
    "akamaster": "cifar_resnet20 cifar_resnet32 cifar_resnet44 cifar_resnet56 cifar_resnet110",
    "keras": """keras_resnet50 keras_resnet101 keras_resnet152 keras_resnet50v2 keras_resnet101v2
        keras_resnet152v2""",
    "keras_hub": """resnet18 resnet34 resnet26 resnet50_v1_5 resnet101_v1_5 resnet152_v1_5
        resnet18vd resnet34vd resnet50vd resnet101vd resnet152vd resnet200vd resnetv2_18 resnetv2_34
        resnetv2_50 resnetv2_101 resnetv2_152""",
    "mlperf_tiny": "mlperf_tiny_resnet8",
}
# timm's anti-aliased nets: the same tensors as nets without filters.
FILTERED = (
    *("resnetblur18", "resnetblur50", "resnetblur50d", "resnetblur101d"),
    *("resnetaa34d", "resnetaa50", "resnetaa50d", "resnetaa101d"),
    *("seresnetaa50d", "seresnextaa101d_32x8d", "seresnextaa201d_32x8d"),
)
PAIRS = [(layout, name) for layout, names in CATALOG.items() for name in names.split()]


def _layers(spec: ResNetSpec, classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Our layers and their kernels' shapes, or `(channels,)` of norms, without building the net."""
    pre, width = spec.order == "pre", spec.stem_filters
    if spec.stem in ("deep", "tiered"):
        first = width * 3 // 8 if spec.stem == "tiered" else width // 2
        for number, (into, out) in enumerate(
            ((3, first), (first, width // 2), (width // 2, width))
        ):
            yield f"stem_conv{number + 1}", (3, 3, into, out)
            if number < 2 or spec.stem_activation:
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
                squeezed = max(spec.se_divisor, out // spec.se_reduction)
                yield f"{unit.name}_se_fc1", (1, 1, out, squeezed)
                yield f"{unit.name}_se_fc2", (1, 1, squeezed, out)
            if spec.eca:
                yield f"{unit.name}_se_conv", (3 if out < 128 else 5 if out < 2048 else 7, 1, 1)
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
        statistics = 2 * (spec.norm == "batch")
        shapes = [shape] * (2 + statistics) if kind == "norm" else [shape, shape[-1:]]
        normed = spec.order == "post" or not name.endswith(("3", "shortcut_conv", "stem_conv"))
        if kind == "conv" and "_se_fc" not in name:
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
            # timm's plain nets are torchvision's.
            "timm": {*CATALOG["torchvision"].split(), *FILTERED},
            "hf": {"resnet50", "resnet101", "resnet152", "resnet200"},  # config.json says which
            "akamaster": {"cifar_resnet1202", "cifar_resnet110_sd", "cifar_resnet1202_sd"},
            "keras_hub": {f"resnet{n}d" for n in (18, 26, 34, 50, 101, 152, 200)}
            | {f"resnet{n}s" for n in (50, 101, 152)}
            | {f"resnetv2_{n}d" for n in (18, 34, 50, 101, 152)}
            | {"resnet200_v1_5"},
        }
        assert more <= allowed.get(layout, set()), layout
        assert not set(names.split()) - fits, layout


def test_nets_of_the_same_shapes_are_named():
    found = recognize(_tensors(variants["resnet50_v1_5"], LAYOUTS["torchvision"]), source="x")
    filtered = ("resnet50_blur", "resnetblur50", "resnetaa50")
    assert found.variants == ("resnet50", "resnet50_v1_5", *filtered)
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


def test_bit_is_refused_by_name():
    names = ["stem.conv.weight", "stages.0.blocks.0.conv1.weight", "stages.0.blocks.0.norm1.weight"]
    message = "x has no batch-norm statistics: this package does not build BiT"
    with pytest.raises(ValueError, match=re.escape(message)):
        recognize({name: np.zeros((8, 8, 1, 1)) for name in names}, source="x")


@pytest.mark.parametrize("name", FILTERED)
def test_filters_of_timm_are_among_the_nets_of_the_same_shapes(name):
    spec = variants[name]
    found = recognize(_tensors(spec, LAYOUTS["timm"]), source="x")
    assert name in found.variants
    assert found.spec.blur == 0
    assert {"blur", "stem_pool"} <= set(found.assumed)
    assert LAYOUTS["timm"].misfits(spec.replace(blur_shortcut=True))


@pytest.mark.parametrize(
    ("layout", "name", "assumed"),
    [
        (
            "torchvision",
            "resnet50_v1_5",
            "stride_placement first_stride max_stride stem_pool blur padding norm_eps",
        ),
        ("torchvision", "resnet18", "first_stride max_stride stem_pool blur padding norm_eps"),
        ("timm", "resnet50d", "max_stride stem_pool blur"),
        ("timm", "resnetrs50", "max_stride blur"),
        ("timm", "resnet50_gn", "max_stride stem_pool blur norm"),
        ("timm_v2", "resnetv2_50", "max_stride stem_pool"),
        ("timm_v2", "resnetv2_50d", "shortcut max_stride stem_pool"),
        ("timm_repvgg", "repvgg_a0", "max_stride"),
        ("hf", "resnet50_v1_5", "stride_placement first_stride"),
        ("hf", "resnet18", "first_stride"),
        ("keras", "keras_resnet50", ""),
        ("keras_hub", "resnet50vd", ""),
    ],
)
def test_what_shapes_do_not_show_is_assumed(layout, name, assumed):
    found = recognize(_tensors(variants[name], LAYOUTS[layout]), source="x")
    assert " ".join(found.assumed) == assumed


def test_a_requested_net_determines_what_is_assumed():
    found = recognize(_tensors(variants["resnet50_v1_5"], LAYOUTS["torchvision"]), source="x")
    for name, fields in (
        ("resnet50", ("stride_placement",)),
        ("resnet50_v1_5", ()),
        ("resnetblur50", ("blur", "blur_shortcut")),
        ("resnetaa50", ("stem_pool", "blur", "blur_shortcut")),
    ):
        with pytest.warns(UserWarning, match=f"'x' is read as {name}") if fields else nullcontext():
            assert check_function(variants[name], found, "x", found.assumed) == fields
    same = variants["resnet50_v1_5"].replace(stem_width=64, zero_init_residual=True, norm_sync=True)
    assert check_function(same, found, "x", ()) == ()
    early = variants["resnet50"]
    message = (
        "'x' has the shapes of resnet50, but torchvision computes another function with them, "
        "without stride_placement='1x1' (not '3x3'). Nets of these shapes: resnet50, resnet50_v1_5"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        check_function(early, found, "x", ())


def test_no_net_of_these_shapes_is_said():
    spec = ResNetSpec("x", (2, 2), (4, 8))
    found = recognize(_tensors(spec, LAYOUTS["torchvision"]), source="x")
    with pytest.raises(ValueError, match=r"Nets of these shapes: none of the catalog$"):
        check_function(spec.replace(norm_eps=1e-3), found, "x", ())


@pytest.mark.parametrize(
    ("layout", "name"),
    [("timm", "resnetrs350"), ("timm", "resnet50d"), ("torchvision", "resnet18")],
)
def test_names_of_the_catalog(layout, name):
    """Stochastic depth is a property of training: timm's ResNet-RS-350 is `resnetrs350`."""
    tensors = _tensors(variants[name], LAYOUTS[layout])
    if name == "resnet18":  # gray images
        tensors["conv1.weight"] = np.zeros((64, 1, 7, 7), "float32")
    found = recognize(tensors, source="x")
    spec = with_catalog_name(found)
    assert (spec.name, spec.input_size) == (name, variants[name].input_size)
    assert spec.input_channels == (1 if name == "resnet18" else 3)


def test_stems_of_other_widths_and_sizes_are_named():
    tensors = _tensors(variants["resnet50d"], LAYOUTS["timm"])
    tensors["conv1.0.weight"] = np.zeros((20, 3, 3, 3), "float32")
    with pytest.raises(ValueError, match="a stem of 20, 32, 64 filters"):
        recognize(tensors, source="x")
    tensors = _tensors(variants["resnet18"], LAYOUTS["torchvision"])
    tensors["conv1.weight"] = np.zeros((64, 3, 5, 5), "float32")
    with pytest.raises(ValueError, match="a stem of kernel size 5, not 7 or 3"):
        recognize(tensors, source="x")


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
