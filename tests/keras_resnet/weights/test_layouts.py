"""Layouts: literal names of every layer, axes of kernels, specs that a library cannot express."""

from __future__ import annotations

import numpy as np
import pytest

from keras_resnet import ResNetSpec, variants
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.transfer import dump_tensors, load_tensors, to_keras, to_torch

# Our name and the library's, for every layer with weights of the small nets of two stages.
NAMES = {
    "torchvision": """
        stem_conv                   conv1
        stem_norm                   bn1
        stage1_unit1_conv1          layer1.0.conv1
        stage1_unit1_norm1          layer1.0.bn1
        stage1_unit1_conv2          layer1.0.conv2
        stage1_unit1_norm2          layer1.0.bn2
        stage1_unit1_conv3          layer1.0.conv3
        stage1_unit1_norm3          layer1.0.bn3
        stage1_unit1_shortcut_conv  layer1.0.downsample.0
        stage1_unit1_shortcut_norm  layer1.0.downsample.1
        stage1_unit2_conv1          layer1.1.conv1
        stage1_unit2_norm1          layer1.1.bn1
        stage1_unit2_conv2          layer1.1.conv2
        stage1_unit2_norm2          layer1.1.bn2
        stage1_unit2_conv3          layer1.1.conv3
        stage1_unit2_norm3          layer1.1.bn3
        stage2_unit1_conv1          layer2.0.conv1
        stage2_unit1_norm1          layer2.0.bn1
        stage2_unit1_conv2          layer2.0.conv2
        stage2_unit1_norm2          layer2.0.bn2
        stage2_unit1_conv3          layer2.0.conv3
        stage2_unit1_norm3          layer2.0.bn3
        stage2_unit1_shortcut_conv  layer2.0.downsample.0
        stage2_unit1_shortcut_norm  layer2.0.downsample.1
        logits                      fc
    """,
    "torchvision-basic": """
        stem_conv                   conv1
        stem_norm                   bn1
        stage1_unit1_conv1          layer1.0.conv1
        stage1_unit1_norm1          layer1.0.bn1
        stage1_unit1_conv2          layer1.0.conv2
        stage1_unit1_norm2          layer1.0.bn2
        stage1_unit2_conv1          layer1.1.conv1
        stage1_unit2_norm1          layer1.1.bn1
        stage1_unit2_conv2          layer1.1.conv2
        stage1_unit2_norm2          layer1.1.bn2
        stage2_unit1_conv1          layer2.0.conv1
        stage2_unit1_norm1          layer2.0.bn1
        stage2_unit1_conv2          layer2.0.conv2
        stage2_unit1_norm2          layer2.0.bn2
        stage2_unit1_shortcut_conv  layer2.0.downsample.0
        stage2_unit1_shortcut_norm  layer2.0.downsample.1
        logits                      fc
    """,
    "timm-rs": """
        stem_conv1                  conv1.0
        stem_norm1                  conv1.1
        stem_conv2                  conv1.3
        stem_norm2                  conv1.4
        stem_conv3                  conv1.6
        stem_norm3                  bn1
        stem_pool_conv              maxpool.0
        stem_pool_norm              maxpool.1
        stage1_unit1_conv1          layer1.0.conv1
        stage1_unit1_norm1          layer1.0.bn1
        stage1_unit1_conv2          layer1.0.conv2
        stage1_unit1_norm2          layer1.0.bn2
        stage1_unit1_conv3          layer1.0.conv3
        stage1_unit1_norm3          layer1.0.bn3
        stage1_unit1_se_fc1         layer1.0.se.fc1
        stage1_unit1_se_fc2         layer1.0.se.fc2
        stage1_unit1_shortcut_conv  layer1.0.downsample.1
        stage1_unit1_shortcut_norm  layer1.0.downsample.2
        stage1_unit2_conv1          layer1.1.conv1
        stage1_unit2_norm1          layer1.1.bn1
        stage1_unit2_conv2          layer1.1.conv2
        stage1_unit2_norm2          layer1.1.bn2
        stage1_unit2_conv3          layer1.1.conv3
        stage1_unit2_norm3          layer1.1.bn3
        stage1_unit2_se_fc1         layer1.1.se.fc1
        stage1_unit2_se_fc2         layer1.1.se.fc2
        stage2_unit1_conv1          layer2.0.conv1
        stage2_unit1_norm1          layer2.0.bn1
        stage2_unit1_conv2          layer2.0.conv2
        stage2_unit1_norm2          layer2.0.bn2
        stage2_unit1_conv3          layer2.0.conv3
        stage2_unit1_norm3          layer2.0.bn3
        stage2_unit1_se_fc1         layer2.0.se.fc1
        stage2_unit1_se_fc2         layer2.0.se.fc2
        stage2_unit1_shortcut_conv  layer2.0.downsample.1
        stage2_unit1_shortcut_norm  layer2.0.downsample.2
        logits                      fc
    """,
    "timm_v2": """
        stem_conv                   stem.conv
        stage1_unit1_norm1          stages.0.blocks.0.norm1
        stage1_unit1_conv1          stages.0.blocks.0.conv1
        stage1_unit1_norm2          stages.0.blocks.0.norm2
        stage1_unit1_conv2          stages.0.blocks.0.conv2
        stage1_unit1_norm3          stages.0.blocks.0.norm3
        stage1_unit1_conv3          stages.0.blocks.0.conv3
        stage1_unit1_shortcut_conv  stages.0.blocks.0.downsample.conv
        stage1_unit2_norm1          stages.0.blocks.1.norm1
        stage1_unit2_conv1          stages.0.blocks.1.conv1
        stage1_unit2_norm2          stages.0.blocks.1.norm2
        stage1_unit2_conv2          stages.0.blocks.1.conv2
        stage1_unit2_norm3          stages.0.blocks.1.norm3
        stage1_unit2_conv3          stages.0.blocks.1.conv3
        stage2_unit1_norm1          stages.1.blocks.0.norm1
        stage2_unit1_conv1          stages.1.blocks.0.conv1
        stage2_unit1_norm2          stages.1.blocks.0.norm2
        stage2_unit1_conv2          stages.1.blocks.0.conv2
        stage2_unit1_norm3          stages.1.blocks.0.norm3
        stage2_unit1_conv3          stages.1.blocks.0.conv3
        stage2_unit1_shortcut_conv  stages.1.blocks.0.downsample.conv
        final_norm                  norm
        logits                      head.fc
    """,
    "timm_repvgg": """
        stem_conv1                  stem.conv_kxk.conv
        stem_norm1                  stem.conv_kxk.bn
        stem_conv2                  stem.conv_1x1.conv
        stem_norm2                  stem.conv_1x1.bn
        stage1_unit1_conv1          stages.0.0.conv_kxk.conv
        stage1_unit1_norm1          stages.0.0.conv_kxk.bn
        stage1_unit1_conv2          stages.0.0.conv_1x1.conv
        stage1_unit1_norm2          stages.0.0.conv_1x1.bn
        stage1_unit2_conv1          stages.0.1.conv_kxk.conv
        stage1_unit2_norm1          stages.0.1.conv_kxk.bn
        stage1_unit2_conv2          stages.0.1.conv_1x1.conv
        stage1_unit2_norm2          stages.0.1.conv_1x1.bn
        stage1_unit2_shortcut_norm  stages.0.1.identity
        stage2_unit1_conv1          stages.1.0.conv_kxk.conv
        stage2_unit1_norm1          stages.1.0.conv_kxk.bn
        stage2_unit1_conv2          stages.1.0.conv_1x1.conv
        stage2_unit1_norm2          stages.1.0.conv_1x1.bn
        logits                      head.fc
    """,
    "hf": """
        stem_conv                   resnet.embedder.embedder.convolution
        stem_norm                   resnet.embedder.embedder.normalization
        stage1_unit1_conv1          resnet.encoder.stages.0.layers.0.layer.0.convolution
        stage1_unit1_norm1          resnet.encoder.stages.0.layers.0.layer.0.normalization
        stage1_unit1_conv2          resnet.encoder.stages.0.layers.0.layer.1.convolution
        stage1_unit1_norm2          resnet.encoder.stages.0.layers.0.layer.1.normalization
        stage1_unit1_conv3          resnet.encoder.stages.0.layers.0.layer.2.convolution
        stage1_unit1_norm3          resnet.encoder.stages.0.layers.0.layer.2.normalization
        stage1_unit1_shortcut_conv  resnet.encoder.stages.0.layers.0.shortcut.convolution
        stage1_unit1_shortcut_norm  resnet.encoder.stages.0.layers.0.shortcut.normalization
        stage1_unit2_conv1          resnet.encoder.stages.0.layers.1.layer.0.convolution
        stage1_unit2_norm1          resnet.encoder.stages.0.layers.1.layer.0.normalization
        stage1_unit2_conv2          resnet.encoder.stages.0.layers.1.layer.1.convolution
        stage1_unit2_norm2          resnet.encoder.stages.0.layers.1.layer.1.normalization
        stage1_unit2_conv3          resnet.encoder.stages.0.layers.1.layer.2.convolution
        stage1_unit2_norm3          resnet.encoder.stages.0.layers.1.layer.2.normalization
        stage2_unit1_conv1          resnet.encoder.stages.1.layers.0.layer.0.convolution
        stage2_unit1_norm1          resnet.encoder.stages.1.layers.0.layer.0.normalization
        stage2_unit1_conv2          resnet.encoder.stages.1.layers.0.layer.1.convolution
        stage2_unit1_norm2          resnet.encoder.stages.1.layers.0.layer.1.normalization
        stage2_unit1_conv3          resnet.encoder.stages.1.layers.0.layer.2.convolution
        stage2_unit1_norm3          resnet.encoder.stages.1.layers.0.layer.2.normalization
        stage2_unit1_shortcut_conv  resnet.encoder.stages.1.layers.0.shortcut.convolution
        stage2_unit1_shortcut_norm  resnet.encoder.stages.1.layers.0.shortcut.normalization
        logits                      classifier.1
    """,
    "akamaster": """
        stem_conv                   conv1
        stem_norm                   bn1
        stage1_unit1_conv1          layer1.0.conv1
        stage1_unit1_norm1          layer1.0.bn1
        stage1_unit1_conv2          layer1.0.conv2
        stage1_unit1_norm2          layer1.0.bn2
        stage1_unit2_conv1          layer1.1.conv1
        stage1_unit2_norm1          layer1.1.bn1
        stage1_unit2_conv2          layer1.1.conv2
        stage1_unit2_norm2          layer1.1.bn2
        stage2_unit1_conv1          layer2.0.conv1
        stage2_unit1_norm1          layer2.0.bn1
        stage2_unit1_conv2          layer2.0.conv2
        stage2_unit1_norm2          layer2.0.bn2
        logits                      linear
    """,
    "keras": """
        stem_conv                   conv1_conv
        stem_norm                   conv1_bn
        stage1_unit1_conv1          conv2_block1_1_conv
        stage1_unit1_norm1          conv2_block1_1_bn
        stage1_unit1_conv2          conv2_block1_2_conv
        stage1_unit1_norm2          conv2_block1_2_bn
        stage1_unit1_conv3          conv2_block1_3_conv
        stage1_unit1_norm3          conv2_block1_3_bn
        stage1_unit1_shortcut_conv  conv2_block1_0_conv
        stage1_unit1_shortcut_norm  conv2_block1_0_bn
        stage1_unit2_conv1          conv2_block2_1_conv
        stage1_unit2_norm1          conv2_block2_1_bn
        stage1_unit2_conv2          conv2_block2_2_conv
        stage1_unit2_norm2          conv2_block2_2_bn
        stage1_unit2_conv3          conv2_block2_3_conv
        stage1_unit2_norm3          conv2_block2_3_bn
        stage2_unit1_conv1          conv3_block1_1_conv
        stage2_unit1_norm1          conv3_block1_1_bn
        stage2_unit1_conv2          conv3_block1_2_conv
        stage2_unit1_norm2          conv3_block1_2_bn
        stage2_unit1_conv3          conv3_block1_3_conv
        stage2_unit1_norm3          conv3_block1_3_bn
        stage2_unit1_shortcut_conv  conv3_block1_0_conv
        stage2_unit1_shortcut_norm  conv3_block1_0_bn
        logits                      predictions
    """,
    "keras-v2": """
        stem_conv                   conv1_conv
        stage1_unit1_norm1          conv2_block1_preact_bn
        stage1_unit1_conv1          conv2_block1_1_conv
        stage1_unit1_norm2          conv2_block1_1_bn
        stage1_unit1_conv2          conv2_block1_2_conv
        stage1_unit1_norm3          conv2_block1_2_bn
        stage1_unit1_conv3          conv2_block1_3_conv
        stage1_unit1_shortcut_conv  conv2_block1_0_conv
        stage1_unit2_norm1          conv2_block2_preact_bn
        stage1_unit2_conv1          conv2_block2_1_conv
        stage1_unit2_norm2          conv2_block2_1_bn
        stage1_unit2_conv2          conv2_block2_2_conv
        stage1_unit2_norm3          conv2_block2_2_bn
        stage1_unit2_conv3          conv2_block2_3_conv
        stage2_unit1_norm1          conv3_block1_preact_bn
        stage2_unit1_conv1          conv3_block1_1_conv
        stage2_unit1_norm2          conv3_block1_1_bn
        stage2_unit1_conv2          conv3_block1_2_conv
        stage2_unit1_norm3          conv3_block1_2_bn
        stage2_unit1_conv3          conv3_block1_3_conv
        stage2_unit1_shortcut_conv  conv3_block1_0_conv
        final_norm                  post_bn
        logits                      predictions
    """,
    "keras_hub-v2": """
        stem_conv                   conv1_conv
        stage1_unit1_norm1          stack0_block0_pre_activation_bn
        stage1_unit1_conv1          stack0_block0_1_conv
        stage1_unit1_norm2          stack0_block0_1_bn
        stage1_unit1_conv2          stack0_block0_2_conv
        stage1_unit1_norm3          stack0_block0_2_bn
        stage1_unit1_conv3          stack0_block0_3_conv
        stage1_unit1_shortcut_conv  stack0_block0_0_conv
        stage1_unit2_norm1          stack0_block1_pre_activation_bn
        stage1_unit2_conv1          stack0_block1_1_conv
        stage1_unit2_norm2          stack0_block1_1_bn
        stage1_unit2_conv2          stack0_block1_2_conv
        stage1_unit2_norm3          stack0_block1_2_bn
        stage1_unit2_conv3          stack0_block1_3_conv
        stage2_unit1_norm1          stack1_block0_pre_activation_bn
        stage2_unit1_conv1          stack1_block0_1_conv
        stage2_unit1_norm2          stack1_block0_1_bn
        stage2_unit1_conv2          stack1_block0_2_conv
        stage2_unit1_norm3          stack1_block0_2_bn
        stage2_unit1_conv3          stack1_block0_3_conv
        stage2_unit1_shortcut_conv  stack1_block0_0_conv
        final_norm                  post_bn
        logits                      predictions
    """,
    "keras_hub-vd": """
        stem_conv1                  conv1_conv
        stem_norm1                  conv1_bn
        stem_conv2                  conv2_conv
        stem_norm2                  conv2_bn
        stem_conv3                  conv3_conv
        stem_norm3                  conv3_bn
        stage1_unit1_conv1          stack0_block0_1_conv
        stage1_unit1_norm1          stack0_block0_1_bn
        stage1_unit1_conv2          stack0_block0_2_conv
        stage1_unit1_norm2          stack0_block0_2_bn
        stage1_unit1_shortcut_conv  stack0_block0_0_conv
        stage1_unit1_shortcut_norm  stack0_block0_0_bn
        stage1_unit2_conv1          stack0_block1_1_conv
        stage1_unit2_norm1          stack0_block1_1_bn
        stage1_unit2_conv2          stack0_block1_2_conv
        stage1_unit2_norm2          stack0_block1_2_bn
        stage2_unit1_conv1          stack1_block0_1_conv
        stage2_unit1_norm1          stack1_block0_1_bn
        stage2_unit1_conv2          stack1_block0_2_conv
        stage2_unit1_norm2          stack1_block0_2_bn
        stage2_unit1_shortcut_conv  stack1_block0_0_conv
        stage2_unit1_shortcut_norm  stack1_block0_0_bn
        logits                      predictions
    """,
    # Projections come after the branch's convolutions, and carry no norm.
    "mlperf_tiny": """
        stem_conv                   conv2d
        stem_norm                   batch_normalization
        stage1_unit1_conv1          conv2d_1
        stage1_unit1_norm1          batch_normalization_1
        stage1_unit1_conv2          conv2d_2
        stage1_unit1_norm2          batch_normalization_2
        stage2_unit1_conv1          conv2d_3
        stage2_unit1_norm1          batch_normalization_3
        stage2_unit1_conv2          conv2d_4
        stage2_unit1_norm2          batch_normalization_4
        stage2_unit1_shortcut_conv  conv2d_5
        stage3_unit1_conv1          conv2d_6
        stage3_unit1_norm1          batch_normalization_5
        stage3_unit1_conv2          conv2d_7
        stage3_unit1_norm2          batch_normalization_6
        stage3_unit1_shortcut_conv  conv2d_8
        logits                      dense
    """,
}


