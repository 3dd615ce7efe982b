"""The HTML report of a run and the table of its exports."""

import base64
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_resnet_train.evaluation.confusion import Confusion
from keras_resnet_train.presentation.drawing import inline_figure
from keras_resnet_train.presentation.formats import percent, size
from keras_resnet_train.presentation.markup import element, escape
from keras_resnet_train.run_report import export_table, pictures, predictions, sections
from keras_resnet_train.run_report.curves import PANELS, curves
from keras_resnet_train.run_report.data import (
    Augmented,
    Counts,
    ReportData,
    Sample,
    best_row,
)
from keras_resnet_train.run_report.pictures import png_address
from keras_resnet_train.run_report.write import render_report

NBSP = "\N{NO-BREAK SPACE}"
HOSTILE = '<script>alert("x")</script>$\\frac{'
VOID = {"img", "meta", "wbr"}

EXPORTS = (
    {"format": "keras", "precision": "float32", "file": "model.keras", "bytes": 1_123_456},
    {
        "format": "tflite",
        "precision": "int8",
        "file": "[red]model.tflite",
        "bytes": 318_304,
        "accuracy": 0.9833,
        "top1_agreement": 0.9917,
        "max_abs_difference": 0.34,
        "latency_ms": 0.2222,
    },
)


def counts_of(matrix: object) -> Counts:
    return Counts.of(Confusion.from_dense(matrix))


def make(classes: int = 3, **changes: object) -> ReportData:
    confusion = np.full((classes, classes), 0)
    np.fill_diagonal(confusion, 9)
    confusion[0, 1] = 3
    confusion[2, 0] = 1
    history = [
        {
            "epoch": epoch,
            "learning_rate": 0.1 / epoch,
            "loss": 2.0 / epoch,
            "accuracy": 1 - 0.5 / epoch,
            "val_loss": 2.5 / epoch,
            "val_accuracy": (0.5, 0.875, 0.75)[epoch - 1],
        }
        for epoch in (1, 2, 3)
    ]
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    data = ReportData(
        title="cifar_resnet20 on digits",
        summary={"Model": "cifar_resnet20", "Command": "keras-resnet train a&b"},
        history=history,
        evaluation={"accuracy": 0.8, "top5_accuracy": 0.995, "loss": 0.61234, "examples": 10},
        split="test",
        class_names=[f"class{i}" for i in range(classes)],
        counts=counts_of(confusion),
        samples=[Sample(image, 0, 0, 0.91), Sample(image[..., :1], 2, 0, 0.625)],
        exports=EXPORTS,
        config={"model": {"depths": (3, 3, 3)}, "lr": np.float32(0.5)},
    )
    return dataclasses.replace(data, **changes)


