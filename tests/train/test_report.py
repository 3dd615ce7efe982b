"""The HTML report of a run and the table of its exports."""

import base64
import dataclasses
import hashlib
import io
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_resnet_train.presentation import (
    ReportData,
    Sample,
    export_table,
    format_export_table,
    render_report,
    write_report,
)
from keras_resnet_train.presentation.data import best_row, class_scores, confused_pairs
from keras_resnet_train.presentation.figures import PANELS, curve, png_address
from keras_resnet_train.presentation.markup import element, escape, percent
from keras_resnet_train.presentation.tables import size

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
        confusion=confusion,
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
    page = render_report(make(evaluation={"accuracy": right / total, "examples": total}))
    assert f"<b>{shown.replace(' ', NBSP)}</b><span>95{NBSP}% interval (Wilson)" in page


def test_class_scores_and_confused_pairs() -> None:
    confusion = np.array([[6, 2, 0], [0, 0, 0], [2, 0, 8]], np.uint32)
    scores = class_scores(confusion)
    assert [score.index for score in scores] == [0, 2, 1]
    assert [score.recall for score in scores] == pytest.approx([0.75, 0.8, np.nan], nan_ok=True)
    assert [score.precision for score in scores] == pytest.approx([0.75, 1.0, 0.0])
    pairs = confused_pairs(confusion, 5)
    assert [dataclasses.astuple(pair) for pair in pairs] == [(0, 1, 2, 0.25), (2, 0, 2, 0.2)]
    assert confused_pairs(confusion, 1) == pairs[:1]
    assert confusion[0, 0] == 6  # not changed


# The data's own checks.


def test_confusion_has_to_fit_the_classes() -> None:
    with pytest.raises(ValueError, match=r"`confusion` needs one row .* \(3\).*shape=\(2, 2\)"):
        make(confusion=np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="`confusion` needs counts >= 0"):
        make(confusion=np.full((3, 3), -1))


def test_samples_have_to_fit_the_classes() -> None:
    image = np.zeros((2, 2, 1), np.uint8)
    with pytest.raises(ValueError, match=r"`samples` need classes in 0\.\.2.*predicted=3"):
        make(samples=[Sample(image, 0, 3, 0.5)])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 2, 3), np.float32),
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((0, 2, 3), np.uint8),
    ],
)
def test_sample_image(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`image` needs uint8 pixels"):
        Sample(image, 0, 0, 0.5)


# The page.


def test_page_shows_the_figures() -> None:
    page = render_report(make())
    words = text(page)
    for expected in (
        "80.00 % accuracy on the test split",
        "49.02–94.33 % 95 % interval (Wilson)",
        "20.00 % error; 8 of 10 right",
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


def test_page_is_well_formed_and_accessible() -> None:
    outline = Outline(render_report(make()))
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
        f"train from 50.00{NBSP}% to 83.33{NBSP}% (highest 83.33{NBSP}%); "
        f"validation from 50.00{NBSP}% to 75.00{NBSP}% (highest 87.50{NBSP}%)"
    )
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [value for _, at in outline.tags for name, value in at.items() if name == "href"]
    assert links
    assert {link[1:] for link in links if link} <= set(ids)


def test_page_refers_to_nothing_outside() -> None:
    page = render_report(make())
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


def test_right_and_wrong_differ_by_more_than_colour() -> None:
    samples = section(render_report(make()), "samples")
    assert f"✓ <bdi>class0</bdi></strong><span>right · 91.0{NBSP}%" in samples
    assert f"✗ <bdi>class0</bdi></strong><span>true: <bdi>class2</bdi> · 62.5{NBSP}%" in samples
    assert "2 examples of the test split, 1 of them wrong" in samples


@pytest.mark.parametrize("classes", [3, 25, 60])
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


def test_equal_data_gives_an_equal_page() -> None:
    assert render_report(make()) == render_report(make())


def test_page_does_not_depend_on_the_process() -> None:
    program = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_report as t; "
        "print(hashlib.sha256(t.render_report(t.make()).encode()).hexdigest())"
    )
    folder = str(Path(__file__).parent)
    run = subprocess.run(
        [sys.executable, "-c", program, folder],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == hashlib.sha256(render_report(make()).encode()).hexdigest()


# Sizes of the class list.


def test_few_classes_show_counts_in_a_matrix() -> None:
    page = section(render_report(make(20)), "confusion")
    assert Outline(page).count("table", "matrix") == 1
    assert ">9</td>" in page
    assert "dense" not in page
    assert "<details" not in section(render_report(make(20)), "classes")


def test_more_classes_show_a_matrix_without_counts() -> None:
    page = render_report(make(50))
    confusion = section(page, "confusion")
    assert Outline(confusion).count("table", "dense") == 1
    assert 'title="class0 → class1: 3"></td>' in confusion
    assert "All 50 classes" in section(page, "classes")


def test_many_classes_show_pairs_only() -> None:
    confusion = np.diag(np.full(60, 5))
    confusion[np.arange(30), np.arange(1, 31)] = np.arange(1, 31)
    page = render_report(make(60, confusion=confusion))
    part = section(page, "confusion")
    assert Outline(part).count("table", "matrix") == 0
    assert "These 20 make up 410 of 465 mistakes" in part
    body = part[part.index("<tbody>") :]
    assert body.count("<tr>") == 20
    assert body.index("class29") < body.index("class28") < body.index("class27")
    assert "All 60 classes" in section(page, "classes")


def test_thousands_of_classes_and_large_samples_stay_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (160, 320, 3), dtype=np.uint8)
    samples = [Sample(noise, i % 3, 0, 0.5) for i in range(100)]
    history = [{"epoch": i, "loss": 1 / i, "val_accuracy": 1 - 1 / i} for i in range(1, 2001)]
    page = render_report(make(1500, samples=samples, history=history))
    assert len(page.encode()) < 1_500_000
    assert "1,000 of 1,500 classes" in page
    assert "60 more are left out" in section(page, "samples")
    assert "200 of 2000 epochs" in section(page, "curves")
    square = [Sample(noise[:, :160], 0, 0, 0.5)] * 40
    assert len(render_report(make(samples=square)).encode()) < 1_500_000


