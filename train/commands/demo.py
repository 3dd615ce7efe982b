"""`keras-resnet demo`: a page that classifies pictures in the browser, by the file itself."""

from __future__ import annotations

import argparse
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..command import Command, add_checkpoint, add_data_overrides

if TYPE_CHECKING:
    from keras_resnet.export.checks import Precision

    from ..demo import DemoClassifier, Example
    from ..evaluation import Member

_EXAMPLES = 8
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
_SEARCHED = 256  # test images among which examples of different classes are looked for


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a .tflite file of `keras-resnet export`; or a run, a file of weights, hf:// or a "
        "published name, exported for the browser first",
    )
    add_checkpoint(parser)
    parser.add_argument("--net", help="the net, for published names")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        help="precision of the export of a net (float32)",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of the net's outputs, one a line"
    )
    parser.add_argument(
        "--examples",
        type=Path,
        action="append",
        metavar="PATH",
        help="a picture, or a folder of pictures, that the page offers; may be repeated "
        f"({_EXAMPLES} test images of a run)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write the page to this folder, for any web server, and do not serve it",
    )
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (a free one)")
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address, open no browser"
    )
    parser.add_argument(
        "--litertjs",
        type=Path,
        metavar="DIR",
        help="a node_modules folder with @litertjs/core (npm fetches it once into the cache)",
    )
    add_data_overrides(parser)


def _run(args: argparse.Namespace) -> int:
    from ..demo import write_site
    from ..demo.site import check_free

    _check(args)
    if args.output is not None:
        check_free(args.output)
    with tempfile.TemporaryDirectory(prefix="keras-resnet-demo") as scratch:
        classifier, examples = _open(args, Path(scratch))
        for note in classifier.notes:
            print(f"Note: {note}", file=sys.stderr)
        folder = args.output or Path(scratch, "site")
        write_site(folder, classifier, examples=examples, litertjs=args.litertjs)
        if args.output is not None:
            print(f"Page: {folder.resolve()} (for a web server; see README.txt there)")
            return 0
        return _serve(folder, args)


def _serve(folder: Path, args: argparse.Namespace) -> int:
    """Serves the page until an interrupt."""
    from keras_resnet.export.static_server import StaticServer

    with StaticServer(folder, args.port or 0) as server:
        print(f"Demo: {server.url} (Ctrl+C ends it)", flush=True)
        if not args.no_browser and not webbrowser.open(server.url):
            print("Note: no browser was found: open the address yourself", file=sys.stderr)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def _check(args: argparse.Namespace) -> None:
    """Checks the options before a net is opened.

    Raises:
        ValueError: If an option has a wrong value or applies to nothing.
    """
    if args.port is not None and not 0 <= args.port <= 65_535:
        raise ValueError(f"`--port` must lie in 0..65535. Received: {args.port}")
    if args.output is not None and (args.port is not None or args.no_browser):
        raise ValueError("`--port` and `--no-browser` serve the page; `--output` only writes it")
    if _is_file(args):
        given = {
            "--net": args.net,
            "--precision": args.precision,
            "--dataset": args.dataset,
            "--data-dir": args.data_dir,
            "--on-bad-image": args.on_bad_image,
            "--checkpoint": None if args.checkpoint == "auto" else args.checkpoint,
        }
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise ValueError(f"`{named[0]}` does not apply to a .tflite file, which runs as it is")
    for path in args.examples or ():
        if not path.exists():
            raise FileNotFoundError(f"No picture or folder {str(path)!r}")


def _is_file(args: argparse.Namespace) -> bool:
    return str(args.source).endswith(".tflite")


def _open(args: argparse.Namespace, scratch: Path) -> tuple[DemoClassifier, list[Example]]:
    """Returns the classifier and the examples."""
    from keras_resnet.texts import read_label_file

    from ..demo import open_classifier

    labels = None
    if args.labels is not None:
        labels = read_label_file(args.labels)
    if _is_file(args):
        return open_classifier(Path(args.source), labels=labels), _given_examples(args)
    from ..evaluation import open_member

    member = open_member(args.source, checkpoint=args.checkpoint, net=args.net)
    images, classes = _test_images(member, args)
    path = _export(member, scratch, _precision(member, args), images)
    examples = _given_examples(args)
    if not args.examples and images is not None:
        from ..demo.site import png_examples

        chosen = _different(classes, len(images))
        one = None if member.multilabel or classes is None else [int(classes[i]) for i in chosen]
        examples = png_examples(images[chosen], one, member.class_names)
    title = member.name
    if member.run is not None:
        title = f"{member.spec.name or member.name}, {Path(args.source).resolve().name}"
    classifier = open_classifier(
        path,
        labels=labels or member.class_names,
        title=title,
        squash="sigmoid" if member.multilabel else "softmax",
    )
    return classifier, examples


def _precision(member: Member, args: argparse.Namespace) -> Precision:
    """Returns the precision of the export: int8 of a quantise-aware net.

    Raises:
        ValueError: If another is asked for.
    """
    from keras_resnet.quantize import is_quantize_aware

    if not is_quantize_aware(member.model):
        return args.precision or "float32"
    if args.precision is not None:
        raise ValueError(
            f"`--precision` does not apply to {args.source}, a quantise-aware net, whose file is "
            f"int8. Received: {args.precision}"
        )
    return "int8"


def _export(member: Member, scratch: Path, precision: Precision, images: np.ndarray | None) -> Path:
    """Exports a net as LiteRT.js takes it, with the manifest that the page reads."""
    import keras_resnet
    from keras_resnet.export import ExportRequest

    print(f"Exporting {member.name} ({precision})", flush=True)
    if images is None:
        shape = (16, *member.preprocess.size, member.channels)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    request = ExportRequest(
        preprocess=member.preprocess,
        images=images[:64],
        labels=None,
        formats=("tflite",),
        precisions=(precision,),
        class_names=member.class_names,
    )
    (verification,) = keras_resnet.export.export(member.model, scratch / "export", request)
    return scratch / "export" / verification.file


def _test_images(
    member: Member, args: argparse.Namespace
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns test images of a run's data and their labels; None where there is no data."""
    from ..command import run_data
    from ..data import raw_images

    if member.run is None:
        if args.dataset is not None:
            raise ValueError("`--dataset` applies to runs; give pictures with --examples")
        return None, None
    try:
        data = run_data(member.run, args)
        return raw_images(data.split("test"), member.preprocess, data.channels, _SEARCHED)
    except (OSError, ValueError) as error:
        if args.dataset is not None or args.data_dir is not None:
            raise
        print(f"Note: no examples, as the run's data cannot be read: {error}", file=sys.stderr)
        return None, None


def _different(classes: np.ndarray | None, count: int) -> list[int]:
    """Returns the positions of a few images, of different classes as far as possible."""
    if classes is None or classes.ndim != 1:
        return list(range(min(_EXAMPLES, count)))
    first: dict[int, int] = {}
    for position, index in enumerate(classes.tolist()):
        first.setdefault(index, position)
    others = [position for position in range(count) if position not in first.values()]
    return [*sorted(first.values()), *others][:_EXAMPLES]


def _given_examples(args: argparse.Namespace) -> list[Example]:
    from ..demo import Example

    files: list[Path] = []
    for path in args.examples or ():
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        files += [each for each in found if each.suffix.lower() in _PICTURES]
        if not files:
            raise ValueError(
                f"{str(path)!r} has no picture that browsers show ({', '.join(_PICTURES)})"
            )
    return [Example(each.stem, each.suffix.lower(), each.read_bytes()) for each in files]


COMMAND = Command(_add_arguments, _run)