class Outline(HTMLParser):
    """Checks that elements nest, and collects tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def count(self, tag: str, class_: str | None = None) -> int:
        return sum(
            name == tag and (class_ is None or class_ in (attributes.get("class") or "").split())
            for name, attributes in self.tags
        )


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(make())


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found
    return found[0]


def text(page: str) -> str:
    return " ".join("".join(Outline(page).text).split())


# Statistics.


@pytest.mark.parametrize(
    ("right", "total", "shown"),
    [
        (8, 10, "49.02–94.33 %"),
        (0, 10, "0.00–27.75 %"),
        (10, 10, "72.25–100.00 %"),
        (500, 1000, "46.91–53.09 %"),
    ],
)
def test_interval_in_the_header(right: int, total: int, shown: str) -> None:
    header = sections.header(make(evaluation={"accuracy": right / total, "examples": total}))
    assert f"<b>{shown.replace(' ', NBSP)}</b><span>95{NBSP}% interval (Wilson)" in header


def test_confused_pairs_and_the_order_of_classes() -> None:
    confusion = np.array([[6, 2, 0], [0, 0, 0], [2, 0, 8]], np.uint32)
    counts = counts_of(confusion)
    assert counts.pairs == ((0, 1, 2), (2, 0, 2))
    part = predictions.per_class(make(counts=counts))
    assert re.findall(r"class\d(?=</bdi>)", part) == ["class0", "class2", "class1"]
    shown = re.findall(rf">(?:</span>)?([\d.]+{NBSP}%|–)</td>", part)
    assert shown == [f"{v}{NBSP}%" for v in ("75.00", "75.00", "80.00", "100.00")] + [
        "–",
        f"0.00{NBSP}%",
    ]


# The page.


def test_page_shows_the_figures(page: str) -> None:
    words = text(page)
    for expected in (
        "80.00 % accuracy on the test split",
        "49.02–94.33 % 95 % interval (Wilson)",
        "20.00 % error; 8 of 10 correct",
        "99.50 % top-5 accuracy",
        "0.6123 loss",
    ):
        assert expected.replace(" ", "") in words.replace(" ", "").replace(NBSP, "")
    assert "keras-resnet train a&amp;b" in section(page, "summary")
    assert f"87.50{NBSP}% at epoch 2" in section(page, "curves")
    assert f"75.00{NBSP}%" in section(page, "classes")  # class0: 9 of 12
    assert "4 of 4 mistakes" in section(page, "confusion")
    exports = section(page, "exports")
    for cell in ("1.1 MB", "318 KB", "98.33 %", "99.17 %", "0.34", "0.222 ms", "–"):
        assert f">{cell.replace(' ', NBSP)}</td>" in exports
    configuration = section(page, "configuration")
    assert "&quot;depths&quot;: [" in configuration
    assert "&quot;lr&quot;: 0.5" in configuration


def test_page_is_well_formed_and_accessible(page: str) -> None:
    outline = Outline(page)
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert [image["alt"] for image in images] == [
        "Example of class class0, predicted as class0",
        "Example of class class2, predicted as class0",
    ]
    charts = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert len(charts) == 3
    assert all(chart["role"] == "img" for chart in charts)
    assert charts[0]["aria-label"] == (
        "Line chart of accuracy against epoch: "
        f"training from 50.00{NBSP}% to 83.33{NBSP}% (highest 83.33{NBSP}%); "
        f"validation from 50.00{NBSP}% to 75.00{NBSP}% (highest 87.50{NBSP}%)"
    )
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [value for _, at in outline.tags for name, value in at.items() if name == "href"]
    assert links
    assert {link[1:] for link in links if link} <= set(ids)


def test_page_refers_to_nothing_outside(page: str) -> None:
    assert "://" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "<link" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    assert all(source.startswith("data:image/png;base64,") for source in _sources(page))
    assert "default-src &#x27;none&#x27;" in page


def _sources(page: str) -> list[str]:
    return [
        str(at[name]) for _, at in Outline(page).tags for name in ("src", "srcset") if name in at
    ]


def test_right_and_wrong_differ_by_more_than_colour(page: str) -> None:
    samples = section(page, "samples")
    assert f"✓ <bdi>class0</bdi></strong><span>correct · 91.0{NBSP}%" in samples
    assert f"✗ <bdi>class0</bdi></strong><span>true: <bdi>class2</bdi> · 62.5{NBSP}%" in samples
    assert "2 examples of the test split, 1 of them wrong" in samples


@pytest.mark.parametrize("classes", [3, 25])
def test_user_text_is_escaped(classes: int) -> None:
    names = [HOSTILE, "\udcff\x00'\u202e猫", *(f"c{i}" for i in range(classes - 2))]
    page = render_report(
        make(
            classes,
            class_names=names,
            title=HOSTILE,
            split=HOSTILE,
            summary={HOSTILE: HOSTILE, "command": HOSTILE},
            evaluation={HOSTILE: 0.5},
            exports=[{"format": HOSTILE, "file": HOSTILE, "accuracy": HOSTILE}],
            config={HOSTILE: [HOSTILE]},
        )
    )
    page.encode("utf-8")
    outline = Outline(page)
    assert "<script" not in page
    assert outline.count("script") == 0
    assert not any(name.startswith("on") for _, at in outline.tags for name in at)
    assert HOSTILE in "".join(outline.text)
    assert "\x00" not in page


def test_markup_escapes_all_but_its_own() -> None:
    inner = element("b", "1 < 2")
    assert element("p", inner, ' & "', class_='"x"', id=None) == (
        '<p class="&quot;x&quot;"><b>1 &lt; 2</b> &amp; &quot;</p>'
    )
    assert escape(escape("<")) == "&lt;"
    assert percent(None) == percent(float("nan")) == percent("x") == percent(True) == "–"


def test_equal_data_gives_an_equal_page_and_matplotlib_stays_as_it_was(page: str) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert render_report(make()) == page
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.rcParams["svg.hashsalt"] is None


# Sizes of the class list.


def test_few_classes_show_counts_in_a_matrix() -> None:
    part = predictions.confusion(make(20))
    assert Outline(part).count("table", "matrix") == 1
    assert ">9</td>" in part
    assert "dense" not in part
    assert "<details" not in predictions.per_class(make(20))


def test_more_classes_show_a_matrix_without_counts() -> None:
    confusion = predictions.confusion(make(50))
    assert Outline(confusion).count("table", "dense") == 1
    assert 'title="class0 → class1: 3"></td>' in confusion
    assert "All 50 classes" in predictions.per_class(make(50))


def test_many_classes_show_pairs_only() -> None:
    confusion = np.diag(np.full(60, 5))
    confusion[np.arange(30), np.arange(1, 31)] = np.arange(1, 31)
    data = make(60, counts=counts_of(confusion))
    part = predictions.confusion(data)
    assert Outline(part).count("table", "matrix") == 0
    assert "These 20 pairs make up 410 of 465 mistakes" in part
    body = part[part.index("<tbody>") :]
    assert body.count("<tr>") == 20
    assert body.index("class29") < body.index("class28") < body.index("class27")
    assert "All 60 classes" in predictions.per_class(data)


def test_thousands_of_classes_and_large_samples_stay_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (160, 320, 3), dtype=np.uint8)
    samples = [Sample(noise, i % 3, 0, 0.5) for i in range(100)]
    history = [{"epoch": i, "loss": 1 / i, "val_accuracy": 1 - 1 / i} for i in range(1, 2001)]
    page = render_report(make(1500, samples=samples, history=history))
    assert len(page.encode()) < 1_500_000
    assert "200 of 1,500 classes" in page
    assert "60 more are left out" in section(page, "samples")
    assert "200 of 2000 epochs" in section(page, "curves")
    square = [Sample(noise[:, :160], 0, 0, 0.5)] * 40
    assert len(pictures.samples(make(samples=square))) < 1_000_000


def test_five_thousand_classes_from_their_metrics() -> None:
    """Counts of each class and the most frequent pairs; no matrix is made on the way."""
    classes = 5000
    rng = np.random.default_rng(0)
    confusion = Confusion.of(*rng.integers(0, classes, (2, 50_000)), classes)
    stored = json.loads(json.dumps(confusion.to_dict()))
    counts = Counts.of_metrics(stored)
    assert counts is not None
    assert counts.matrix is None
    assert (counts.total, counts.mistakes) == (50_000, 50_000 - int(confusion.right.sum()))
    data = make(counts=counts, class_names=[f"class{i}" for i in range(classes)], evaluation={})
    page = render_report(data)
    assert len(page.encode()) < 500_000
    assert "200 of 5,000 classes" in page
    true, predicted, count = confusion.pairs(1)[0]
    row = re.search(r"<tbody><tr>(.*?)</tr>", section(page, "confusion"))
    assert row is not None
    assert f"class{true}<" in row[1]
    assert f"class{predicted}<" in row[1]
    assert f">{count}<" in row[1]
    # Of earlier versions, whatever the number of classes.
    earlier = Counts.of_metrics({"confusion": np.diag(np.arange(300)).tolist()})
    assert earlier is not None
    assert (earlier.total, earlier.mistakes, earlier.matrix) == (300 * 299 // 2, 0, None)


def test_confused_pairs_have_examples() -> None:
    """Up to three of each pair, with their probabilities; pairs without any have none."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    confused = [Sample(image, 0, 1, 0.5 + 0.1 * i) for i, image in enumerate(images[:4])]
    part = predictions.confusion(make(confused=confused))
    sources = [tag[1] for tag in Outline(part).tags if tag[0] == "img"]
    assert [tag["src"] for tag in sources] == [png_address(image, 48) for image in images[:3]]
    assert sources[0]["alt"] == f"class0, predicted as class1 with probability 50.0{NBSP}%"
    assert "Examples" in part
    assert "Examples" not in predictions.confusion(make())
    large = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    many = [Sample(large, i, j, 0.5) for i in range(50) for j in range(50)] * 3
    mistakes = counts_of(1 - np.eye(50))
    assert len(predictions.confusion(make(50, counts=mistakes, confused=many))) < 700_000


