"""The weights that a run starts from: opened, made part of its configuration, recorded."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet import PreprocessSpec, ResNetSpec, get_spec
from keras_resnet.nets.catalog import nearest
from keras_resnet.weights import SOURCES, from_pretrained, open_weights
from keras_resnet.weights.pretrained import names_source
from keras_resnet.weights.rebuild import copy_weights, rebuild
from keras_resnet.weights.saved_nets import WITHOUT_EFFECT, SavedNet, read_saved

from .config import RunConfig, load_config, with_changes
from .files import read_object
from .remote.weights import weights_at_hand

if TYPE_CHECKING:
    from keras_resnet.nets.model import ResNet

RECORD = "weights.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """Weights to start from.

    Attributes:
        source: What `model.weights` says.
        spec: The net that they belong to.
        preprocess: The preprocessing that they were evaluated with, or None if it is unknown.
        files: Path and SHA-256 of each file that was read, and its URL if it was downloaded.
        class_names: The classes of the classifier, if a run states them.
        open: Builds the net, in float32, for images of a height and width. None where a
            checkpoint of the run has the weights already.
    """

    source: str
    spec: ResNetSpec
    preprocess: PreprocessSpec | None
    files: tuple[Mapping[str, str], ...]
    class_names: tuple[str, ...] | None = None
    open: Callable[[tuple[int, int]], ResNet] | None = None

    def record(self, changes: tuple[str, ...]) -> dict[str, Any]:
        """Returns the content of `weights.json`.

        Args:
            changes: How the net was fitted to the data.
        """
        return {
            "source": self.source,
            "files": [dict(file) for file in self.files],
            "spec": self.spec.to_dict(),
            "preprocessing": self.preprocess and self.preprocess.to_dict(),
            "class_names": self.class_names and list(self.class_names),
            "changes": list(changes),
        }

    @property
    def described(self) -> str:
        """The source with the net and the hash of its first file, on one line."""
        digest = f", SHA-256 {self.files[0]['sha256'][:8]}" if self.files else ""
        return f"{self.source} ({self.spec.name}{digest})"


def open_pretrained(config: RunConfig, run: Path) -> Pretrained | None:
    """Opens the weights of a configuration; a run that has checkpoints does not need them again.

    Args:
        config: The configuration, as given or with the weights' net (`with_pretrained`).
        run: The run's directory, which need not exist.

    Returns:
        The weights; None if the run starts from random ones.

    Raises:
        DownloadError: If a file cannot be downloaded.
        FileNotFoundError: If there is no such file.
        ValueError: If the weights belong to another net than the configuration names, to one that
            this package does not build, or have changed since the run began.
    """
    source = config.model.weights
    if source is None:
        return None
    recorded = _recorded(run, source)
    if recorded is not None and any((run / "checkpoints").glob("step_*")):
        return recorded
    net = None if config.model.name == "auto" else _requested_spec(config)
    local = weights_at_hand(source)
    opened = _open(local, net, top=config.quantize.enabled)
    if local != source:  # in an object store: the same names on all machines
        files = [{**each, "path": each["path"].replace(local, source)} for each in opened.files]
        opened = dataclasses.replace(opened, source=source, files=tuple(files))
    if recorded is not None and recorded.files != opened.files:
        raise ValueError(
            f"{source!r} is not the file that the run in {run} began with: SHA-256 "
            f"{_digests(opened)}, not {_digests(recorded)}. Choose another --output"
        )
    return opened


def with_pretrained(config: RunConfig, pretrained: Pretrained | None) -> RunConfig:
    """Returns the configuration with the net of its weights and, if unset, their preprocessing.

    The preprocessing is the weights' where `data.mean` is None; `data.image_size` is kept where it
    is given. Applying it twice changes nothing more.

    Raises:
        ValueError: If `model.spec` has a field that the weights do not allow to change, or
            `model.freeze` names a stage that the net does not have.
    """
    if pretrained is None:
        return config
    spec, given = pretrained.spec, dict(config.model.spec)
    for field, value in given.items():
        stated = getattr(spec.replace(**{field: value}), field)
        if field not in WITHOUT_EFFECT and stated != getattr(spec, field):
            raise ValueError(
                f"`model.spec.{field}` must be as in the net of {pretrained.source!r}, "
                f"{getattr(spec, field)!r}. Received: {value!r}"
            )
    name, differences = _named(spec)
    kept = {field: value for field, value in given.items() if field in WITHOUT_EFFECT}
    changes: dict[str, Any] = {"model.name": name, "model.spec": {**differences, **kept}}
    preprocess = pretrained.preprocess
    if preprocess is not None and config.data.mean is None:
        changes["data.mean"] = list(preprocess.mean)
        changes["data.std"] = list(preprocess.std)
        changes["data.crop_fraction"] = preprocess.crop_fraction
        if config.data.image_size is None and preprocess.size[0] == preprocess.size[1]:
            changes["data.image_size"] = preprocess.size[0]
    freeze, stages = config.model.freeze, len(spec.depths)
    if freeze not in (None, "all") and int(freeze or 0) > stages:
        raise ValueError(
            f"`--freeze` must be 'all' or a stage of {spec.name}, 0 (the stem) to {stages}. "
            f"Received: {freeze}"
        )
    return with_changes(config, changes)


def _requested_spec(config: RunConfig) -> ResNetSpec:
    """Returns the net that a configuration names, without fields that weights do not fix."""
    changes = {key: value for key, value in config.model.spec.items() if key not in WITHOUT_EFFECT}
    spec = get_spec(config.model.name)
    name = config.model.spec.get("name", spec.name)
    return spec.replace(**changes, name=name) if changes else spec


def _named(spec: ResNetSpec) -> tuple[str, dict[str, Any]]:
    """Returns a name of the catalog, and the fields in which the spec differs from that net."""
    try:
        base = get_spec(spec.name)
    except ValueError:
        base = get_spec("resnet50")
    known = base.to_dict()
    skipped = {"classes", "norm_sync"}  # the data's, and the runtime's
    return base.name, {
        key: value
        for key, value in spec.to_dict().items()
        if known[key] != value and key not in skipped
    }


def _recorded(run: Path, source: str) -> Pretrained | None:
    """Returns what a run has recorded of the weights that it began with."""
    if not (run / RECORD).is_file():
        return None
    record = read_object(run / RECORD)
    if record.get("source") != source:
        return None
    try:
        preprocess, names = record["preprocessing"], record["class_names"]
        return Pretrained(
            source,
            ResNetSpec.from_dict(record["spec"]),
            preprocess and PreprocessSpec.from_dict(preprocess),
            tuple(record["files"]),
            names and tuple(names),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run / RECORD} is not what was written: {error!r}") from error


def _open(source: str, net: ResNetSpec | None, *, top: bool = False) -> Pretrained:
    folder = Path(source)
    if (folder / "config.json").is_file() and (folder / "dataset.json").is_file():
        run = _open_run(folder)
        if net is not None:
            _check_same(source, run.spec, net)
        return run
    saved = read_saved(source)
    if saved is not None:
        path = os.path.join(source, "model.keras") if os.path.isdir(source) else source
        if saved.spec is None and net is None:
            raise ValueError(f"{source!r} does not say which net it holds: give --model")
        if saved.spec is not None and net is not None:
            _check_same(source, saved.spec, net)
        return _of_saved(source, path, saved, saved.spec or get_spec(net or ""), top=top)
    return _of_published(source, net, top=top)


def check_names_net(source: str, option: str) -> None:
    """Checks that a source of weights says which net it holds, as published names do not.

    Args:
        source: What `weights=` takes.
        option: The option or field that names the net, for the error.

    Raises:
        ValueError: If it is the name of published weights, or there is nothing of that name.
    """
    if not names_source(source):
        return
    nets = [each.net for each in SOURCES.values() if each.name == source]
    if not nets:
        known = sorted({each.name for each in SOURCES.values()})
        raise ValueError(
            f"There is no file or folder {source!r}, and no weights of this name. "
            f"{nearest(source, known)}"
        )
    raise ValueError(
        f"{source!r} is published for several nets: choose one with {option} ({', '.join(nets)})"
    )


def _of_saved(
    source: str, path: str, saved: SavedNet, spec: ResNetSpec, *, top: bool
) -> Pretrained:
    """Returns the weights of a file of this package, with its classifier if `top`.

    The number of input channels is that of the first kernel: a spec states the default of its net.
    """
    if saved.dims != 2:
        raise ValueError(
            f"{source!r} holds a net for {'signals' if saved.dims == 1 else 'volumes'} "
            f"(dims={saved.dims}); `train` needs one for images (dims=2)"
        )
    spec = spec.replace(input_channels=saved.channels)
    return Pretrained(
        source,
        spec,
        saved.preprocess,
        ({"path": path, "sha256": _digest(Path(path))},),
        open=lambda size: from_pretrained(
            source, spec, include_top=top, input_shape=(*size, spec.input_channels)
        ),
    )


def _of_published(source: str, net: ResNetSpec | None, *, top: bool) -> Pretrained:
    """Returns published weights, or those in a file of another library."""
    if net is None:
        check_names_net(source, "--model")
    weights = open_weights(source, net=net, include_top=top)
    return Pretrained(
        source,
        weights.spec.replace(input_channels=weights.channels),
        weights.preprocess,
        tuple(
            {"path": file.path, "sha256": file.sha256, **({"url": file.url} if file.url else {})}
            for file in weights.files
        ),
        open=lambda size: from_pretrained(
            weights, include_top=top, input_shape=(*size, weights.channels)
        ),
    )


def _open_run(folder: Path) -> Pretrained:
    """Returns the weights of a run, finished or not, with its classifier."""
    from .rundir import RunDirectory, open_run, spec_of

    record = read_object(folder / "dataset.json")
    spec = spec_of(load_config(folder / "config.json"))
    model = RunDirectory(folder).model
    states = sorted((folder / "checkpoints").glob("*/state.json"))
    best = folder / "checkpoints" / "best" / "state.json"
    read = model if model.is_file() else best if best.is_file() else states[-1] if states else None
    if read is None:
        raise ValueError(f"{folder} is a run without weights: it has no checkpoint yet")

    def build_net(size: tuple[int, int]) -> ResNet:
        net = open_run(folder).model
        if tuple(net.inputs[0].shape[1:3]) == size:
            return net
        twin = rebuild(net, shape=(*size, net.inputs[0].shape[-1]))
        copy_weights(net, twin)
        return twin

    return Pretrained(
        str(folder),
        spec.replace(input_channels=int(record["channels"])),
        PreprocessSpec.from_dict(record["preprocessing"]),
        ({"path": str(read), "sha256": _digest(read)},),
        tuple(record["class_names"]),
        build_net,
    )


def _check_same(source: str, stored: ResNetSpec, wanted: ResNetSpec) -> None:
    """Checks that a saved net is the one that was named."""
    different = [
        f"{field.name}={getattr(stored, field.name)!r}, not {getattr(wanted, field.name)!r}"
        for field in dataclasses.fields(stored)
        if field.name not in WITHOUT_EFFECT
        and getattr(stored, field.name) != getattr(wanted, field.name)
    ]
    if different:
        raise ValueError(f"{source!r} does not hold {wanted.name}: its net has {different[0]}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(pretrained: Pretrained) -> str:
    return ", ".join(file["sha256"][:8] for file in pretrained.files)
