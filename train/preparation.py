"""A run before its first step: its data, its net, and all checks."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.version import __version__

from .agreement import Agreement, largest_of_workers
from .config import RunConfig
from .console import Console
from .data import ImageData, resolve_data
from .data.index import FILE as INDEX
from .data.preview import augmented_examples
from .data.shared_index import Sharing
from .memory_check import check_memory
from .pretrained import Pretrained
from .remote.mirror import Mirror
from .run_log import RunLog
from .rundir import RunDirectory, data_facts, spec_of
from .starting_net import StartingNet, describe_start, starting_net, stated_preprocess
from .strategies import check_strategy, is_chief, make_strategy, task_index
from .tensorboard import TensorBoardHistory
from .tracking import make_tracker
from .trainer import Trainer
from .workers import Watch, peers

Examples = Callable[[], tuple[np.ndarray, np.ndarray]]


class Prepared(NamedTuple):
    """A run before its first step.

    Attributes:
        trainer: The trainer; nothing is restored yet.
        weights: Content of `weights.json`; None where the run starts from random weights or has
            it already.
        examples: Returns the first augmented images and their labels; made once, when called.
    """

    trainer: Trainer
    weights: Mapping[str, Any] | None
    examples: Examples


def prepare(
    config: RunConfig,
    directory: RunDirectory,
    console: Console,
    *,
    pretrained: Pretrained | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    watch: Watch | None = None,
    mirror: Mirror | None = None,
) -> Prepared:
    """Opens the data, builds the net and makes all checks; writes nothing.

    Args:
        config: The run, after `with_pretrained`.
        directory: The directory of the run, which need not exist.
        console: Prints what was understood.
        pretrained: The weights to start from.
        callbacks: Keras callbacks, as `Trainer` takes them.
        watch: Says for whom this worker waits, if there are several.
        mirror: The copy of the directory in an object store.

    Raises:
        PeerLostError: If another worker of the run could not begin.
        ValueError: If configuration, data, weights and directory do not fit, or differ between
            workers.
    """
    import tensorflow as tf

    started = time.monotonic()
    keras.utils.set_random_seed(config.seed)
    if config.runtime.deterministic:
        tf.config.experimental.enable_op_determinism()
    watch = watch or Watch(())
    runtime, chief = config.runtime, is_chief(config.runtime.strategy)
    strategy = make_strategy(runtime.strategy, runtime.worker_timeout, runtime.collective)
    with watch.waiting("the other workers to compare their settings"):
        agreement, token = _agree(config, directory, strategy, mirror)
    check_strategy(
        strategy,
        batch_size=config.batch_size,
        xla=runtime.xla,
        deterministic=runtime.deterministic,
    )
    waiting = watch.waiting("the other workers to read their data")
    with agreement.together("begin", waiting):
        index = _index(config, directory, token, mirror)
        data, preprocess, start, weights = _open(config, directory, console, pretrained, index)
    if _several(config):
        with watch.waiting("the other workers to compare their data"):
            agreement.check_equal(content_of(data, preprocess, pretrained), "data or weights")
    examples = functools.cache(functools.partial(augmented_examples, config, data, preprocess))
    if chief:
        callbacks = [*_recorders(config, examples, directory), *callbacks]
    building = watch.waiting("the other workers to build the net")
    with dtype_policy(config.runtime.precision), building:
        trainer = Trainer(
            config,
            data,
            preprocess,
            directory,
            strategy,
            console,
            callbacks,
            start,
            agreement=agreement,
            watch=watch,
        )
    if trainer.learner.teacher is not None:
        console.say(trainer.learner.teacher.description)
    console.say(
        f"{spec_of(config).name} on {data.name}: {len(data.train)} training images, "
        f"{trainer.length.steps} steps of {config.batch_size} on "
        f"{strategy.num_replicas_in_sync} replica(s); ready in {time.monotonic() - started:.1f} s"
    )
    return Prepared(trainer, weights, examples)


def _several(config: RunConfig) -> bool:
    return config.runtime.strategy == "multi-worker"


def _agree(
    config: RunConfig, directory: RunDirectory, strategy: Any, mirror: Mirror | None
) -> tuple[Agreement, int]:
    """Compares settings and directory with those of the other workers, if there are any.

    Returns:
        What the workers go on to agree by, and a number that this start of the run has alone.
    """
    agreement = Agreement()
    if _several(config):
        agreement = Agreement(largest_of_workers(strategy), task_index())
    agreement.check_equal(settings_of(config, mirror), "settings")
    if mirror is None:
        agreement.check_shared(directory.path, chief=is_chief(config.runtime.strategy))
    else:
        mirror.refresh()
    return agreement, agreement.token()


def _index(
    config: RunConfig, directory: RunDirectory, token: int, mirror: Mirror | None
) -> Path | Sharing:
    """Returns the index of the images beside a run; workers that share it read them together."""
    path = directory.path / INDEX
    if not _several(config) or mirror is not None:
        return path
    return Sharing(path, task_index(), len(peers()) + 1, token)


class _Opened(NamedTuple):
    data: ImageData
    preprocess: PreprocessSpec
    start: StartingNet | None
    weights: Mapping[str, Any] | None


def _open(
    config: RunConfig,
    directory: RunDirectory,
    console: Console,
    pretrained: Pretrained | None,
    index: Path | Sharing,
) -> _Opened:
    """Opens the data and the net that the run starts from, and checks them."""
    spec, start, weights = spec_of(config), None, None
    data, preprocess = resolve_data(
        config,
        spec,
        directory.listing,
        lambda note: console.say(f"Note: {note}"),
        None if pretrained is None else stated_preprocess(config, pretrained),
        index,
    )
    if pretrained is not None:
        start = starting_net(config, pretrained, data, preprocess, directory)
        preprocess = start.preprocess
        weights = None if start.net is None else pretrained.record(start.changes)
        console.say(describe_start(config, pretrained, start))
    directory.check_data(data, preprocess)
    check_memory(
        spec,
        preprocess,
        config.augment,
        batch=-(-config.batch_size // (len(peers()) + 1 if _several(config) else 1)),
        classes=len(data.class_names),
        channels=data.channels,
    )
    return _Opened(data, preprocess, start, weights)


def settings_of(config: RunConfig, mirror: Mirror | None = None) -> dict[str, Any]:
    """Returns what must be the same on all workers: settings and versions, but for paths."""
    import tensorflow as tf

    facts: dict[str, Any] = {"keras_resnet": __version__, "tensorflow": tf.__version__}
    facts |= {"keras": keras.__version__, "numpy": np.__version__}
    for section, values in dataclasses.asdict(config).items():
        inner = values if isinstance(values, dict) else {"": values}
        facts |= {f"{section}.{name}".rstrip("."): value for name, value in inner.items()}
    for name in ("data.dataset", "data.data_dir", "runtime.profile", "runtime.track"):
        facts.pop(name, None)
    return facts if mirror is None else {**facts, "output": mirror.url}


def content_of(
    data: ImageData, preprocess: PreprocessSpec, pretrained: Pretrained | None
) -> dict[str, Any]:
    """Returns what tells data and weights apart; a file may be another one on another machine."""
    files = [] if pretrained is None else [file["sha256"] for file in pretrained.files]
    return {**data_facts(data, preprocess), "weights": files}


def _recorders(
    config: RunConfig, examples: Examples, directory: RunDirectory
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that write down how a run goes."""

    def pictures() -> np.ndarray:
        images, _ = examples()
        return images[..., : 3 if images.shape[-1] >= 3 else 1]

    log = directory.path / "metrics.jsonl"
    tracker = make_tracker(config, directory.path)
    # TensorBoard reads the lines of earlier sessions before `RunLog` opens the file.
    board = TensorBoardHistory(directory.path / "logs", log, pictures)
    return [board, RunLog(log), *([] if tracker is None else [tracker])]