def test_augmented_images_with_their_labels() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    mixed = [(2, 0.7), (0, 0.3)]
    data = make(augmented=[Augmented(image, [(1, 1.0)]), Augmented(image, mixed)])
    page = render_report(data)
    part = section(page, "augmented")
    assert 'href="#augmented"' in page
    assert "The first 2 images of the run, augmented as in training." in part
    words = text(part)
    assert "class1" in words
    assert "class2 70 %, class0 30 %" in words.replace(NBSP, " ")
    assert 'id="augmented"' not in render_report(make())


def test_several_labels_per_image() -> None:
    """Average precision in place of accuracy and confusion; a class without images has none."""
    rows = [
        {"name": "cat", "average_precision": 0.9, "f1": 0.8, "threshold": 0.4, "support": 12},
        {"name": "dog", "average_precision": None, "f1": None, "threshold": 0.5, "support": 0},
        {"name": "owl", "average_precision": 0.25, "f1": 0.3, "threshold": 0.1, "support": 3},
    ]
    evaluation = {"mean_average_precision": 0.575, "micro_f1": 0.7, "loss": 0.1, "examples": 20}
    page = render_report(make(counts=None, evaluation=evaluation, by_class=rows))
    figure = f"<b>57.50{NBSP}%</b><span>mean average precision on the test split</span>"
    assert figure in page
    assert 'id="confusion"' not in page
    names = re.findall(r"<bdi>(\w+)</bdi>", section(page, "classes"))
    assert names == ["owl", "cat", "dog"]
    assert "25.00" in section(page, "classes")
    Outline(page)


