"""`keras-resnet bench`: turns in processes, ratios, words, the table, depth and counts."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from keras_resnet import build, get_spec
from keras_resnet.analysis import count, count_spec
from keras_resnet_train.benchmark import comparison, counts, keras_peers, ours
from keras_resnet_train.benchmark.job import Clock, Job
from keras_resnet_train.benchmark.results import Row, best_peer, ratio, rows_of
from keras_resnet_train.benchmark.sections import SECTIONS, comparisons, files_needed
from keras_resnet_train.benchmark.setting import (
    FULL,
    OURS,
    PEERS,
    QUICK,
    Comparison,
    Setting,
)
from keras_resnet_train.benchmark.targets import targets, words
from keras_resnet_train.benchmark.turns import Contender, Measured, take_turns
from keras_resnet_train.studies import depth_cost

ROOT = pathlib.Path(__file__).parents[2]
Command = Callable[..., Any]

# What a worker of these tests imports; it writes who computed when.
STUBS = """
import os, sys, time
from keras_resnet_train.benchmark.job import Ready

def log(job, what):
    with open(job.folder + "/log", "a") as file:
        file.write(f"{job.net} {what} {os.getpid()}\\n")

def steady(job, clock):
    with clock("import"):
        pass
    with clock("build"):
        time.sleep(0.02)
    print("what libraries print")
    def turn(count):
        log(job, f"begins {count}")
        time.sleep(0.02)
        log(job, "ends")
    return Ready(turn, 1000)

def own_time(job, clock):
    return Ready(lambda count: {"save": 0.5 * count, "load": 0.25 * count})

def greedy(job, clock):
    with clock("import"):
        pass
    def turn(count):
        bytearray(200_000_000)
    return Ready(turn)

def needs_more(job, clock):
    import a_module_that_is_not_there

def fails_later(job, clock):
    def turn(count):
        if os.path.exists(job.folder + "/log"):
            raise ValueError("no such luck\\nand more")
    return Ready(turn)

def dies(job, clock):
    print("the last words", file=sys.stderr)
    sys.stderr.flush()
    os._exit(3)

def never(job, clock):
    time.sleep(600)
