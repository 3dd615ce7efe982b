"""Results of a comparison, targets, sections, and the command `python -m benchmarks compare`."""

from __future__ import annotations

import json
import math
import pathlib
import re
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.comparison import run, sections
from benchmarks.comparison.results import Row, best_peer, ratio, reference, rows_of
from benchmarks.comparison.rounds import Contender, Measurement
from benchmarks.comparison.sections import BESIDE_PEERS, SECTIONS, comparisons, files_needed
from benchmarks.comparison.settings import FULL, OURS, PEERS, QUICK, Comparison, Settings
from benchmarks.comparison.targets import sentences, targets
from benchmarks.comparison.workload import Workload
from keras_resnet_train.presentation.findings import Findings, print_findings

ROOT = pathlib.Path(__file__).parents[2]


def contender(library: str, label: str, batch: int = 8, **fields: Any) -> Contender:
    workload = Workload("cifar_resnet8", (1, 1, 1), True, 32, batch, 10, 1, "")
    return Contender(library, label, "no:factory", workload, **fields)


def row(library: str, label: str, values: tuple[float, ...], **changes: Any) -> Row:
    fields = {"section": "train", "work": "training", "precision": "float32", "throughput": True}
    return Row(library=library, label=label, values=values, **{**fields, **changes})


# Rows and ratios.


def test_ratio_is_taken_round_by_round() -> None:
    one, other = row("a", "", (10.0, 20.0, 30.0)), row("b", "", (5.0, 40.0, 10.0))
    found = ratio(one, other)
    assert (found.median, found.low, found.high) == (2.0, 0.5, 3.0)
    seconds = ratio(
        row("a", "", (1.0, 2.0), throughput=False), row("b", "", (3.0, 2.0), throughput=False)
    )
    assert (seconds.median, seconds.low, seconds.high) == (2.0, 1.0, 3.0)  # less time is faster
    assert math.isnan(ratio(one, row("b", "", ())).median)


def test_best_peer_has_equal_precision() -> None:
    ours = row(OURS, "LiteRT", (9.0,))
    slow, fast = row("PyTorch", "x", (3.0,)), row("OpenVINO", "y", (5.0,))
    rows = [
        ours,
        row(OURS, "fit", (50.0,)),
        slow,
        fast,
        row("KerasHub", "int8", (99.0,), precision="int8"),
        row("KerasHub", "else", (99.0,), work="inference"),
        row("ONNX", "z", ()),
    ]
    assert best_peer(ours, rows) is fast
    assert reference(ours, rows) is fast
    assert best_peer(row(OURS, "x", (1.0,), work="alone"), rows) is None
    timed = [row("A", "", (3.0,), throughput=False), row("B", "", (5.0,), throughput=False)]
    assert best_peer(row(OURS, "", (1.0,), throughput=False), timed) is timed[0]


def test_rows_of_a_comparison() -> None:
    contenders = tuple(contender(library, "label") for library in (OURS, "A", "B"))
    work = Comparison("train", "training", contenders, 10, {"": "training"}, passes=3)
    measurements = [
        Measurement([{"": 2.0}, {"": 4.0}, {"": 1.0}], None, 5e6),
        Measurement([{"": 2.0}], 2_000_000, 7e6),
        Measurement(note="not installed: b"),
    ]
    first, second, absent = rows_of(work, measurements, multiply_adds=1_000_000)
    assert first.values == (40.0, 20.0, 80.0)
    assert (first.median, first.peak_bytes) == (40.0, 5e6)
    assert first.share(1e9) == pytest.approx(40 * 1e6 * 2 * 3 / 1e9)
    assert second.share(1e9) == 2 * first.share(1e9)  # twice the operations at equal speed
    assert (absent.values, absent.note) == ((), "not installed: b")
    assert math.isnan(absent.share(1e9))
    halved = rows_of(work, measurements, multiply_adds=1_000_000, devices=2)
    assert halved[0].values == (20.0, 10.0, 40.0)


def test_rows_of_parts() -> None:
    parts = {"save": "saving", "load": "loading"}
    work = Comparison(
        "checkpoint", "checkpoints", (contender("A", "x"),), 2, parts, throughput=False
    )
    measurements = [Measurement([{"save": 3.0, "load": 1.0}])]
    saving, loading = rows_of(work, measurements, multiply_adds=1)
    assert (saving.work, saving.values, saving.operations) == ("saving", (1.5,), None)
    assert (loading.work, loading.values) == ("loading", (0.5,))


def test_ratios_are_to_the_baseline_where_there_is_one() -> None:
    contenders = (contender(OURS, "defaults"), contender(OURS, "XLA"))
    work = Comparison("options", "options", contenders, 1, {"": "options"}, baseline=True)
    measurements = [Measurement([{"": 1.0}]), Measurement([{"": 2.0}])]
    defaults, xla = rows = rows_of(work, measurements, multiply_adds=0)
    assert reference(xla, rows) is reference(defaults, rows) is defaults
    assert ratio(xla, defaults).median == 0.5


# Targets.


