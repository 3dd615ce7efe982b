"""`keras-resnet convert`: convert weights from or to another library, with a certificate."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import keras_resnet
from keras_resnet.nets.catalog import get_spec
from keras_resnet.nets.named_weights import classifier_of
from keras_resnet.weights import Certificate, certify, from_pretrained, open_weights, save
from keras_resnet.weights.certificate import NoReferenceError, source_of
from keras_resnet.weights.files.tensor_file import read
from keras_resnet.weights.layouts import Layout
from keras_resnet.weights.publish import target_layout
from keras_resnet.weights.rebuild import without_activation
from keras_resnet.weights.saved_nets import load_keras_file

from ..arrays import read_array
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
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"file to write: {', '.join(ENDINGS)}",
    )
    parser.add_argument(
        "--net", help="name of the net, for published names and where the shapes fit several nets"
    )
    parser.add_argument(
        "--prefix",
        help="prefix of the net's tensors where a file holds several nets, such as "
        "module.encoder_q.",
    )
    parser.add_argument("--no-top", action="store_true", help="leave the classifier out")
    parser.add_argument(
        "--layout",
        choices=("torchvision", "timm", "hf"),
        help="library whose names a .safetensors file has (torchvision)",
    )
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="write the comparison of the logits as JSON",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE.npy",
        help="images to compare logits on: RGB pixels 0..255, (images, height, width, channels); "
        "by default four random ones",
    )


def _run(args: argparse.Namespace) -> int:
    _check(args)
    images = _images(args.inputs)
    path = Path(args.source)
    if (path / "model.keras").is_file():
        path /= "model.keras"
    if path.suffix == ".keras" and path.is_file():
        model = load_keras_file(path)
        if isinstance(model, keras_resnet.ResNet):
            return _convert_own(model, path, args, images)
    return _convert_foreign(args, images)


def _convert_foreign(args: argparse.Namespace, images: np.ndarray | None) -> int:
    """Converts another library's weights."""
    weights = open_weights(
        args.source, net=args.net, include_top=not args.no_top, prefix=args.prefix
    )
    print(
        f"{weights.name}: {weights.describe()}, {len(weights.tensors)} tensors as named by "
        f"{weights.layout.library}"
    )
    if weights.assumed:
        assumed = (f"{field}={getattr(weights.spec, field)!r}" for field in weights.assumed)
        print(f"assumed, as the file does not show it: {', '.join(assumed)}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = from_pretrained(weights, include_top=not args.no_top)
    for warning in caught:  # what else the file holds
        print(warning.message)
    if weights.prefix and not caught:
        print(weights.describe_rest())
    if args.no_top:
        return _finish(model, None, args)
    inputs = _normalized(model, images)
    proof = _proof(
        lambda: certify(
            model, weights.tensors, weights.layout, source=source_of(weights), images=inputs
        )
    )
    return _finish(model, proof, args)


def _proof(compare: Callable[[], Certificate]) -> Certificate | str:
    """Returns a certificate, or the reason why there is none."""
    try:
        certificate = compare()
    except (NoReferenceError, ImportError, KeyError, NotImplementedError, MemoryError) as error:
        # The reference misses something: that says nothing about the net.
        return str(error) if isinstance(error, NoReferenceError) else repr(error)
    if certificate.spread <= certificate.limit:
        return (
            "the net returns the same logits for every input, so a comparison proves nothing "
            f"(they vary by {certificate.spread:.2g} at most)"
        )
    return certificate


def _check(args: argparse.Namespace) -> None:
    """Checks the options before anything is downloaded."""
    if not str(args.to).endswith(ENDINGS):
        raise ValueError(f"--to must end in {', '.join(ENDINGS)}. Received: {args.to}")
    if args.to.exists():
        raise FileExistsError(f"{args.to} exists: remove it or choose another name")
    if args.layout and args.to.suffix != ".safetensors":
        raise ValueError("--layout applies to --to FILE.safetensors")
    if args.inputs is not None and args.no_top:
        raise ValueError("--inputs are images to compare logits on, which --no-top leaves out")
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
        images = read_array(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"--inputs {path} is not a readable .npy file: {error}") from error
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "--inputs must hold (images, height, width, channels). "
            f"Received: an array of {images.shape}"
        )
    return images


