"""`keras-resnet study lesion`: what a trained net computes without some units, or in another order.

Source: Veit et al. 2016 (arXiv:1605.06431), section 4: a residual net hardly changes when a unit is
deleted, and a plain one (VGG) fails (Figure 3); the error grows smoothly with the number of deleted
units and of exchanged ones (Figure 5).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.analysis import Lesions

from ..command import Command
from ..config import DataConfig
from ..data import raw_images
from ..evaluation import Member, open_member
from ..evaluation.images import open_images, other_data
from ..presentation import publish
from .comparison import provenance
from .lesion_findings import NetLesions, findings
from .options import add_output, check_at_least_one


def measure_net(
    member: Member, label: str, images: Any, labels: Any, *, draws: int, seed: int
) -> NetLesions:
    """Measures a net.

    Args:
        member: The net.
        label: Its name in figures.
        images: uint8 images at the net's size.
        labels: Class numbers.
        draws: Random draws for each number of deleted or exchanged units.
        seed: Seed of the draws.

    Raises:
        ValueError: If no unit of the net keeps the shape.
    """
    lesions = Lesions(member.model, member.preprocess.normalize(images), labels)
    movable = list(lesions.movable)
    if not movable:
        raise ValueError(f"{label} has no unit that keeps the shape of its input")
    rng = np.random.default_rng(seed)
    last = max(1, len(lesions.names) - 1)
    single = tuple(
        (place / last, lesions.names[place], 1 - lesions.without([place]).accuracy)
        for place in movable
    )
    several = {
        number: tuple(
            1 - lesions.without(rng.choice(movable, number, replace=False).tolist()).accuracy
            for _ in range(draws)
        )
        for number in _numbers(len(movable))
        if number > 1
    }
    several = {1: tuple(error for _, _, error in single), **several}
    moved = tuple(
        _moved(lesions, rng, exchanges)
        for exchanges in _numbers(len(movable))
        for _ in range(draws)
    )
    error = 1 - lesions.measure().accuracy
    chance = 1 - np.bincount(labels).max() / len(labels)
    return NetLesions(label, member.spec, len(labels), error, single, several, moved, float(chance))


def _numbers(most: int) -> list[int]:
    """Returns up to eight numbers from 1 to `most`, denser at the beginning."""
    return sorted({round(number) for number in np.geomspace(1, most, min(most, 8))})


def _moved(lesions: Lesions, rng: np.random.Generator, exchanges: int) -> tuple[float, float]:
    """Exchanges pairs of units of one stage at random; returns the correlation and the error."""
    order = list(range(len(lesions.names)))
    stages: dict[int, list[int]] = {}
    for place in lesions.movable:
        stages.setdefault(lesions.stages[place], []).append(place)
    able = [places for places in stages.values() if len(places) > 1]
    for _ in range(exchanges if able else 0):
        places = able[rng.choice(len(able), p=_shares(able))]
        one, two = rng.choice(places, 2, replace=False)
        order[one], order[two] = order[two], order[one]
    return kendall(order), 1 - lesions.measure(order).accuracy


def _shares(groups: Sequence[Sequence[int]]) -> np.ndarray:
    sizes = np.asarray([len(group) for group in groups], "float64")
    return sizes / sizes.sum()


def kendall(order: Sequence[int]) -> float:
    """Returns Kendall's rank correlation of an order with the ascending one, -1..1."""
    pairs = [(a, b) for n, a in enumerate(order) for b in order[n + 1 :]]
    return sum(np.sign(b - a) for a, b in pairs) / max(1, len(pairs))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "nets", nargs="+", metavar="NET", help="runs, files of weights or published names"
    )
    parser.add_argument("--dataset", help="data set; the first run's by default")
    parser.add_argument("--data-dir", help="directory of TFDS data sets")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--limit", type=int, default=1000, help="images (%(default)s)")
    parser.add_argument(
        "--draws", type=int, default=5, help="draws for each number of units (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (%(default)s)")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    check_at_least_one(args, "limit", "draws")
    measured, data = [], set()
    for number, (text, label) in enumerate(zip(args.nets, _labels(args.nets), strict=True), 1):
        started = time.monotonic()
        member = open_member(text, default_net=True)
        own = DataConfig() if member.run is None else member.run.config.data
        given = {"dataset": args.dataset, "data_dir": args.data_dir}
        config = dataclasses.replace(own, **{k: v for k, v in given.items() if v is not None})
        if member.run is None and args.dataset is None:
            raise ValueError(f"{text!r} is not a run, so give the data: --dataset")
        found = open_images(
            other_data(config, own), member, args.split, other=args.dataset is not None
        )
        images, labels = raw_images(found.source, member.preprocess, member.channels, args.limit)
        measured.append(
            measure_net(
                member, label, images, labels.astype("int64"), draws=args.draws, seed=args.seed
            )
        )
        data.add(f"{found.data.name}, {len(images)} images")
        print(
            f"[{number}/{len(args.nets)}] {label}: {len(measured[-1].single)} units in "
            f"{time.monotonic() - started:.1f} s",
            flush=True,
        )
    facts = provenance(
        {
            "Data": f"{'; '.join(sorted(data))} ({args.split} split)",
            "Deleted": "units that keep the shape of their input; the others stay",
            "Draws": f"{args.draws} for each number of units, seed {args.seed}",
        }
    )
    return publish(args.output, findings(measured, facts))


def _labels(names: Sequence[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("Give each net once. Received: one of them twice")
    short = [name.rstrip("/").split("/")[-1] for name in names]
    return short if len(set(short)) == len(short) else list(names)


COMMAND = Command(_add_arguments, _run)