"""


def job(folder: pathlib.Path | str = "", net: str = "cifar_resnet8", **changes: Any) -> Job:
    spec = get_spec(net)
    cifar = spec.stem == "cifar"
    base = {"size": 32, "batch": 2, "classes": 10, "threads": 1, "folder": str(folder)}
    return Job(net=net, depths=spec.depths, cifar=cifar, **{**base, **changes})


@pytest.fixture
def stub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Contender]:
    """Makes contenders of the stubs, which log into `tmp_path`."""
    (tmp_path / "bench_stubs.py").write_text(STUBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(name: str, factory: str = "steady", **fields: Any) -> Contender:
        values: dict[str, Any] = {**vars(job(tmp_path)), "net": name}
        return Contender(
            fields.pop("library", "stub"), name, f"bench_stubs:{factory}", Job(**values), **fields
        )

    return make


def turns(contenders: list[Contender], **changes: Any) -> list[Measured]:
    return take_turns(
        contenders, **{"rounds": 2, "units": 3, "limit": 30.0, "say": lambda line: None, **changes}
    )


def logged(folder: pathlib.Path) -> list[list[str]]:
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Turns.


@pytest.mark.multi_process
def test_only_the_one_whose_turn_it_is_computes(
    stub: Callable[..., Contender], tmp_path: pathlib.Path
) -> None:
    names = ["a", "b", "c"]
    measured = turns([stub(name) for name in names])
    lines = logged(tmp_path)
    wanted = [
        [name, *what] for _ in range(3) for name in names for what in (["begins", "3"], ["ends"])
    ]
    assert [line[:-1] for line in lines] == wanted  # the first of the three rounds is not counted
    pids = {name: {line[-1] for line in lines if line[0] == name} for name in names}
    assert all(len(own) == 1 for own in pids.values())  # each kept its process
    assert len(set.union(*pids.values())) == 3
    assert not any(alive(int(pid)) for own in pids.values() for pid in own)
    for done in measured:
        assert (done.note, done.multiply_adds, len(done.turns)) == ("", 1000, 2)
        assert all(0.02 <= turn[""] < 5 for turn in done.turns)


@pytest.mark.multi_process
def test_a_fresh_contender_starts_anew_each_turn(
    stub: Callable[..., Contender], tmp_path: pathlib.Path
) -> None:
    (done,) = turns([stub("a", fresh=True)])
    assert [turn.keys() for turn in done.turns] == [{"import", "build"}] * 2
    assert all(turn["build"] >= 0.02 for turn in done.turns)
    assert not (tmp_path / "log").exists()  # set up alone


@pytest.mark.multi_process
def test_parts_that_a_contender_times_itself(stub: Callable[..., Contender]) -> None:
    (done,) = turns([stub("a", "own_time")])
    assert done.turns == [{"save": 1.5, "load": 0.75}] * 2


@pytest.mark.multi_process
def test_peak_memory_is_the_turns_own(stub: Callable[..., Contender]) -> None:
    """Neither the imports' nor, as `ru_maxrss` would have it, the parent's (TensorFlow is here)."""
    small, large = turns([stub("small"), stub("large", "greedy")])
    assert small.peak_bytes is not None
    assert small.peak_bytes < 20e6
    assert large.peak_bytes is not None
    assert 180e6 < large.peak_bytes < 260e6


@pytest.mark.multi_process
def test_what_fails_is_noted_and_the_others_go_on(stub: Callable[..., Contender]) -> None:
    contenders = [
        stub("absent", needs=("surely_not_there", "numpy")),
        stub("needs", "needs_more"),
        stub("works"),
        stub("fails", "fails_later"),
        stub("dies", "dies"),
        stub("slow", "never"),
    ]
    said: list[str] = []
    measured = turns(contenders, limit=3.0, say=said.append)
    assert [done.note for done in measured] == [
        "not installed: surely_not_there",
        "not installed: a_module_that_is_not_there",
        "",
        "ValueError: no such luck",
        "ended with status 3: the last words",
        "stopped after 3 s",
    ]
    assert [len(done.turns) for done in measured] == [0, 0, 2, 0, 0, 0]
    assert "  stub, fails: ValueError: no such luck" in said


@pytest.mark.multi_process
def test_an_interrupt_ends_every_worker(
    stub: Callable[..., Contender], tmp_path: pathlib.Path
) -> None:
    def say(line: str) -> None:
        if line.startswith("  round 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        turns([stub("a"), stub("b")], say=say)
    pids = {int(line[-1]) for line in logged(tmp_path)}
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


# Rows, ratios, words.


def row(library: str, way: str, values: tuple[float, ...], **changes: Any) -> Row:
    fields = {"section": "train", "work": "training", "precision": "float32", "rate": True}
    return Row(library=library, way=way, values=values, **{**fields, **changes})


def test_ratio_goes_round_by_round() -> None:
    one, other = row("a", "", (10.0, 20.0, 30.0)), row("b", "", (5.0, 40.0, 10.0))
    found = ratio(one, other)
    assert (found.median, found.low, found.high) == (2.0, 0.5, 3.0)
    seconds = ratio(row("a", "", (1.0, 2.0), rate=False), row("b", "", (3.0, 2.0), rate=False))
    assert (seconds.median, seconds.low, seconds.high) == (2.0, 1.0, 3.0)  # less time is faster
    assert math.isnan(ratio(one, row("b", "", ())).median)


def test_best_peer_is_of_equal_precision() -> None:
    mine = row(OURS, "LiteRT", (9.0,))
    slow, fast = row("PyTorch", "x", (3.0,)), row("OpenVINO", "y", (5.0,))
    rows = [
        mine,
        row(OURS, "fit", (50.0,)),
        slow,
        fast,
        row("KerasHub", "int8", (99.0,), precision="int8"),
        row("KerasHub", "else", (99.0,), work="inference"),
        row("ONNX", "z", ()),
    ]
    assert best_peer(mine, rows) is fast
    assert best_peer(row(OURS, "x", (1.0,), work="alone"), rows) is None
    timed = [row("A", "", (3.0,), rate=False), row("B", "", (5.0,), rate=False)]
    assert best_peer(row(OURS, "", (1.0,), rate=False), timed) is timed[0]


def test_rows_of_a_comparison() -> None:
    contenders = tuple(
        Contender(library, "way", "", job(batch=8), ()) for library in (OURS, "A", "B")
    )
    work = Comparison("train", "training", contenders, 10, {"": "training"}, passes=3)
    measured = [
        Measured([{"": 2.0}, {"": 4.0}, {"": 1.0}], None, 5e6),
        Measured([{"": 2.0}], 2_000_000, 7e6),
        Measured(note="not installed: b"),
    ]
    first, second, absent = rows_of(work, measured, multiply_adds=1_000_000)
    assert first.values == (40.0, 20.0, 80.0)
    assert (first.median, first.peak_bytes) == (40.0, 5e6)
    assert first.share(1e9) == pytest.approx(40 * 1e6 * 2 * 3 / 1e9)
    assert second.share(1e9) == 2 * first.share(1e9)  # twice the operations, as fast
    assert (absent.values, absent.note) == ((), "not installed: b")
    assert math.isnan(absent.share(1e9))
    halved = rows_of(work, measured, multiply_adds=1_000_000, devices=2)
    assert halved[0].values == (20.0, 10.0, 40.0)


def test_rows_of_parts() -> None:
    work = Comparison(
        "checkpoint",
        "checkpoints",
        (Contender("A", "w", "", job()),),
        2,
        {"save": "saving", "load": "loading"},
        rate=False,
    )
    saving, loading = rows_of(work, [Measured([{"save": 3.0, "load": 1.0}])], multiply_adds=1)
    assert (saving.work, saving.values, saving.operations) == ("saving", (1.5,), None)
    assert (loading.work, loading.values) == ("loading", (0.5,))


def test_which_targets_there_are() -> None:
    rows = [
        row(OURS, "training loop", (1.0,)),
        row(OURS, "stacked", (1.0,)),
        row(OURS, "fit", (1.0,)),
        row(OURS, "training loop, mixed_float16", (1.0,), precision="mixed_float16"),
        row("keras.io example", "fit", (1.0,)),
        row("PyTorch", "channels_last", (1.0,)),
        row("keras.applications", "fit", (1.0,)),
        row(OURS, "tf.function", (1.0,), section="inference", work="inference"),
        row("keras.applications", "tf.function", (1.0,), section="inference", work="inference"),
        row("keras.applications", "eager call", (1.0,), section="inference", work="inference"),
        row("PyTorch", "channels_last", (2.0,), section="inference", work="inference"),
        row(OURS, "OpenVINO", (1.5,), section="inference", work="inference"),
        row(OURS, "a", (3.0,), section="inference", work="inference", precision="int8"),
        row(OURS, "b", (4.0,), section="inference", work="inference", precision="int8"),
        row("OpenVINO", "c", (1.0,), section="inference", work="inference", precision="int8"),
        row(OURS, "x", (1.0,), section="inference", work="inference", precision="mixed_float16"),
    ]
    found = [(t.factor, t.ours.way, t.peer.library, t.peer.way) for t in targets(rows)]
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
def test_words_say_whether_a_target_is_met(peer: tuple[float, ...], verdict: str) -> None:
    note = "" if peer else "not installed: x"
    rows = [
        row(OURS, "training loop", (14.0, 15.0, 16.0)),
        row("keras.io example", "fit", peer, note=note),
    ]
    said = words(rows, 316e9)
    assert said[0] == (
        "training: keras_resnet, training loop, is to be at least 1.4 times as fast as "
        f"keras.io example, fit: {verdict}"
    )
    assert "The machine's float32 peak (matrix product): 316 GFLOP/s." in said
    if peer:
        assert said[1].startswith("Fastest at training: ours 15 images/s (training loop), peers' ")
    else:
        assert said[-1] == "Not measured: keras.io example, fit (not installed: x)."


# What is compared.


def test_every_section_names_contenders_that_exist() -> None:
    for scale in (FULL, QUICK):
        setting = Setting(scale, 2, "folder", gpus=1)
        for section in SECTIONS:
            for work in comparisons(section, setting):
                libraries = {contender.library for contender in work.contenders}
                assert OURS in libraries
                assert len(libraries) > 1
                names = [contender.name for contender in work.contenders]
                assert len(set(names)) == len(names)
                for contender in work.contenders:
                    module, function = contender.factory.split(":")
                    path = ROOT / "train" / f"{module.split('.', 1)[1].replace('.', '/')}.py"
                    assert f"\ndef {function}(job: Job, clock: Clock) -> Ready:" in path.read_text()


def test_peers_are_left_out_where_they_are_not_wanted() -> None:
    (first, *_) = comparisons("train", Setting(QUICK, 2, "", ("torch",)))
    assert {contender.library for contender in first.contenders} == {OURS, "PyTorch"}
    named = {
        contender.library
        for section in SECTIONS
        for work in comparisons(section, Setting(FULL, 2, ""))
        for contender in work.contenders
    }
    assert named == {OURS, *PEERS.values()}


def test_files_are_made_for_those_that_read_them() -> None:
    setting = Setting(QUICK, 2, "")
    assert files_needed(comparisons("inference", setting)) == [
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
    assert files_needed(comparisons("pipeline", setting)) == ["jpeg"]
    assert files_needed(comparisons("train", setting)) == []


def test_mixed_precision_and_xla_are_added_on_a_gpu() -> None:
    for section in ("train", "inference"):
        without, (work, *_) = (
            comparisons(section, Setting(QUICK, 2, "", gpus=gpus)) for gpus in (0, 1)
        )
        more = work.contenders[len(without[0].contenders) :]
        assert {"mixed_float16", "float32"} <= {contender.job.precision for contender in more}
        assert any(contender.job.xla for contender in more)
        assert not any(contender.job.xla for contender in without[0].contenders)


# Our contenders and the peers' nets, in this process.


@pytest.mark.parametrize(
    ("factory", "route"),
    [
        (ours.train, ""),
        (ours.train, "stacked"),
        (ours.fit, ""),
        (keras_peers.train_keras_io, ""),
    ],
)
def test_training_contenders(factory: Any, route: str) -> None:
    clock = Clock()
    ready = factory(job(size=8, route=route, net="cifar_resnet14"), clock)
    assert clock.seconds.keys() == {"import", "build", "first step"}
    assert clock.memory > 0
    seconds = ready.turn(2)
    assert seconds is None or 0 < seconds[""] < 60


@pytest.mark.parametrize("route", ["eager", "predict", "function", "function, folded"])
def test_inference_contenders(route: str) -> None:
    assert ours.infer(job(size=8, route=route), Clock()).turn(2) is None


def test_checkpoint_contender(tmp_path: pathlib.Path) -> None:
    seconds = ours.checkpoint(job(tmp_path), Clock()).turn(1)
    assert seconds is not None
    assert seconds.keys() == {"save", "load"}
    assert (tmp_path / "ours/step_00000001/state.json").is_file()


def test_pipeline_contenders() -> None:
    for factory in (ours.pipeline, keras_peers.pipeline):
        seconds = factory(job(size=8, route="memory"), Clock()).turn(2)
        assert seconds is not None
        assert seconds[""] > 0


def test_keras_io_net_is_the_examples() -> None:
    """Parameters as the example's documentation has them for ResNet-20 v1: 0.27 million."""
    model = keras_peers.keras_io_net(job(net="cifar_resnet20"))
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert len(convolutions) == 19 + 2  # two projections
    assert len(model.losses) == 21
    assert model.count_params() == 274_442


