"""Nets that this package does not build are refused by name, with the cause, under any prefix."""

from __future__ import annotations

import re

import numpy as np
import pytest

from keras_resnet.weights import open_weights

ONE = np.ones((3, 3, 3, 3), "float32")
STEM = {"conv1.weight": ONE, "bn1.weight": ONE[0, 0, 0], "bn1.running_mean": ONE[0, 0, 0]}
UNIT = {"layer1.0.conv1.weight": ONE, "layer1.0.conv2.weight": ONE, "layer1.0.bn1.bias": ONE[0]}


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.model."])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        # HRNet's first stage has torchvision's names: its body was read as a net of one stage.
        ((*STEM, *UNIT, "stage2.0.branches.0.0.conv1.weight"), "HRNet, whose branches of several"),
        ((*UNIT, "layer0.conv1.weight", "layer1.0.se_module.fc1.weight"), "a net of pretrainedm"),
        ((*STEM, "layer1.0.conv1.weight", "layer1.0.convs.0.weight"), "Res2Net, whose branches"),
        ((*STEM, "layer1.0.conv1.weight", "layer1.0.conv2.fc1.weight"), "ResNeSt, whose branches"),
        ((*STEM, "layer1.0.conv2.paths.0.conv.weight"), "a net with selective kernels"),
        (("stem.conv1.conv.weight", "stages.0.0.conv1_1x1.conv.weight"), "a net of timm's `ByobN"),
        (("stages.0.blocks.0.conv1.weight", "stages.0.blocks.0.norm1.tau"), "a net with EvoNorm"),
        (("stages.0.blocks.0.conv1.conv.weight",), "a cross-stage partial net"),
        ((*STEM, *UNIT, "attnpool.positional_embedding"), "CLIP's image encoder"),
        (("stem.0.weight", "layer1.0.conv1.0.weight"), "a video net of torchvision (r3d_18"),
    ],
)
def test_other_nets(prefix, names, message):
    with pytest.raises(ValueError, match=re.escape(f"holds {message}")):
        open_weights({f"{prefix}{name}": ONE for name in names})


def test_classification_models():
    tensors = {"bn_data/beta": ONE[0, 0, 0], "stage1_unit1_conv1/kernel": ONE}
    message = "a net of qubvel.s classification_models .* it norms its input"
    with pytest.raises(ValueError, match=message):
        open_weights(tensors)


def test_a_pruned_net():
    """The widths of timm's pruned nets differ from unit to unit."""
    tensors = {
        **STEM,
        "conv1.weight": np.ones((64, 3, 7, 7), "float32"),
        "layer1.0.conv1.weight": np.ones((47, 64, 1, 1), "float32"),
        "layer1.0.conv2.weight": np.ones((18, 47, 3, 3), "float32"),
        "layer1.0.conv3.weight": np.ones((64, 18, 1, 1), "float32"),
    }
    with pytest.raises(ValueError, match="has 47 inputs per group and 18 outputs: the net is pru"):
        open_weights(tensors)
