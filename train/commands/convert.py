"""`keras-resnet convert`: weights from and to other libraries, with a certificate of equality."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_resnet
from keras_resnet.nets.catalog import get_spec
from keras_resnet.weights import Certificate, Weights, certify, from_pretrained, open_weights, save
from keras_resnet.weights.certificate import NoReferenceError, source_of
from keras_resnet.weights.files.tensors import read
from keras_resnet.weights.layouts import Layout
from keras_resnet.weights.publish import target_layout

from ..command import Command
from ..files import write_text

ENDINGS = (".keras", ".weights.h5", ".safetensors")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a file of weights, a run's directory, hf://owner/repository, or a published name "
        "such as torchvision/v2 (with --net)",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help=", ".join(ENDINGS))
    parser.add_argument("--net", help="the net, for published names and where shapes leave it open")
    parser.add_argument("--no-top", action="store_true", help="leave the classifier out")
    parser.add_argument(
        "--layout",
        choices=("torchvision", "timm", "hf"),
        help="whose names a .safetensors file gets (torchvision)",
    )
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="write what was compared as JSON"
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE.npy",
        help="images to compare on, RGB pixels 0..255, (images, height, width, channels); four "
        "drawn ones where left out",
    )


def _run(args: argparse.Namespace) -> int:
    _check(args)
    images = _images(args.inputs)
    path = Path(args.source)
    own = path / "model.keras" if (path / "model.keras").is_file() else path
    if own.suffix == ".keras" and own.is_file() and (model := _own(own)) is not None:
        return _give(model, own, args, images)
    weights = open_weights(args.source, net=args.net, include_top=not args.no_top)
    print(
        f"{weights.name}: {weights.describe()}, {len(weights.tensors)} tensors as named by "
        f"{weights.layout.library}"
    )
    if weights.assumed:
        print(f"assumed, since the file does not show it: {', '.join(_assumed(weights))}")
    model = from_pretrained(weights, include_top=not args.no_top)
    certificate = None
    if not args.no_top:
        try:
            certificate = certify(
                model,
                weights.tensors,
                weights.layout,
                source=source_of(weights),
                images=_normalized(model, images),
            )
        except NoReferenceError as error:
            if args.certificate is not None:
                raise
            print(f"not compared: {error}")
    return _finish(model, certificate, args)


def _assumed(weights: Weights) -> list[str]:
    return [f"{field}={getattr(weights.spec, field)!r}" for field in weights.assumed]


def _check(args: argparse.Namespace) -> None:
    """Refuses what cannot be written before anything is downloaded."""
    if not str(args.to).endswith(ENDINGS):
        raise ValueError(f"--to must end in {', '.join(ENDINGS)}. Received: {args.to}")
    if args.to.exists():
        raise FileExistsError(f"{args.to} exists: remove it or choose another name")
    if args.layout and args.to.suffix != ".safetensors":
        raise ValueError("--layout applies to --to FILE.safetensors")
    if args.certificate and args.no_top:
        raise ValueError("--certificate compares logits, which --no-top leaves out")
    if args.certificate is not None and args.certificate.resolve() == args.to.resolve():
        raise ValueError("--certificate and --to must be two files")
    if args.certificate is not None and args.certificate.exists():
        raise FileExistsError(f"{args.certificate} exists: remove it or choose another name")
    for path in (args.to, args.certificate):
        if path is not None and not path.resolve().parent.is_dir():
            raise FileNotFoundError(f"No folder {path.resolve().parent} to write {path.name} in")
    if args.net is not None:
        get_spec(args.net)


def _images(path: Path | None) -> np.ndarray | None:
    if path is None:
        return None
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"--inputs {path} is no readable .npy file: {error}") from error
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "--inputs must hold (images, height, width, channels). "
            f"Received: an array of {images.shape}"
        )
    return images


def _normalized(model: Any, images: np.ndarray | None) -> np.ndarray | None:
    if images is None:
        return None
    wanted = tuple(model.inputs[0].shape[1:])
    if any(need not in (None, had) for need, had in zip(wanted, images.shape[1:], strict=True)):
        raise ValueError(
            f"--inputs must hold images of {wanted}, (height, width, channels). "
            f"Received: an array of {images.shape}"
        )
    if model.preprocess is None:
        return images.astype("float32")
    return np.asarray(model.preprocess.normalize(images))


def _own(path: Path) -> keras_resnet.ResNet | None:
    model = keras.saving.load_model(path, compile=False)
    return model if isinstance(model, keras_resnet.ResNet) else None


def _give(
    model: keras_resnet.ResNet, path: Path, args: argparse.Namespace, images: np.ndarray | None
) -> int:
    """Writes a net of this package for another library, and compares the file with the net."""
    if args.to.suffix != ".safetensors":
        raise ValueError(f"{path} is this package's own file: --to FILE.safetensors gives it away")
    if args.no_top:
        raise ValueError(f"--no-top applies to weights of other libraries, {path} is our own")
    if "logits" not in {layer.name for layer in model.layers}:
        raise ValueError(f"{path} has no classifier, whose logits could be compared")
    layout = target_layout(args.layout or "torchvision", model.spec)
    return _finish(model, _written(model, path, layout, args, images), args)


def _written(
    model: keras_resnet.ResNet,
    path: Path,
    layout: Layout,
    args: argparse.Namespace,
    images: np.ndarray | None,
) -> Certificate:
    """Compares the net with what another library computes from the file's tensors."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.safetensors"
        save(model, trial, layout=args.layout or "torchvision")
        tensors = {
            name: array
            for name, array in read(str(trial)).tensors.items()
            if not name.endswith("num_batches_tracked")
        }
    return certify(
        _logits(model),
        tensors,
        layout,
        source={"name": str(path)},
        images=_normalized(model, images),
    )


