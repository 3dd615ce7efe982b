"""Recipes against the numbers of their papers."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest

from keras_resnet import get_spec
from keras_resnet_train.config import RunConfig
from keras_resnet_train.length import Length, length_of
from keras_resnet_train.recipes import RECIPES, Recipe, fit_warmup, get_recipe
from keras_resnet_train.schedules import Schedule, make_schedule

pytestmark = pytest.mark.tf


def schedule_of(config: RunConfig, examples: int) -> tuple[Schedule, Length]:
    length = length_of(config, examples)
    schedule = make_schedule(
        config.schedule, total_steps=length.steps, steps_per_epoch=length.steps_per_epoch
    )
    return schedule, length


def test_names() -> None:
    cifar = ["fast-cifar", "he2015-cifar", "he2016-cifar", "wrn-cifar"]
    papers = ["he2015-imagenet", "goyal2017", "bag-of-tricks", "resnet-rs"]
    today = ["torchvision-v2", "rsb-a1", "rsb-a2", "rsb-a3"]
    assert list(RECIPES) == ["digits", "finetune", "quantize", *cifar, *papers, *today]
    assert all(name == recipe.name for name, recipe in RECIPES.items())
    with pytest.raises(ValueError, match="Unknown recipe 'goyal17'. Nearest: goyal2017"):
        get_recipe("goyal17")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_are_whole(recipe: Recipe) -> None:
    """Each names its source, and the net and the data that its figure is about."""
    config = recipe.configure(recipe.model, {"data.dataset": recipe.dataset})
    assert (config.recipe, config.model.name) == (recipe.name, recipe.model)
    assert recipe.source
    assert "%" in recipe.expected or "no published figure" in recipe.expected
    command = f"--model {recipe.model} --dataset {recipe.dataset} --recipe {recipe.name}"
    assert recipe.command.endswith(command)
    module = importlib.import_module(f"keras_resnet_train.recipes.{recipe.name.replace('-', '_')}")
    assert command in " ".join((module.__doc__ or "").replace("\\\n", " ").split())


def test_he2015_cifar() -> None:
    """Section 4.2: 64k iterations of 128; rate 0.1, divided by 10 at 32k and 48k; pad 4, flip."""
    config = get_recipe("he2015-cifar").configure("cifar_resnet56", {})
    assert (config.batch_size, config.steps, config.epochs) == (128, 64_000, None)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.9, False)
    assert (optimizer.weight_decay, optimizer.decay_all) == (1e-4, True)
    assert (optimizer.label_smoothing, optimizer.ema, optimizer.clip_norm) == (0.0, 0.0, 0.0)
    assert dataclasses.astuple(config.augment)[:2] == ("pad", 4)
    assert config.augment.flip
    schedule, length = schedule_of(config, 50_000)
    assert length.steps == 64_000
    found = {step: float(schedule(step)) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)}
    assert found == pytest.approx(
        {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}, rel=1e-6
    )


@pytest.mark.parametrize(
    ("model", "warm"),
    [
        ("cifar_resnet56", False),
        ("cifar_resnet104", False),
        ("cifar_resnet110", True),
        ("cifar_plain110", True),
        ("cifar_resnet164v2", True),
    ],
)
def test_he2015_cifar_warms_up_from_110_layers_on(model: str, warm: bool) -> None:
    config = get_recipe("he2015-cifar").configure(model, {})
    schedule, _ = schedule_of(config, 50_000)
    assert config.schedule.warmup_steps == (400 if warm else 0)
    start = 0.01 if warm else 0.1
    assert [float(schedule(step)) for step in (0, 399, 400)] == pytest.approx([start, start, 0.1])


def test_he2015_imagenet() -> None:
    """Section 3.4: 60 x 10^4 iterations of 256; shorter side in [256, 480], 224 crop.

    The curves of Figure 4 fall at 15 x 10^4 and 30 x 10^4 iterations.
    """
    config = get_recipe("he2015-imagenet").configure("resnet50", {})
    assert (config.batch_size, config.steps, config.epochs) == (256, 600_000, None)
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 1e-4)
    assert config.augment.crop == "scale"
    assert [side * 224 for side in config.augment.shorter_side] == pytest.approx([256, 480])
    assert config.data.crop_fraction == 224 / 256
    assert config.data.mean == (123.675, 116.28, 103.53)
    schedule, _ = schedule_of(config, 1_281_167)
    found = [float(schedule(step)) for step in (0, 149_999, 150_000, 299_999, 300_000, 599_999)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_goyal2017() -> None:
    """Section 5.1: 90 epochs, rate divided by 10 at 30, 60 and 80, 5 epochs of warm-up from 0.1."""
    config = get_recipe("goyal2017").configure("resnet50_v1_5", {"batch_size": 8192})
    assert (config.epochs, config.steps) == (90, None)
    assert config.schedule.learning_rate == pytest.approx(3.2)
    assert (config.augment.crop, config.augment.min_area, config.augment.flip) == (
        "resized",
        0.08,
        True,
    )
    # Section 5.1: N(0, 0.01) for the classifier; no decay of gamma and beta, and no word of biases.
    assert config.model.head_std == 0.01
    assert (config.optimizer.decay_all, config.optimizer.decay_biases) == (False, True)
    assert config.optimizer.momentum_form == "pytorch"  # section 3, Remark 2
    examples = 8192 * 100  # a hundred steps an epoch
    schedule, length = schedule_of(config, examples)
    assert (length.steps, length.steps_per_epoch, length.epochs) == (9000, 100, 90)
    expected = {
        0: 0.1,
        250: 0.1 + 3.1 / 2,
        500: 3.2,
        2999: 3.2,
        3000: 0.32,
        5999: 0.32,
        6000: 0.032,
        7999: 0.032,
        8000: 0.0032,
        8999: 0.0032,
    }
    assert {step: float(schedule(step)) for step in expected} == pytest.approx(expected, rel=1e-5)


def test_goyal2017_for_three_steps() -> None:
    """The last fraction rounds to the end of the run, where the rate changes no more."""
    changes = {"steps": 3, "schedule.warmup_epochs": 0}
    schedule, _ = schedule_of(get_recipe("goyal2017").configure("resnet50", changes), 2560)
    assert [float(schedule(step)) for step in range(3)] == pytest.approx([0.1, 0.01, 0.001])


def test_goyal2017_scales_the_rate_unless_it_is_given() -> None:
    recipe = get_recipe("goyal2017")
    rates = {
        batch: recipe.configure("resnet50", {"batch_size": batch}).schedule.learning_rate
        for batch in (64, 256, 1024)
    }
    assert rates == pytest.approx({64: 0.025, 256: 0.1, 1024: 0.4})
    given = recipe.configure("resnet50", {"batch_size": 64, "schedule.learning_rate": 0.3})
    assert given.schedule.learning_rate == 0.3
    # A warm-up rises or is none, also where the rate is below the paper's starting point.
    for changes in ({"batch_size": 32}, {"schedule.learning_rate": 0.01}):
        schedule = recipe.configure("resnet50", changes).schedule
        assert schedule.warmup_rate == schedule.learning_rate < 0.1
    fixed = get_recipe("he2015-imagenet").configure("resnet50", {"batch_size": 64})
    assert fixed.schedule.learning_rate == 0.1


def test_goyal2017_starts_branches_at_zero_where_there_is_a_shortcut() -> None:
    recipe = get_recipe("goyal2017")
    assert recipe.configure("resnet50", {}).model.spec == {"zero_init_residual": True}
    assert get_spec("plain34").merge == "none"
    assert recipe.configure("plain34", {}).model.spec == {}
    given = recipe.configure("resnet50", {"model.spec.zero_init_residual": False})
    assert given.model.spec == {"zero_init_residual": False}


@pytest.mark.parametrize(
    ("recipe", "changes", "length"),
    [
        ("he2015-cifar", {"epochs": 3}, (3.0, None)),
        ("he2015-cifar", {"steps": 7}, (None, 7)),
        ("goyal2017", {"steps": 7}, (None, 7)),
        ("goyal2017", {"epochs": 0.5}, (0.5, None)),
    ],
)
def test_a_length_replaces_the_recipes(
    recipe: str, changes: dict[str, float], length: tuple[float | None, int | None]
) -> None:
    config = get_recipe(recipe).configure("resnet18", changes)
    assert (config.epochs, config.steps) == length


def _of(config: RunConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("recipe", "changes", "expected"),
    [
        (  # Appendix of He et al. 2016: 400 iterations at 0.01 for every net
            "he2016-cifar",
            {},
            {"steps": 64_000, "batch_size": 128, "schedule.warmup_steps": 400},
        ),
        (  # Zagoruyko and Komodakis 2016, section 3
            "wrn-cifar",
            {},
            {"epochs": 200, "optimizer.weight_decay": 5e-4, "optimizer.nesterov": True},
        ),
        (  # He et al. 2018, sections 3.1 and 5: 0.1 per 256 images
            "bag-of-tricks",
            {"batch_size": 256},
            {"schedule.learning_rate": 0.1, "augment.mixup": 0.2, "optimizer.decay_biases": False},
        ),
        (  # imagenet_resnetrs50_i160.yaml
            "resnet-rs",
            {},
            {
                "schedule.learning_rate": 1.6,
                "optimizer.ema": 0.9999,
                "model.spec.zero_init_residual": True,
                "augment.policy_levels": "original",
            },
        ),
        (  # vision#3995
            "torchvision-v2",
            {},
            {
                "epochs": 600,
                "schedule.learning_rate": 0.5,
                "augment.train_size": 176,
                "optimizer.weight_decay": 2e-5,
                "augment.repeats": 4,
            },
        ),
        (  # arXiv:2110.00476, Table 2
            "rsb-a1",
            {},
            {
                "epochs": 600,
                "optimizer.name": "lamb",
                "schedule.learning_rate": 5e-3,
                "optimizer.weight_decay": 0.01,
                "optimizer.label_smoothing": 0.1,
                "augment.mixup": 0.2,
                "model.spec.stochastic_depth": 0.05,
            },
        ),
        (
            "rsb-a2",
            {},
            {"epochs": 300, "optimizer.weight_decay": 0.02, "optimizer.label_smoothing": 0},
        ),
        (
            "rsb-a3",
            {},
            {
                "epochs": 100,
                "schedule.learning_rate": 8e-3,
                "augment.train_size": 160,
                "augment.policy_magnitude": 6,
                "augment.repeats": 1,
            },
        ),
    ],
)
def test_figures_of_papers(recipe: str, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    config = get_recipe(recipe).configure(get_recipe(recipe).model, changes)
    assert {path: _of(config, path) for path in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("model", "magnitude", "dropout", "drops"),
    [
        ("resnetrs50", 10, 0.25, None),
        ("resnetrs101", 15, 0.25, None),
        ("resnetrs152", 15, 0.25, None),
        ("resnetrs200", 15, 0.25, 0.1),
        ("resnetrs270", 15, 0.25, 0.1),
        ("resnetrs420", 15, 0.4, 0.1),
    ],
)
def test_resnet_rs_follows_the_net(
    model: str, magnitude: float, dropout: float, drops: float | None
) -> None:
    """tensorflow/tpu, `resnet_rs/configs`: i160, i192, i256, i256, i256 and i320."""
    config = get_recipe("resnet-rs").configure(model, {})
    assert config.augment.policy_magnitude == magnitude
    assert config.model.spec["head_dropout"] == dropout
    assert config.model.spec.get("stochastic_depth") == drops
    plain = get_recipe("resnet-rs").configure("plain34", {}).model.spec
    assert "zero_init_residual" not in plain


def test_goyal2017_has_nesterovs_momentum() -> None:
    """Section 5.1 of the paper: Nesterov momentum with m of 0.9."""
    optimizer = get_recipe("goyal2017").configure("resnet50", {}).optimizer
    assert (optimizer.nesterov, optimizer.momentum) == (True, 0.9)
    assert optimizer.momentum_form == "pytorch"


def test_wrn_cifar_multiplies_the_rate_by_a_fifth() -> None:
    config = get_recipe("wrn-cifar").configure("cifar_wrn28_10", {})
    schedule, length = schedule_of(config, 128 * 100)  # a hundred steps an epoch
    assert length.steps == 20_000
    found = [float(schedule(step)) for step in (5_999, 6_000, 12_000, 16_000)]
    assert found == pytest.approx([0.1, 0.02, 0.004, 0.0008])


def test_finetune_follows_the_number_of_images() -> None:
    recipe, config = get_recipe("finetune"), RunConfig(steps=1)
    assert recipe.by_images is not None
    found = {
        images: tuple(recipe.by_images(images, config)[key] for key in ("batch_size", "epochs"))
        for images in (999, 1_000, 5_000, 20_000, 100_000, 500_000)
    }
    assert found == {
        999: (32, 40),
        1_000: (32, 30),
        5_000: (64, 20),
        20_000: (128, 15),
        100_000: (256, 10),
        500_000: (256, 6),
    }
    rates = [recipe.by_images(n, config)["schedule.learning_rate"] for n in (999, 5_000, 500_000)]
    assert rates == pytest.approx([0.01, 0.02, 0.08])


def test_unknown_net() -> None:
    with pytest.raises(ValueError, match="Unknown model 'resnet51'. Nearest: .*resnet50"):
        get_recipe("digits").configure("resnet51", {})


# Lengths.


def test_length_in_epochs() -> None:
    length = length_of(RunConfig(epochs=2.5, batch_size=64), 1257)
    assert length.steps == round(2.5 * 1257 / 64) == 49
    assert length.epochs == 3
    assert [length.end_of(epoch) for epoch in (1, 2, 3)] == [20, 39, 49]
    assert [length.epoch_of(step) for step in (0, 19, 20, 38, 39, 48)] == [1, 1, 2, 2, 3, 3]


def test_every_step_belongs_to_one_epoch() -> None:
    for examples in (64, 65, 70, 96, 100, 160, 1257):
        length = length_of(RunConfig(steps=57, batch_size=64), examples)
        ends = [length.end_of(epoch) for epoch in range(1, length.epochs + 1)]
        assert ends == sorted(set(ends))
        assert ends[-1] == 57
        for step in range(57):
            assert length.epoch_of(step) == next(i for i, e in enumerate(ends, 1) if step < e)


def test_length_of_less_than_a_batch() -> None:
    length = length_of(RunConfig(steps=5, batch_size=64), 10)
    assert (length.steps, length.steps_per_epoch, length.epochs) == (5, 1.0, 5)
    assert length_of(RunConfig(epochs=0.001, batch_size=64), 100).steps == 1


def test_sizes_of_training_images_follow_the_size_that_is_given() -> None:
    """176 of 224 pixels in the paper's form of the recipe; nets of 32 pixels trained at 176."""
    recipe = get_recipe("torchvision-v2")
    assert recipe.configure("resnet18", {}).augment.train_size == 176
    assert recipe.configure("resnet18", {"data.image_size": 112}).augment.train_size == 88
    own = {"data.image_size": 112, "augment.train_size": 100}
    assert recipe.configure("resnet18", own).augment.train_size == 100
    fast = get_recipe("fast-cifar").configure("cifar_resnet20", {"data.image_size": 64})
    assert fast.augment.start_size == 48


def test_a_recipes_own_warmup_fits_a_short_run() -> None:
    """The digits' warm-up of two epochs, 39 steps of 64 images, in runs of 20 and of 40 steps."""

    def fitted(steps: int, **changes: Any) -> tuple[int, float, str]:
        dotted = {name.replace("__", "."): value for name, value in changes.items()}
        config = get_recipe("digits").configure("cifar_resnet8", {"steps": steps, **dotted})
        schedule, note = fit_warmup(config, total_steps=steps, steps_per_epoch=1257 / 64)
        return schedule.warmup_steps, schedule.warmup_epochs, note

    assert fitted(40) == (0, 2, "")
    assert fitted(20) == (
        2,
        0,
        "The warm-up of recipe digits, 39 steps, is not shorter than the run of 20 steps: it is "
        "shortened to 2 steps",
    )
    assert fitted(20, schedule__warmup_epochs=3) == (0, 3, "")  # the user's own is an error later
