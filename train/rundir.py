"""A run opened for reading: its net, its configuration and its preprocessing."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any, Literal

from keras_resnet import PreprocessSpec, ResNetSpec, get_spec

from .checkpoint import Checkpoints, CorruptCheckpointError
from .config import RunConfig, load_config
from .data_record import data_facts as data_facts
from .files import read_object
from .quantization import quantized_net
from .run_directory import Resume as Resume
from .run_directory import RunDirectory as RunDirectory

Which = Literal["auto", "best", "last"]

_MOST_CHANNELS = 65_536  # as a spec allows


@dataclasses.dataclass(frozen=True)
class Run:
    """A run opened for reading, with its model in float32, to evaluate, predict or export.

    Attributes:
        directory: The run's directory.
        config: The run's configuration.
        spec: The network.
        preprocess: The preprocessing, with the measured mean and standard deviation.
        class_names: In the order of the logits.
        model: The model, which returns logits.
        weights: The origin of the weights: `model.keras`, `best checkpoint` or `last checkpoint`.
    """

    directory: RunDirectory
    config: RunConfig
    spec: ResNetSpec
    preprocess: PreprocessSpec
    class_names: tuple[str, ...]
    model: Any
    weights: str


def open_run(path: Path, which: Which = "auto") -> Run:
    """Opens a run: its finished model, or a checkpoint.

    Args:
        path: The run's directory.
        which: `best` or `last` opens that checkpoint. `auto` opens `model.keras`; before the run
            has ended, the best checkpoint; without a sound one, the last, with a warning if it is
            damaged.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights yet.
        ValueError: If one of its files is damaged.
    """
    import keras_resnet
    from keras_resnet.nets.precision import dtype_policy
    from keras_resnet.weights import load

    directory = RunDirectory(path)
    if not (path / "config.json").is_file():
        why = "it has no config.json" if path.exists() else "there is nothing of this name"
        raise FileNotFoundError(f"{path} is not a run: {why}")
    config = load_config(path / "config.json")
    spec = spec_of(config)
    if not (path / "dataset.json").is_file():
        raise FileNotFoundError(f"{path} has not begun to train: it has no dataset.json")
    record = read_object(path / "dataset.json")
    try:
        preprocess = PreprocessSpec.from_dict(record["preprocessing"])
        names, channels = _class_names(record["class_names"]), int(record["channels"])
        if not 1 <= channels <= _MOST_CHANNELS:
            raise ValueError(f"channels={channels}")
        moved_to = Path(record.get("path") or "")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path / 'dataset.json'} is not what was written: {error!r}") from error
    # The data may have moved since, and a relative path means another folder elsewhere.
    if moved_to.is_absolute() and moved_to.exists():
        moved = dataclasses.replace(config.data, dataset=record["path"])
        config = dataclasses.replace(config, data=moved)
    with dtype_policy("float32"):
        model = keras_resnet.build(
            spec.replace(norm_sync=False),
            classes=len(names),
            input_shape=(*preprocess.size, channels),
            stacked=config.model.stacked,
        )
        if config.quantize.enabled:
            model = quantized_net(model, config, preprocess)
    if which == "auto" and directory.model.is_file():
        if config.quantize.enabled:
            model.load_weights(directory.model)
        else:
            load(model, directory.model)
        return Run(directory, config, spec, preprocess, names, model, "model.keras")
    which = _load_checkpoint(Checkpoints(directory.checkpoints), model, which)
    return Run(directory, config, spec, preprocess, names, model, f"{which} checkpoint")


def _load_checkpoint(checkpoints: Checkpoints, model: Any, which: Which) -> Which:
    """Loads the weights of a checkpoint; returns which.

    Warns where `auto` takes the last one, because the best is damaged.
    """
    if which != "auto":
        checkpoints.load_weights(model, which)
        return which
    if (checkpoints.directory / "best").is_dir():
        try:
            checkpoints.load_weights(model, "best")
            return "best"
        except CorruptCheckpointError as error:
            warnings.warn(
                f"The best checkpoint is damaged, and the last one is used: {error}", stacklevel=3
            )
    checkpoints.load_weights(model, "last")
    return "last"


def _class_names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("class_names is no list of names")
    return tuple(values)


def spec_of(config: RunConfig) -> ResNetSpec:
    """Returns the network of a configuration.

    Raises:
        ValueError: If there is no such network or field.
    """
    spec = get_spec(config.model.name)
    changes = dict(config.model.spec)
    if config.runtime.sync_batch_norm:
        changes["norm_sync"] = True
    return spec.replace(**changes) if changes else spec