def test_targets() -> None:
    inference = {"section": "inference", "work": "inference"}
    rows = [
        row(OURS, "training loop", (1.0,)),
        row(OURS, "stacked", (1.0,)),
        row(OURS, "fit", (1.0,)),
        row(OURS, "training loop, mixed_float16", (1.0,), precision="mixed_float16"),
        row("keras.io example", "fit", (1.0,)),
        row("PyTorch", "channels_last", (1.0,)),
        row("keras.applications", "fit", (1.0,)),
        row(OURS, "tf.function", (1.0,), **inference),
        row("keras.applications", "tf.function", (1.0,), **inference),
        row("keras.applications", "eager call", (1.0,), **inference),
        row("PyTorch", "channels_last", (2.0,), **inference),
        row(OURS, "OpenVINO", (1.5,), **inference),
        row(OURS, "a", (3.0,), precision="int8", **inference),
        row(OURS, "b", (4.0,), precision="int8", **inference),
        row("OpenVINO", "c", (1.0,), precision="int8", **inference),
        row(OURS, "x", (1.0,), precision="mixed_float16", **inference),
    ]
    found = [(t.factor, t.ours.label, t.peer.library, t.peer.label) for t in targets(rows)]
    assert found == [
        (1.4, "training loop", "keras.io example", "fit"),
        (1.0, "training loop", "PyTorch", "channels_last"),
        (1.0, "training loop", "keras.applications", "fit"),
        (1.0, "fit", "keras.applications", "fit"),
        (1.0, "tf.function", "keras.applications", "tf.function"),
        (1.0, "OpenVINO", "PyTorch", "channels_last"),
        (1.0, "b", "OpenVINO", "c"),
    ]


@pytest.mark.parametrize(
    ("peer", "verdict"),
    [
        ((10.0, 10.0, 10.0), "met, 1.50 times (1.40 to 1.60)."),
        (
            (10.4, 10.4, 10.4),
            "met by the median, with rounds on both sides, 1.44 times (1.35 to 1.54).",
        ),
        (
            (11.0, 11.0, 11.0),
            "not met by the median, with rounds on both sides, 1.36 times (1.27 to 1.45).",
        ),
        ((20.0, 20.0, 20.0), "not met, 0.75 times (0.70 to 0.80)."),
        ((), "not measured (not installed: x)."),
    ],
)
def test_sentences_say_whether_a_target_is_met(peer: tuple[float, ...], verdict: str) -> None:
    rows = [
        row(OURS, "training loop", (14.0, 15.0, 16.0)),
        row("keras.io example", "fit", peer, note="" if peer else "not installed: x"),
    ]
    found = sentences(rows, 316e9)
    assert found[0] == (
        "training: keras_resnet, training loop, at least 1.4 times as fast as "
        f"keras.io example, fit: {verdict}"
    )
    assert "The machine's float32 peak (matrix product): 316 GFLOP/s." in found
    if peer:
        assert found[1].startswith("Fastest at training: ours 15 images/s (training loop), peers' ")
    else:
        assert found[-1] == "Not measured: keras.io example, fit (not installed: x)."


# Sections.


@pytest.mark.parametrize("sizes", [FULL, QUICK])
def test_contenders_of_every_section_exist(sizes: Any) -> None:
    libraries = set()
    for section in SECTIONS:
        works = comparisons(section, Settings(sizes, 4, "folder", gpus=1))
        for work in works:
            own = {contender.library for contender in work.contenders}
            libraries |= own
            assert OURS in own
            # The first work of a section has the peers; mixing beside a step is ours alone.
            assert (len(own) > 1) == (section in BESIDE_PEERS) or work is not works[0]
            names = [contender.name for contender in work.contenders]
            assert len(set(names)) == len(names)
            for contender in work.contenders:
                module, function = contender.factory.split(":")
                source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
                assert f"\ndef {function}(workload: Workload, timer: PhaseTimer) ->" in source
    assert libraries == {OURS, *PEERS.values()}


def test_the_packages_do_not_import_benchmarks() -> None:
    for package in ("keras_resnet", "train"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"^\s*(from|import) benchmarks\b", path.read_text(), re.M), path


def test_peers_that_are_not_selected_are_left_out() -> None:
    (first, *_) = comparisons("train", Settings(QUICK, 2, "", ("torch",)))
    assert {contender.library for contender in first.contenders} == {OURS, "PyTorch"}


def test_mixed_precision_and_xla_are_added_on_a_gpu() -> None:
    for section in ("train", "inference"):
        without, (work, *_) = (
            comparisons(section, Settings(QUICK, 2, "", gpus=gpus)) for gpus in (0, 1)
        )
        added = work.contenders[len(without[0].contenders) :]
        assert {"mixed_float16", "float32"} <= {c.workload.precision for c in added}
        assert any(contender.workload.xla for contender in added)
        assert not any(contender.workload.xla for contender in without[0].contenders)