def _normalized(model: Any, images: np.ndarray | None) -> np.ndarray | None:
    if images is None:
        return None
    shape = tuple(model.inputs[0].shape[1:])
    if any(need not in (None, size) for need, size in zip(shape, images.shape[1:], strict=True)):
        raise ValueError(
            f"--inputs must hold images of {shape}, (height, width, channels). "
            f"Received: an array of {images.shape}"
        )
    if not model.preprocess:
        return images.astype("float32")
    return np.asarray(model.preprocess.normalize(images))


def _convert_own(
    model: keras_resnet.ResNet, path: Path, args: argparse.Namespace, images: np.ndarray | None
) -> int:
    """Writes a net of this package under another library's names, and compares the file with it."""
    if args.to.suffix != ".safetensors":
        raise ValueError(f"{path} is a file of this package: convert it with --to FILE.safetensors")
    if args.no_top:
        raise ValueError(f"--no-top applies to weights of other libraries. Received: {path}")
    for option in ("net", "prefix"):
        if getattr(args, option) is not None:
            raise ValueError(
                f"--{option} applies to weights of other libraries. "
                f"Received: {path}, a file of this package"
            )
    layout = target_layout(args.layout or "torchvision", model.spec)
    if classifier_of(model) is None:
        return _finish(model, "it has no classifier, so there are no logits", args)
    inputs = _normalized(model, images)
    return _finish(model, _proof(lambda: _certify_file(model, path, layout, args, inputs)), args)


def _certify_file(
    model: keras_resnet.ResNet,
    path: Path,
    layout: Layout,
    args: argparse.Namespace,
    inputs: np.ndarray | None,
) -> Certificate:
    """Compares the net's logits with those that the other library computes from its file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save(model, file, layout=args.layout or "torchvision")
        tensors = {
            name: array
            for name, array in read(str(file)).tensors.items()
            if not name.endswith("num_batches_tracked")
        }
    return certify(
        without_activation(model),
        tensors,
        layout,
        source={"name": str(path)},
        images=inputs,
    )


def _finish(
    model: keras_resnet.ResNet, proof: Certificate | str | None, args: argparse.Namespace
) -> int:
    """Writes the net and then its certificate; neither if the logits differ.

    Args:
        model: The net.
        proof: The certificate, the reason why there is none, or None if none is due.
        args: The options.

    Raises:
        ValueError: If the logits differ; or, after the net was written, if a certificate was asked
            for and there is none.
    """
    if isinstance(proof, Certificate):
        _check_certificate(proof)
    elif proof is not None:
        print(f"not compared: {proof}")
    _write(model, args)
    if args.certificate is None:
        return 0
    if not isinstance(proof, Certificate):
        raise ValueError(
            f"{args.to} was written without a certificate, so there is no {args.certificate}: "
            f"{proof}"
        )
    write_text(args.certificate, proof.to_json())
    print(f"wrote {args.certificate}")
    return 0


def _check_certificate(certificate: Certificate) -> None:
    print(
        f"largest difference of a logit: {certificate.max_difference:.2g} (limit "
        f"{certificate.limit:.2g}, largest logit {certificate.max_logit:.3g}), compared with "
        f"{certificate.compared_with}"
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
        # Keras chooses the format by the ending, so the temporary name keeps it.
        ending = ".keras" if args.to.suffix == ".keras" else ".weights.h5"
        partial = args.to.with_name(f".{args.to.name.removesuffix(ending)}.tmp{ending}")
        try:
            model.save(partial) if ending == ".keras" else model.save_weights(partial)
            partial.replace(args.to)
        finally:
            partial.unlink(missing_ok=True)
    print(f"wrote {args.to}")


COMMAND = Command(_add_arguments, _run)