def test_every_layout_has_its_names_here(small_net):
    assert {small_net(name).layout.name for name in NAMES} == set(LAYOUTS)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_all_layers(small_net, name):
    net = small_net(name)
    pairs = [line.split() for line in NAMES[name].strip().splitlines()]
    found = {
        layer.name: net.layout.translate(layer.name, net.spec)
        for layer in net.make().layers
        if layer.weights
    }
    assert found == dict(pairs)


@pytest.mark.parametrize("ours", ["nothing", "stage1_unit1_merge", "stem_bias"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_other_layers_have_no_name(layout, ours):
    assert layout.translate(ours, variants["cifar_resnet20"]) is None


def test_roles(small_net):
    """What stands behind the prefix: PyTorch's, Keras 2's and Keras 3's names of variables."""
    ends = {
        "torchvision": {
            "conv1.weight",
            "bn1.weight",
            "bn1.bias",
            "bn1.running_mean",
            "bn1.running_var",
            "bn1.num_batches_tracked",
            "fc.weight",
            "fc.bias",
        },
        "keras": {
            "conv1_conv/kernel",
            "conv1_conv/bias",
            "conv1_bn/gamma",
            "conv1_bn/beta",
            "conv1_bn/moving_mean",
            "conv1_bn/moving_variance",
            "predictions/kernel",
            "predictions/bias",
        },
        "keras_hub": {
            "conv1_conv/0",
            "conv1_bn/0",
            "conv1_bn/1",
            "conv1_bn/2",
            "conv1_bn/3",
            "predictions/0",
            "predictions/1",
        },
    }
    for name, wanted in ends.items():
        net = small_net(name)
        tensors = dump_tensors(net.make(), net.layout)
        assert {key for key in tensors if key.startswith(("conv1", "bn1", "fc", "pred"))} == wanted


def test_what_is_dumped_loads_bit_for_bit(net, randomize):
    model = net.make(1)
    weights = model.get_weights()
    tensors = dump_tensors(model, net.layout)
    randomize(model, 2)
    report = load_tensors(model, tensors, net.layout, source="itself")
    assert report.complete
    assert not report.left_out
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    assert set(report.loaded) == set(tensors) - counters
    assert bool(counters) == (net.layout.torch and net.spec.norm == "batch")
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_dumped_tensors_are_arrays_of_their_own(small_net):
    net = small_net("torchvision")
    for name, array in dump_tensors(net.make(), net.layout).items():
        assert array.flags["C_CONTIGUOUS"], name
        assert array.dtype == ("int64" if name.endswith("tracked") else "float32")
        assert array.shape or name.endswith("tracked")


@pytest.mark.parametrize("name", ["torchvision", "torchvision-grouped"])
def test_axes_of_convolutions(small_net, name):
    """OIHW to HWIO, entry by entry; of grouped ones I is what one group reads."""
    net = small_net(name)
    model = net.make()
    tensors = dump_tensors(model, net.layout)
    theirs = "layer1.1.conv2.weight"
    out, per_group, height, width = tensors[theirs].shape
    assert (out, per_group, height, width) == (
        (8, 8, 3, 3) if name == "torchvision" else (16, 4, 3, 3)
    )
    tensors[theirs] = np.arange(out * per_group * 9, dtype="float32").reshape(tensors[theirs].shape)
    load_tensors(model, tensors, net.layout, source="numbered")
    ours = model.get_layer("stage1_unit2_conv2").get_weights()[0]
    assert ours.shape == (height, width, per_group, out)
    for o, i, h, w in ((0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0), (7, 3, 2, 1)):
        assert ours[h, w, i, o] == ((o * per_group + i) * 3 + h) * 3 + w


def test_axes_of_the_classifier(small_net):
    """Transposed in PyTorch; timm v2 keeps it as a 1x1 convolution, or flat."""
    net = small_net("timm_v2")
    model = net.make()
    tensors = dump_tensors(model, net.layout)
    assert tensors["head.fc.weight"].shape == (5, 64, 1, 1)
    kernel = np.arange(320, dtype="float32").reshape(5, 64)
    for shape in ((5, 64, 1, 1), (5, 64)):
        tensors["head.fc.weight"] = kernel.reshape(shape)
        load_tensors(model, tensors, net.layout, source="numbered")
        ours = model.get_layer("logits").get_weights()[0]
        assert ours.shape == (64, 5)
        assert (ours[1, 0], ours[0, 1], ours[63, 4]) == (1, 64, 319)
    basic = small_net("torchvision")
    assert dump_tensors(basic.make(), basic.layout)["fc.weight"].shape == (5, 64)


def test_keras_axes_stay(small_net):
    net = small_net("keras")
    tensors = dump_tensors(net.make(), net.layout)
    assert tensors["conv1_conv/kernel"].shape == (7, 7, 3, 8)
    assert tensors["predictions/kernel"].shape == (64, 5)


def test_kernels_of_one_and_three_space_axes():
    for space in ((3,), (3, 5, 7)):
        theirs = np.random.default_rng(0).normal(size=(2, 4, *space))
        ours = to_keras(theirs, "conv")
        assert ours.shape == (*space, 4, 2)
        np.testing.assert_array_equal(ours[..., 3, 1], theirs[1, 3])
        np.testing.assert_array_equal(to_torch(ours, "conv"), theirs)


@pytest.mark.parametrize(
    ("layout", "net", "told"),
    [
        ("torchvision", "cifar_resnet20", ["shortcut='A'", "stem='cifar'"]),
        ("torchvision", "resnet50", ["stride_placement='1x1' (not '3x3')"]),
        ("torchvision", "resnet50d", ["shortcut='D' (not 'B')", "stem='deep' (not 'imagenet')"]),
        ("torchvision", "seresnet50", ["se_reduction=16 (not 0)"]),
        ("torchvision", "resnet50v2", ["order='pre' (not 'post')"]),
        ("torchvision", "resnet18_blur", ["blur=3 (not 0)"]),
        ("torchvision", "plain18", ["merge='none' (not 'add')"]),
        ("timm_v2", "resnet50v2", ["stem_activation=True (not False)"]),
        ("hf", "resnext50_32x4d", ["groups=32 (not 1)", "base_width=4 (not 64)"]),
        ("keras", "resnet50", ["conv_bias=False (not True)", "norm_eps=1e-05 (not 1.001e-05)"]),
        ("keras", "keras_plain50", ["merge='none' (not 'add')"]),
        ("keras_hub", "resnet50", ["stride_placement='1x1' (not '3x3')"]),
        ("keras_hub", "plain34", ["merge='none' (not 'add')"]),
        ("keras_hub", "resnet50c", ["shortcut='B' (not 'D')"]),
        ("keras_hub", "seresnet50", ["se_reduction=16 (not 0)"]),
        ("mlperf_tiny", "mlperf_tiny_plain8", ["merge='none' (not 'add')"]),
    ],
)
def test_what_a_library_cannot_have(layout, net, told):
    misfits = LAYOUTS[layout].misfits(variants[net])
    for each in told:
        assert any(misfit.startswith(each) for misfit in misfits), misfits


@pytest.mark.parametrize(
    ("layout", "spec", "changes"),
    [
        # A stem that pools by a convolution is ResNet-RS's, of timm alone.
        ("torchvision", "resnet50_v1_5", {"stem_pool": "conv"}),
        # Which unit strides, and where, is not the same in keras.applications' v1 and v2.
        ("keras", "keras_resnet50", {"stride_placement": "3x3"}),
        ("keras", "keras_resnet50v2", {"stride_unit": "first"}),
        ("keras", "keras_resnet50v2", {"stem_pool": "max"}),
        ("keras", "keras_resnet50", {"padding": "same"}),
        ("keras_hub", "resnet18", {"padding": "same"}),
        ("mlperf_tiny", "mlperf_tiny_resnet8", {"norm_eps": 1e-5}),
    ],
)
def test_a_change_that_shapes_do_not_show_is_a_misfit(layout, spec, changes):
    assert LAYOUTS[layout].misfits(variants[spec]) == []
    ((name, value),) = changes.items()
    (misfit,) = LAYOUTS[layout].misfits(variants[spec].replace(**changes))
    assert misfit.startswith(f"{name}={value!r} (not ")


def test_dumping_what_a_library_cannot_have_is_refused(small_net):
    net = small_net("torchvision")
    told = {"stride_placement='1x1' (not '3x3')", "blur=3 (not 0)"}
    model = net.make(name="resnet", stride_placement="1x1", blur=3)
    with pytest.raises(ValueError, match="^torchvision has no net like resnet: ") as caught:
        dump_tensors(model, net.layout)
    assert set(str(caught.value).split(": ", 1)[1].split("; ")) == told


def test_a_layer_without_a_place_is_named(small_net):
    """Gates are in no library's ResNet, though a highway net's other layers are."""
    net = small_net("torchvision-basic")
    model = net.make(merge="highway")
    with pytest.raises(ValueError, match="torchvision has no place for layer 'stage1_unit1_gate"):
        load_tensors(model, {}, net.layout, source="nothing")


def test_specs_are_checked_by_value_not_by_name():
    spec = ResNetSpec("mine", (1, 1), (4, 8))
    assert LAYOUTS["torchvision"].misfits(spec) == []


def test_timm_rounds_what_squeeze_and_excitation_squeezes():
    layout = LAYOUTS["timm"]
    assert layout.misfits(variants["seresnet50"]) == []
    assert layout.misfits(variants["seresnet18"]) == [
        "squeezed to 4 channels (not a multiple of 8)"
    ]