def test_files_are_written_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(QUICK, 2, "")
    inference = comparisons("inference", settings)
    needed = list(files_needed(inference))
    assert sorted(needed) == [
        "applications.onnx",
        "applications.tflite",
        "applications_int8.onnx",
        "applications_int8.tflite",
        "ours.onnx",
        "ours.saved_model",
        "ours.tflite",
        "ours_int8.tflite",
        "torch.onnx",
    ]
    # Quantised from the former.
    assert needed.index("applications.onnx") < needed.index("applications_int8.onnx")
    assert list(files_needed(comparisons("pipeline", settings))) == ["jpeg"]
    assert not files_needed(comparisons("train", settings))

    written = []

    def no_torch(contenders: list[Contender], **options: Any) -> list[Measurement]:
        (writer,) = contenders
        written.append(writer.workload.mode)
        return [Measurement(note="not installed: torch" if "torch" in writer.label else "")]

    monkeypatch.setattr(run, "run_rounds", no_torch)
    (work, *_) = run._with_files(inference, 1.0)
    assert written == needed
    problems = {c.workload.mode: c.problem for c in work.contenders if c.problem}
    assert problems == {"torch.onnx": "not installed: torch"}


# The command.


def test_compare(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command with given measurements, without rendering."""
    contenders = (
        contender(OURS, "training loop"),
        contender("keras.io example", "fit"),
        contender("PyTorch", "channels_last"),
    )
    work = Comparison("train", "the work", contenders, 1, {"": "the work"}, passes=3)
    measurements = [
        Measurement([{"": 1.0}] * 5, peak_bytes=1e6),
        Measurement([{"": 2.0}] * 5, multiply_adds=10),
        Measurement(note="not installed: torch"),
        Measurement([{"": 0.5}] * 5),  # the matrix product
    ]
    asked: list[tuple[list[str], int, int]] = []
    written: list[Findings] = []

    def given(contenders: list[Contender], rounds: int, **options: Any) -> list[Measurement]:
        asked.append(([c.label for c in contenders], rounds, options["units"]))
        return measurements.copy()

    def publish(output: pathlib.Path, findings: Findings) -> int:
        print_findings(findings)
        return 0

    monkeypatch.setattr(run, "comparisons", lambda section, settings: [work])
    monkeypatch.setattr(run, "run_rounds", given)
    monkeypatch.setattr(run, "write_findings", lambda output, findings: written.append(findings))
    monkeypatch.setattr(run, "publish", publish)
    assert main(["compare", "train", "--quick", "--output", str(tmp_path)]) == 0
    assert asked == [(["training loop", "fit", "channels_last", "matrix product"], 5, 1)]
    (findings,) = written
    table, rounds = findings.tables
    first, second, third = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (first["Contender"], first["Unit"]) == (f"{OURS}, training loop", "images/s")
    assert (first["Median"], first["Ratio"], first["Memory (MB)"]) == (8.0, 2.0, 1.0)
    assert (first["Range"], second["Ratio"]) == ("8 to 8", 1.0)
    assert (third["Median"], third["Range"]) == (None, "not installed: torch")
    assert len(rounds.rows) == 2 * 5
    assert str(findings.facts["Peak"]).startswith("0.5 GFLOP/s")
    assert str(findings.facts["Command"]).startswith("python -m benchmarks")
    (plot,) = findings.plots
    assert (plot.name, plot.ylabel) == ("the-work", "images/s")
    assert [(line.label, line.x, line.y) for line in plot.lines] == [
        (OURS, [0], [8.0]),
        ("peers", [1], [4.0]),
    ]
    out = capsys.readouterr().out
    assert "Not measured: PyTorch, channels_last (not installed: torch)." in out


@pytest.mark.multi_process
def test_compare_for_real(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One comparison with one peer, each in its process."""

    def from_memory(settings: Settings) -> list[Comparison]:
        return [sections._pipeline(settings)[0]]

    monkeypatch.setattr(sections, "SECTIONS", {"pipeline": from_memory})
    words = ["compare", "pipeline", "--quick", "--peers", "keras", "--threads", "1"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    ours, peer = results["tables"]["benchmark"]
    title = "input pipeline, CIFAR from memory, 32 px, batch 8"
    assert (ours["Work"], ours["Contender"]) == (title, "keras_resnet, training pipeline")
    assert (peer["Work"], peer["Contender"]) == (title, "Keras, tf.data and layers")
    assert min(ours["Median"], peer["Median"], ours["Memory (MB)"]) > 0
    assert (tmp_path / "input-pipeline-CIFAR-from-memory-32-px-batch-8.svg").is_file()
    assert (tmp_path / "report.html").is_file()
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 1 + 2 * 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare trian", "argument SECTION: unknown 'trian'. Nearest: train"),
        ("compare --rounds 4", "argument --rounds: must be at least 5. Received: 4"),
        ("compare --threads 0", "argument --threads: must be at least 1. Received: 0"),
        ("compare --peers tortch", "argument --peers: unknown 'tortch'. Nearest: torch"),
        ("compare --limit 0", "argument --limit: must be above 0. Received: 0"),
        ("compare --record", "unrecognized arguments: --record"),
        ("counts resnet51", "argument NET: unknown 'resnet51'. Nearest: resnet50"),
        ("", "required: COMMAND"),
    ],
)
def test_wrong_options(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_interrupt(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "comparisons", interrupted)
    assert main(["compare", "--output", str(tmp_path)]) == 130
