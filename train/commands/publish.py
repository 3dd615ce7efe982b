"""`keras-resnet publish`: write a run as a folder for the Hugging Face hub, and upload it."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

from ..command import Command, add_run
from ..files import new_directory, write_bytes, write_json, write_text

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE = re.compile(r"[A-Za-z0-9.+-]+")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder to write; must not exist yet"
    )
    parser.add_argument(
        "--licence",
        metavar="SPDX",
        help="licence of the weights, such as apache-2.0 or cc-by-nc-4.0; stated as unknown if "
        "left out",
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload the folder to this repository of the hub, created if needed; needs "
        "huggingface_hub and a login",
    )
    parser.add_argument("--private", action="store_true", help="create a private repository")


def _run(args: argparse.Namespace) -> int:
    _check(args)
    write_folder(args.run, args.folder, args.checkpoint, args.licence, args.push)
    if args.push:
        print(f"uploaded: {_upload(args.folder, args.push, private=args.private)}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Checks the options before anything is read or written."""
    if args.folder.exists():
        raise FileExistsError(f"{args.folder} exists: remove it or choose another DIR")
    if not args.folder.resolve().parent.is_dir():
        raise FileNotFoundError(f"No folder {args.folder.resolve().parent} to write DIR in")
    if args.licence is not None and not _LICENCE.fullmatch(args.licence):
        raise ValueError(f"`--licence` must be an SPDX identifier. Received: {args.licence!r}")
    if args.private and not args.push:
        raise ValueError("`--private` applies to `--push OWNER/NAME`")
    if args.push is None:
        return
    if not _REPOSITORY.fullmatch(args.push):
        raise ValueError(f"`--push` must be OWNER/NAME. Received: {args.push!r}")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ValueError(
            "`--push` needs huggingface_hub, which is not installed: "
            "pip install 'keras3-resnet[hub]'"
        )


def write_folder(
    path: Path,
    folder: Path,
    checkpoint: Any = "auto",
    licence: str | None = None,
    repository: str | None = None,
) -> None:
    """Writes a run as a folder that `from_pretrained`, and timm where it has the net, reads.

    `model.safetensors` in timm's names and timm's `config.json`, or `model.keras` where timm has
    no such net; the model card `README.md`, `curves.png`, `labels.txt`, `training.json` (the run's
    configuration), `history.csv` and `certificate.json`. The folder appears when it is complete.

    Args:
        path: The run's directory.
        folder: The new folder.
        checkpoint: The weights, as `open_run` takes them.
        licence: SPDX identifier of the weights' licence, or None.
        repository: `owner/name` on the hub, for the card.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights.
        ValueError: If the certificate does not hold.
    """
    from keras_resnet.texts import label_text

    from ..run_report.card import Published, curves_png, model_card
    from ..run_report.write import naming_damage, read_history
    from ..rundir import open_run

    run = open_run(path, checkpoint)
    run.model.preprocess = run.preprocess
    # The files' spec has the input of the run, which may differ from the catalog's.
    size, _, channels = run.model.inputs[0].shape[1:]
    spec = run.model.spec.replace(input_size=size, input_channels=channels)
    run.model._describe(spec, run.model._taps)
    with new_directory(folder) as target:
        config, reason = _timm_config(run, licence)
        certificate = None
        if config is None:
            print(f"timm cannot read this net, so it is written as model.keras: {reason}")
            run.model.save(target / "model.keras")
        else:
            certificate = _write_for_timm(run.model, config, target)
        picture = curves_png(read_history(path / "history.csv"))
        if picture is not None:
            write_bytes(target / "curves.png", picture)
        published = Published(
            "model.keras" if config is None else "model.safetensors",
            None if config is None else config["architecture"],
            reason,
            licence,
            certificate,
            repository,
            picture is not None,
        )
        with naming_damage(path):
            write_text(target / "README.md", model_card(run, published))
        write_text(target / "labels.txt", label_text(run.class_names))
        write_json(target / "training.json", _public_config(run.config))
        if (path / "history.csv").is_file():
            write_bytes(target / "history.csv", (path / "history.csv").read_bytes())
        files = sorted(file.name for file in target.iterdir())
    print(f"wrote {folder}: {', '.join(files)}")
    if licence is None:
        print("no licence is stated: give one with --licence, or edit README.md")


def _timm_config(run: Any, licence: str | None) -> tuple[dict[str, Any] | None, str]:
    """Returns timm's config, or None and the reason why timm cannot read the net."""
    from keras_resnet.weights.timm_config import timm_config

    try:
        return timm_config(run.model, class_names=run.class_names, licence=licence), ""
    except ValueError as error:
        return None, str(error)


def _write_for_timm(model: Any, config: dict[str, Any], target: Path) -> dict[str, Any]:
    """Writes weights, config and certificate; returns the certificate."""
    from keras_resnet.weights import certify, save
    from keras_resnet.weights.files.tensor_file import read
    from keras_resnet.weights.publish import target_layout

    save(model, target / "model.safetensors", layout="timm")
    write_json(target / "config.json", config)
    tensors = {
        name: array
        for name, array in read(str(target / "model.safetensors")).tensors.items()
        if not name.endswith("num_batches_tracked")
    }
    layout = target_layout("timm", model.spec)
    certificate = certify(model, tensors, layout, source={"name": "model.safetensors"})
    if not certificate.holds:
        raise ValueError(
            f"The logits of the written file differ by {certificate.max_difference:.3g}, and "
            f"{certificate.limit:.3g} is allowed: nothing was written"
        )
    write_text(target / "certificate.json", certificate.to_json())
    print(
        f"largest difference of a logit from {certificate.compared_with}: "
        f"{certificate.max_difference:.2g}"
    )
    return dataclasses.asdict(certificate)


def _public_config(config: Any) -> dict[str, Any]:
    """Returns a run's configuration without directories of this machine."""
    from ..run_report.card import data_name

    values = json.loads(config.to_json())
    values["data"]["dataset"] = data_name(values["data"]["dataset"])
    if values["data"]["data_dir"] is not None:
        values["data"]["data_dir"] = None
        print("left out of training.json: data.data_dir, a directory of this machine")
    return values


def _upload(folder: Path, repository: str, *, private: bool) -> str:
    """Uploads a folder; `HF_ENDPOINT` overrides the hub's address. Returns the repository's URL."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="keras_resnet")
    url = api.create_repo(repository, private=private or None, exist_ok=True)
    api.upload_folder(
        repo_id=repository, folder_path=folder, commit_message="Upload by keras-resnet publish"
    )
    return str(url)


COMMAND = Command(_add_arguments, _run)
