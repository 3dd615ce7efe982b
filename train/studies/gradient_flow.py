"""`keras-resnet study gradient-flow`: do gradients reach the first units, before and in training?

Source: He et al. 2015 (arXiv:1512.03385), section 4.1, states that plain nets with batch norm do
not suffer from vanishing gradients; Yang et al. 2019 (arXiv:1902.08129) show that they explode at
initialization. Singular values: Saxe et al. 2013 (arXiv:1312.6120), Pennington et al. 2017
(arXiv:1711.04735), Xiao et al. 2018 (arXiv:1806.05393).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_resnet.analysis import GradientFlow, read_gradient_flow

from ..command import Command
from ..presentation import publish
from ..strategies import make_strategy
from .comparison import budget_facts
from .degradation import arms as pairs
from .flow import measure_new_nets, training_batch
from .flow_findings import History, findings
from .options import Preset, add_budget, add_depths, budget_of, check_at_least_one, depths_of
from .plan import Arm, Budget, Trial, trials
from .trials import run_trials

# No steps: only new nets are measured, unless --steps or --epochs is given.
PRESETS = {
    "smoke": Preset(0, 1, "digits", 64, (20, 56)),
    "short": Preset(0, 3, "digits", 64, (20, 56, 110)),
    "paper": Preset(0, 3, "cifar10", 128, (20, 56, 110, 1202)),
}


def train_with_flow(
    runs: Sequence[Trial], images: int, every: int, output: Path
) -> dict[str, History]:
    """Trains the nets, or resumes their training, and returns their gradients by step.

    Runs without a measurement are left out.
    """

    def callbacks(trial: Trial, path: Path) -> list[keras.callbacks.Callback]:
        batch = training_batch(trial.config, images)
        return [
            GradientFlow(
                batch.images,
                batch.labels,
                every=every,
                csv_path=path / "gradient_flow.csv",
                log_dir=path / "logs",
            )
        ]

    run_trials(runs, output, callbacks=callbacks)
    files = {run.name: output / "runs" / run.name / "gradient_flow.csv" for run in runs}
    return {name: read_gradient_flow(file) for name, file in files.items() if file.is_file()}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="nets of `keras-resnet list`")
    add_depths(parser, "instead of MODEL: plain and residual nets of depths such as 20,56,110")
    parser.add_argument("--images", type=int, default=16, help="training images to measure on")
    parser.add_argument("--every", type=int, help="steps between measurements during training")
    parser.add_argument(
        "--jacobian",
        action="store_true",
        help="singular values of the Jacobian too; at most 4,096 outputs at the last unit",
    )
    add_budget(parser, PRESETS)


def _run(args: argparse.Namespace) -> int:
    if args.models and args.depths:
        raise ValueError("Give either nets or --depths, not both")
    check_at_least_one(args, "images", "every")
    depths = depths_of(args.depths, PRESETS[args.preset].depths)
    arms = [Arm(name, name, name) for name in args.models] or pairs(depths)
    budget = budget_of(args, PRESETS)
    trains = bool(budget.steps or budget.epochs)
    if args.every is not None and not trains:
        raise ValueError("`--every` needs training: give --steps or --epochs")
    if not trains:  # a configuration needs a length, even without training
        budget = dataclasses.replace(budget, steps=1)
    runs = trials(arms, budget)
    if trains:  # a strategy that splits the CPU must be created before TensorFlow uses it
        make_strategy(runs[0].config.runtime.strategy)
    flows = measure_new_nets(runs, args.images, args.output, spectra=args.jacobian)
    histories: dict[str, History] = {}
    if trains:
        every = args.every or max(1, (budget.steps or 500) // 10)
        histories = train_with_flow(runs, args.images, every, args.output)
    return publish(args.output, findings(flows, histories, _facts(budget, args.images, trains)))


def _facts(budget: Budget, images: int, trains: bool) -> dict[str, object]:
    facts = budget_facts(budget)
    del facts["Different"]
    if not trains:
        facts["Recipe"] = f"no training; data as in {budget.recipe}"
    return facts | {"Measured on": f"{images} training images, with batch statistics, in float32"}


COMMAND = Command(_add_arguments, _run)