# What may be missing.


def test_without_exports_the_page_says_how_to_export() -> None:
    part = section(render_report(make(exports=[])), "exports")
    assert "keras-resnet export RUN" in part
    assert "<table" not in part


def test_without_anything() -> None:
    page = render_report(
        dataclasses.replace(
            make(),
            class_names=[],
            confusion=np.zeros((0, 0), int),
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
    words = text(render_report(make(evaluation={"accuracy": float("nan")})))
    assert "27 of 31 right" in words


def test_perfect_predictions() -> None:
    confusion = np.diag([4, 4, 4])
    page = render_report(make(confusion=confusion, evaluation={}))
    assert "None: no example was taken for one of another class." in page
    assert f"75.75–100.00{NBSP}%" in page


@pytest.mark.parametrize("rows", [1, 2])
def test_short_history_with_missing_columns(rows: int) -> None:
    nan = float("nan")
    history = [{"loss": 1.5, "accuracy": nan, "val_loss": None, "val_accuracy": nan}] * rows
    part = section(render_report(make(history=history)), "curves")
    assert part.count("<svg") == 1
    assert "Not recorded: accuracy, learning rate." in part
    assert ">1.5000</td>" in part
    assert "Best validation" not in part


def test_infinite_losses_are_left_out_of_the_curve() -> None:
    history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": float("inf")}]
    part = section(render_report(make(history=history)), "curves")
    assert "1 infinite loss value is not drawn." in part


def test_validation_every_other_epoch() -> None:
    history = [{"epoch": i, "val_loss": 1.0 if i % 2 else float("nan")} for i in range(1, 8)]
    svg = curve(history, PANELS[1], 'a "label"')
    assert svg is not None
    assert 'aria-label="a &quot;label&quot;"' in svg
    assert svg.count("<use") >= 4
    assert "#050505" not in svg
    assert "var(--val)" in svg


def test_figures_leave_matplotlib_as_it_was() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    render_report(make())
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.rcParams["svg.hashsalt"] is None


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_scaled_down_only(channels: int, mode: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 100, channels), dtype=np.uint8)
    for pixels, expected in ((image, (48, 96)), (image[:8, :8], (8, 8))):
        address = png_address(pixels, 96)
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert (picture.size, picture.mode) == (expected, mode)
    exact = np.asarray(picture).reshape(8, 8, channels)
    np.testing.assert_array_equal(exact, image[:8, :8])


# Writing.


def test_write_report(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("older")
    write_report(str(target), make())
    assert target.read_text(encoding="utf-8") == render_report(make())
    assert os.listdir(tmp_path) == ["report.html"]


def test_failed_rendering_creates_nothing(tmp_path: Path) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(RuntimeError, match="no text"):
        write_report(tmp_path / "report.html", make(config={"x": Broken()}))
    assert os.listdir(tmp_path) == []


def test_failed_rename_keeps_the_older_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("older")

    def refuse(*_: object) -> None:
        raise OSError("disk is gone")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk is gone"):
        write_report(target, make())
    assert os.listdir(tmp_path) == ["report.html"]
    assert target.read_text() == "older"


def test_missing_folder_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        write_report(tmp_path / "absent" / "report.html", make())
    assert os.listdir(tmp_path) == []


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


def test_format_export_table() -> None:
    lines = format_export_table(EXPORTS).splitlines()
    assert lines == [
        "Format  Precision    Size  Accuracy  Agreement  Max Δ logit  Latency per image  File",
        "------  ---------  ------  --------  ---------  -----------  -----------------  "
        "-----------------",
        "keras   float32    1.1 MB         –          –            –                  –  "
        "model.keras",
        "tflite  int8       318 KB   98.33 %    99.17 %         0.34           0.222 ms  "
        "[red]model.tflite",
    ]
    assert len(format_export_table([]).splitlines()) == 2


@pytest.mark.parametrize("width", [80, 160])
def test_export_table_on_a_console(width: int) -> None:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width).print(export_table(EXPORTS))
    shown = stream.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    for cell in ("float32", "318 KB", "98.33 %", "99.17 %", "0.34", "0.222 ms", "[red]mod"):
        assert cell.replace(" ", NBSP) in shown


def test_import_loads_nothing_heavy() -> None:
    program = (
        "import sys, keras_resnet_train.presentation; "
        "print(sorted({'matplotlib', 'PIL', 'rich', 'keras', 'tensorflow'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]"


def test_the_best_epoch_is_the_one_that_the_run_chose() -> None:
    rows = [
        {"epoch": 1, "val_accuracy": 0.9, "val_loss": 0.1},
        {"epoch": 2, "val_accuracy": 1.0, "val_loss": 0.3},
        {"epoch": 3, "val_accuracy": math.nan, "val_loss": 0.0},
        {"epoch": 4, "val_accuracy": 1.0, "val_loss": 0.2},
    ]
    assert best_row(rows) == 3
    assert best_row([{"epoch": 1, "test_accuracy": 0.5}]) is None