def _logits(model: keras_resnet.ResNet) -> keras_resnet.ResNet:
    """Returns the net without the activation of its classifier."""
    if model.layers[-1].name == "logits":
        return model
    logits = keras_resnet.ResNet(model.input, model.get_layer("logits").output, name=model.name)
    logits._describe(model.spec, ())
    logits.preprocess = model.preprocess
    return logits


def _finish(
    model: keras_resnet.ResNet, certificate: Certificate | None, args: argparse.Namespace
) -> int:
    """Writes the net and then its certificate, or neither."""
    if certificate is not None:
        _report(certificate)
    _write(model, args)
    if certificate is not None and args.certificate is not None:
        write_text(args.certificate, certificate.to_json())
        print(f"wrote {args.certificate}")
    return 0


def _report(certificate: Certificate) -> None:
    print(
        f"largest difference of a logit: {certificate.max_difference:.2g} (limit "
        f"{certificate.limit:.2g}, largest logit {certificate.max_logit:.3g}), compared with "
        f"{certificate.compared_with}"
    )
    if certificate.spread <= certificate.limit:
        raise ValueError(
            "the net returns the same for every input, so nothing can be compared: nothing was "
            "written"
        )
    if not certificate.holds:
        raise ValueError(
            f"the logits differ by {certificate.max_difference:.3g}, more than "
            f"{certificate.limit:.3g}: nothing was written"
        )


def _write(model: keras_resnet.ResNet, args: argparse.Namespace) -> None:
    if args.to.suffix == ".safetensors":
        save(model, args.to, layout=args.layout or "torchvision")
    else:
        # Keras tells its formats by the ending, so the temporary name keeps it.
        ending = ".keras" if args.to.suffix == ".keras" else ".weights.h5"
        partial = args.to.with_name(f".{args.to.name.removesuffix(ending)}.tmp{ending}")
        try:
            model.save(partial) if ending == ".keras" else model.save_weights(partial)
            partial.replace(args.to)
        finally:
            partial.unlink(missing_ok=True)
    print(f"wrote {args.to}")


COMMAND = Command(
    "convert",
    "take weights of another library, or give them, with a certificate",
    _add_arguments,
    _run,
)