# What may be missing.


def test_without_exports_the_page_says_how_to_export() -> None:
    part = sections.exported(make(exports=[]))
    assert "keras-resnet export RUN" in part
    assert "<table" not in part


def test_without_anything() -> None:
    page = render_report(
        dataclasses.replace(
            make(),
            class_names=[],
            counts=counts_of(np.zeros((0, 0), int)),
            summary={},
            history=[],
            evaluation={},
            samples=[],
            exports=[],
            config={},
        )
    )
    assert "No epoch was recorded." in page
    assert page.count("No predictions were counted.") == 2
    assert "No samples were kept." in page
    assert "<svg" not in page
    Outline(page)


def test_accuracy_comes_from_the_counts_where_it_is_not_given() -> None:
    words = text(sections.header(make(evaluation={"accuracy": float("nan")})))
    assert "27 of 31 correct" in words


def test_perfect_predictions() -> None:
    confusion = np.diag([4, 4, 4])
    data = make(counts=counts_of(confusion), evaluation={})
    assert "None: every prediction is correct." in predictions.confusion(data)
    assert f"75.75–100.00{NBSP}%" in sections.header(data)


@pytest.mark.parametrize("rows", [1, 2])
def test_short_history_with_missing_columns(rows: int) -> None:
    nan = float("nan")
    history = [{"loss": 1.5, "accuracy": nan, "val_loss": None, "val_accuracy": nan}] * rows
    part = sections.training(make(history=history))
    assert part.count("<svg") == 1
    assert "Not recorded: accuracy, learning rate." in part
    assert ">1.5000</td>" in part
    assert "Best validation" not in part


def test_infinite_losses_are_left_out_of_the_curve() -> None:
    history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": float("inf")}]
    part = sections.training(make(history=history))
    assert "Infinite loss values, not drawn: 1." in part


def test_validation_every_other_epoch() -> None:
    history = [{"epoch": i, "val_loss": 1.0 if i % 2 else float("nan")} for i in range(1, 8)]
    plot = curves(history, PANELS[1])
    assert plot is not None
    svg = inline_figure(plot, 'a "label"')
    assert 'aria-label="a &quot;label&quot;"' in svg
    assert svg.count("<use") >= 4
    assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]", svg)  # no stand-in for a colour is left
    assert "var(--series0)" in svg


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_scaled_down_only(channels: int, mode: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 100, channels), dtype=np.uint8)
    for pixels, expected in ((image, (48, 96)), (image[:8, :8], (8, 8))):
        address = png_address(pixels, 96)
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert (picture.size, picture.mode) == (expected, mode)
    exact = np.asarray(picture).reshape(8, 8, channels)
    np.testing.assert_array_equal(exact, image[:8, :8])


# The table of exports.


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (99_949, "99.9 KB"),
        (318_304, "318 KB"),
        (999_600, "1.0 MB"),
        (94_200_000, "94.2 MB"),
        (np.int64(2_500_000_000), "2.5 GB"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_size(value: object, shown: str) -> None:
    assert size(value) == shown.replace(" ", NBSP)


@pytest.mark.parametrize("width", [80, 160])
def test_export_table_on_a_console(width: int) -> None:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width).print(export_table(EXPORTS))
    shown = stream.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    for cell in ("float32", "318 KB", "98.33 %", "99.17 %", "0.34", "0.222 ms", "[red]mod"):
        assert cell.replace(" ", NBSP) in shown


def test_the_folder_tells_files_of_one_name_apart() -> None:
    from rich.console import Console

    stream, row = io.StringIO(), {"format": "tflite", "precision": "float32"}
    files = ["mediapipe/model.tflite", "android/model.tflite", "a/m.onnx", "saved_model/2"]
    table = export_table([{**row, "file": file} for file in files])
    Console(file=stream, width=160).print(table)
    shown = stream.getvalue()
    assert all(file in shown for file in ("mediapipe/model.tflite", "android/", "saved_model/2"))
    assert "a/m.onnx" not in shown


def test_the_best_epoch_is_the_one_that_the_run_chose() -> None:
    rows = [
        {"epoch": 1, "val_accuracy": 0.9, "val_loss": 0.1},
        {"epoch": 2, "val_accuracy": 1.0, "val_loss": 0.3},
        {"epoch": 3, "val_accuracy": math.nan, "val_loss": 0.0},
        {"epoch": 4, "val_accuracy": 1.0, "val_loss": 0.2},
    ]
    assert best_row(rows) == 3
    assert best_row([{"epoch": 1, "test_accuracy": 0.5}]) is None