def test_peers_have_our_net() -> None:
    work = job(net="resnet50", size=64, classes=1000)
    applications = keras_peers.applications_net(work)
    spec = count_spec("resnet50", input_shape=(64, 64, 3))
    assert count(applications).multiply_adds == spec.multiply_adds
    pytest.importorskip("keras_hub", reason="KerasHub's net needs it")
    hub = count(keras_peers.hub_net(work))
    assert hub.parameters == spec.parameters
    v1_5 = count_spec("resnet50_v1_5", input_shape=(64, 64, 3))
    assert hub.multiply_adds == v1_5.multiply_adds


@pytest.mark.torch
@pytest.mark.parametrize("net", ["cifar_resnet20", "resnet50"])
def test_torch_nets_have_our_parameters(net: str) -> None:
    import torch

    from keras_resnet_train.benchmark.torch_nets import TorchResNet

    work = job(net=net)
    module = TorchResNet(work.depths, 10, cifar=work.cifar)
    spec = count_spec(net, classes=10, input_shape=(32, 32, 3))
    assert sum(weight.numel() for weight in module.parameters()) == spec.parameters
    assert module(torch.zeros((2, 3, 32, 32))).shape == (2, 10)


# The command.


@pytest.mark.multi_process
def test_bench(
    command: Command,
    stub: Callable[..., Contender],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything but the contenders themselves, which are stubs."""
    contenders = (
        stub("training loop", library=OURS),
        stub("fit", library="keras.io example"),
        stub("channels_last", library="PyTorch", needs=("surely_not_there",)),
    )
    work = Comparison("pipeline", "the work", contenders, 1, {"": "the work"})
    monkeypatch.setattr(comparison, "comparisons", lambda section, setting: [work])
    ended = command("bench", "pipeline", "--output", tmp_path / "out")
    assert (ended.status, ended.err) == (0, "")
    assert "  stub" not in ended.out
    assert "  round 5 of 5" in ended.out
    first, second, third = json.loads((tmp_path / "out/results.json").read_text())["tables"][
        "benchmark"
    ]
    assert (first["Contender"], first["Unit"]) == (f"{OURS}, training loop", "images/s")
    assert first["To best peer"] == pytest.approx(first["Median"] / second["Median"], rel=0.5)
    assert second["To best peer"] == 1.0
    assert (third["Median"], third["Range"]) == (None, "not installed: surely_not_there")
    assert "Not measured: PyTorch, channels_last (not installed: surely_not_there)." in ended.out
    assert (tmp_path / "out/the-work.svg").is_file()
    assert (tmp_path / "out/report.html").is_file()
    assert len((tmp_path / "out/turns.csv").read_text().splitlines()) == 1 + 2 * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("trian",), "Unknown section 'trian'. Nearest: train"),
        (("train", "counts"), "`bench counts` stands alone. Received: train counts"),
        (("--rounds", 4), "`--rounds` must be at least 5. Received: 4"),
        (("--threads", 0), "`--threads` must be at least 1. Received: 0"),
        (("--peers", "tortch"), "Unknown peer 'tortch'. Nearest: torch"),
        (("--limit", 0), "`--limit` must be above 0. Received: 0"),
        (("--depths", "20,56"), "`--depths` is no option of this part of bench"),
        (("depth", "--rounds", 5), "It belongs to the comparison"),
        (("depth", "--depths", "20,x"), "`--depths` takes numbers of layers"),
        (("depth", "--depths", "21"), "'cifar_resnet21' has no such depth"),
        (("depth", "--steps", 0), "`--steps` must be above 0"),
        (("counts", "--nets", "resnet51"), "Unknown net 'resnet51'. Nearest: resnet50"),
        (("counts", "--check", "none.json"), "none.json is not there. Record the counts first"),
        (("counts", "--check", "--record"), "--check or --record, one of the two"),
    ],
)
def test_bench_bad_options(
    options: tuple[Any, ...],
    message: str,
    command: Command,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = command("bench", *options)
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


# Depth.


def _costs(query: Any, limit: float, cache: pathlib.Path) -> dict[str, float]:
    depth = int(query.model.removeprefix("cifar_resnet"))
    if query.stacked:
        return {
            "build_seconds": 0.5,
            "first_step_seconds": 4.0,
            "step_seconds": depth / 1e3,
            "peak_bytes": 2e9,
            "training_bytes": 1e9,
        }
    if depth >= 56:
        return {"build_seconds": depth / 100, "stopped_after": limit}
    return {
        "build_seconds": depth / 100,
        "first_step_seconds": depth / 10,
        "step_seconds": depth / 1e3,
        "peak_bytes": 2e9,
        "training_bytes": 1e9,
    }


def test_bench_depth(
    command: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_cost, "measure_cost", _costs)
    ended = command(
        "bench", "depth", "--depths", "14,56,110", "--limit", 7, "--output", tmp_path / "out"
    )
    assert (ended.status, ended.err) == (0, "")
    assert "[2/3] cifar_resnet56, unrolled" in ended.out
    assert "cifar_resnet110, unrolled" not in ended.out  # 56 had been stopped
    results = json.loads((tmp_path / "out/results.json").read_text())
    rows = {(r["Layers"], r["Form"]): r for r in results["tables"]["depth-cost"]}
    assert len(rows) == 6
    assert rows["110", "stacked"]["Step a layer (ms)"] == pytest.approx(1.0)
    assert rows["110", "stacked"]["Trace (s)"] == pytest.approx(4.0 - 0.11)
    assert rows["56", "unrolled"]["Note"] == "stopped after 7 s"
    assert rows["56", "unrolled"]["Build (s)"] == 0.56
    assert rows["110", "unrolled"]["Note"] == "not tried: a shallower one was stopped"
    said = results["words"]
    assert (
        "Stacked, build: 1 times as much at 110 layers as at 14, which are 7.86 times as many: "
        "1.00 times whenever depth doubles."
    ) in said
    assert (
        "Unrolled, build: 4 times as much at 56 layers as at 14, which are 4 times as many: "
        "2.00 times whenever depth doubles."
    ) in said
    svg = (tmp_path / "out/first-step-seconds.svg").read_text()
    assert all(f">{label}<" in svg for label in ("14", "56", "110", "stacked", "unrolled"))


@pytest.mark.multi_process
def test_cost_of_a_stacked_net(tmp_path: pathlib.Path) -> None:
    query = depth_cost.CostQuery(
        "cifar_resnet14", {"widths": [4, 8, 8]}, batch_size=2, size=8, steps=1, stacked=True
    )
    cost = depth_cost.measure_cost(query, 120.0, tmp_path / "cost.json")
    assert 0 < cost["step_seconds"] < cost["first_step_seconds"]
    assert json.loads((tmp_path / "cost.json").read_text())["query"]["stacked"] is True


# Counts.


def test_bench_counts(
    command: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = {"stacked": counts.Counted("cifar_resnet14", stacked=True)}
    monkeypatch.setattr(counts, "NETS", nets)
    path = tmp_path / "counts.json"
    assert command("bench", "counts", "--record", path).status == 0
    recorded = json.loads(path.read_text())
    model = build("cifar_resnet14", stacked=True)
    assert recorded["nets"]["stacked"]["parameters"] == count(build("cifar_resnet14")).parameters
    assert recorded["nets"]["stacked"]["layers"] == len(model.layers)
    ended = command("bench", "counts", "--check", path)
    assert (ended.status, ended.err) == (0, "")
    assert f"As recorded in {path}" in ended.out
    now = recorded["nets"]["stacked"]["training_operations"]
    recorded["nets"]["stacked"]["training_operations"] -= 1
    path.write_text(json.dumps(recorded))
    ended = command("bench", "counts", "--check", path)
    assert ended.status == 1
    assert f"stacked: training_operations rose from {now - 1:,} to {now:,}" in ended.err
    assert "record it: keras-resnet bench counts --record" in ended.err


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nets whose counts are given."""
    nets = {name: counts.Counted(f"cifar_resnet{name}") for name in ("8", "14")}
    monkeypatch.setattr(counts, "NETS", nets)
    monkeypatch.setattr(counts, "count_net", lambda net: {"layers": len(net.net)})


@pytest.mark.usefixtures("small")
def test_recording_one_net_leaves_the_others(command: Command, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "counts.json"
    assert command("bench", "counts", "--record", path, "--nets", "8").status == 0
    assert json.loads(path.read_text())["nets"] == {"8": {"layers": 13}}
    ended = command("bench", "counts", "--check", path)
    assert ended.status == 1
    assert "14: nothing is recorded of it" in ended.err
    assert command("bench", "counts", "--record", path, "--nets", "14").status == 0
    assert json.loads(path.read_text())["nets"].keys() == {"8", "14"}
    assert command("bench", "counts", "--check", path).status == 0


@pytest.mark.usefixtures("small")
def test_other_versions_are_named(command: Command, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "counts.json"
    versions = {"keras": "1.0", "tensorflow": "1.0"}
    path.write_text(json.dumps({"versions": versions, "nets": {}}))
    ended = command("bench", "counts", "--check", path, "--nets", "8")
    assert ended.status == 1
    assert "8: nothing is recorded of it" in ended.err
    assert "Other versions were recorded with: keras 1.0 then" in ended.err
    path.write_text("[]")
    ended = command("bench", "counts", "--check", path, "--nets", "8")
    assert "holds no recorded counts" in ended.err


def test_counts_of_files() -> None:
    found = counts.count_net(counts.Counted("mlperf_tiny_resnet8", files=True))
    assert found["float32"]["operators"]["CONV_2D"] == 9
    assert found["float32"]["bytes"] > 4 * found["parameters"]
    assert found["int8"]["bytes"] < 0.5 * found["float32"]["bytes"]


def test_what_differs_from_recorded_counts() -> None:
    file = {"bytes": 1000, "operators": {"ADD": 3}}
    recorded = {"net": {"layers": 10, "parameters": 5, "int8": file}}
    file = {"bytes": 1010, "operators": {"ADD": 3, "PAD": 1}}
    found = {"net": {"layers": 9, "parameters": 4, "int8": file}}
    assert counts.compare(recorded, recorded) == []
    assert counts.compare(recorded, found) == [
        "net: int8.operators.PAD rose from 0 to 1",
        "net: layers fell from 10 to 9",
        "net: parameters changed from 5 to 4",
    ]
    file["bytes"] = 1011
    assert "net: int8.bytes rose from 1,000 to 1,011" in counts.compare(recorded, found)
    assert counts.compare({}, {"net": {}}) == ["net: nothing is recorded of it"]


def test_recorded_counts_are_those_of_the_pinned_versions() -> None:
    recorded = json.loads((ROOT / "benchmarks/counts.json").read_text())
    assert recorded["nets"].keys() == counts.NETS.keys()
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert recorded["versions"] == {name: pins[name] for name in ("keras", "tensorflow")}
