"""Damaged files through every public way in: none may crash, hang, or take much memory.

`python -m benchmarks flips` damages sound files, opens each of them, and counts how that ended. A
process of its own opens them, so that a crash or an endless loop ends that process only.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import io
import itertools
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .damaged_files import KINDS, Sound, ways_of

SECONDS, FREE = 10.0, 500 << 20
"""What opening a file may take: seconds of the processor, and bytes beside twice its size."""
_START_SECONDS = 600.0
_WAIT_SECONDS = 120.0  # on a machine that others use too
# Reservations of address space by threads are not memory that is used.
_ADDRESSES = 6 << 30
FINE = ("answer", "refused")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a damaged file was met.

    Attributes:
        kind: The kind of file.
        way: The way in.
        index: Number of the damaged file.
        how: `answer`, `refused` (ValueError or OSError), the name of another exception, `crash`,
            `hang`, `slow` or `memory`.
        text: The error.
        seconds: Time of the processor that it took.
        bytes: Memory it took at most, beside what the process had before.
    """

    kind: str
    way: str
    index: int
    how: str
    text: str = ""
    seconds: float = 0.0
    bytes: int = 0


def damaged(content: bytes, index: int) -> bytes:
    """Returns a file with one to eight bytes changed, a third of them near its ends.

    Args:
        content: The sound file.
        index: Number of the damaged file; the same number gives the same file.
    """
    rng = random.Random(index)
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        near = min(len(changed), 1024)
        place = rng.choice(
            (rng.randrange(len(changed)), rng.randrange(near), -1 - rng.randrange(near))
        )
        changed[place] ^= rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
    return bytes(changed)


def measure(kinds: Sequence[str], files: int, every_way: bool = False) -> Iterator[Ended]:
    """Damages files of each kind and yields how each was met.

    Args:
        kinds: Names of `KINDS`.
        files: Damaged files of each kind.
        every_way: Whether each file is opened in each way; otherwise the ways take turns.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.damaged_files", folder]
        subprocess.run(command, check=True, env=_environment(Path(folder)))
        for kind in kinds:
            yield from _of_kind(Path(folder), kind, files, every_way)


def _cases(kind: str, files: int, every_way: bool) -> list[tuple[int, str]]:
    ways = ways_of(kind)
    if every_way:
        return [(index, way) for index in range(files) for way in ways]
    return [(index, ways[index % len(ways)]) for index in range(files)]


def _of_kind(folder: Path, kind: str, files: int, every_way: bool) -> Iterator[Ended]:
    waiting = collections.deque(_cases(kind, files, every_way))
    sound = Sound(folder, kind)
    while waiting:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.flips", str(folder), kind, json.dumps([*waiting])],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(folder),
        )
        try:
            said = _line(process, _START_SECONDS)
            if not said:
                yield Ended(kind, "", 0, "not answered", "the sound file: no word")
                return
            for way, text in json.loads(said).items():
                yield Ended(kind, way, 0, "not answered", f"the sound file: {text}")
                waiting = collections.deque(case for case in waiting if case[1] != way)
            while waiting:
                index, way = waiting.popleft()
                line = _line(process, _WAIT_SECONDS)
                if line is None or not line:
                    yield Ended(kind, way, index, "hang" if line is None else "crash")
                    break
                yield Ended(kind, way, index, **json.loads(line))
        finally:
            process.kill()
            process.communicate()
            sound.write(sound.content)  # other kinds read it


def _line(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """Returns the next line of a process; "" after its end, None if none comes in time."""
    assert process.stdout is not None
    found, end = b"", time.monotonic() + seconds
    while not found.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return None
        part = os.read(process.stdout.fileno(), 1)
        if not part:
            return ""
        found += part
    return found.decode().strip()


def _environment(folder: Path) -> dict[str, str]:
    own = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    return {**os.environ, **own, "KERAS_HOME": str(folder / "cache")}


def _work(folder: Path, kind: str, cases: Sequence[tuple[int, str]]) -> None:
    """Opens damaged files, and writes a line of JSON on each."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sound = Sound(folder, kind)
    refused = {}
    for way in dict.fromkeys(way for _, way in cases):
        open_one(sound, way, sound.content)  # imports and traces
        first = open_one(sound, way, sound.content)
        if first["how"] != "answer":
            refused[way] = str(first)
    out.write(json.dumps(refused) + "\n")
    for index, way in cases:
        if way in refused:
            continue
        out.write(json.dumps(open_one(sound, way, damaged(sound.content, index))) + "\n")


def open_one(sound: Sound, way: str, content: bytes) -> dict[str, Any]:
    """Opens a file in one way, and returns the fields of `Ended`."""
    sound.write(content)
    before = _memory("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    start, text = time.process_time(), ""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + _ADDRESSES, limits[1]))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            how = "answer" if sound.open(way) else "refused"
    except (ValueError, OSError) as error:
        how, text = "refused", str(error)
    except BaseException as error:
        how, text = type(error).__name__, str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    seconds, taken = time.process_time() - start, max(0, _memory("VmHWM") - before)
    if how in FINE and seconds > SECONDS:
        how = "slow"
    if how in FINE and taken > 2 * len(content) + FREE:
        how = "memory"
    return {"how": how, "text": text[:300], "seconds": round(seconds, 3), "bytes": taken}


def _memory(name: str) -> int:
    """Returns a figure of Linux on this process in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))


def table(ended: Sequence[Ended]) -> list[dict[str, Any]]:
    """Returns a row for each kind and way: how often it ended how, and the largest costs."""
    groups: dict[tuple[str, str], list[Ended]] = {}
    for each in ended:
        groups.setdefault((each.kind, each.way), []).append(each)
    return [
        {
            "kind": kind,
            "way": way,
            "files": len(group),
            "refused": sum(each.how == "refused" for each in group),
            "answered": sum(each.how == "answer" for each in group),
            "faults": sum(each.how not in FINE for each in group),
            "seconds_at_most": max(each.seconds for each in group),
            "mb_at_most": round(max(each.bytes for each in group) / 1e6),
        }
        for (kind, way), group in groups.items()
    ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def run(kinds: Sequence[str], files: int, every_way: bool, output: Path | None) -> int:
    """Measures, prints each fault and the table; returns 1 if there was a fault."""
    found: list[Ended] = []
    rows: list[dict[str, Any]] = []
    for kind, group in itertools.groupby(
        measure(kinds or list(KINDS), files, every_way), key=lambda each: each.kind
    ):
        for each in group:
            found.append(each)
            if each.how not in FINE:
                print(f"FAULT {each}", flush=True)
        rows = table(found)
        for row in rows:
            if row["kind"] == kind:
                print(*(str(value) for value in row.values()), sep="\t", flush=True)
        if output is not None:
            write(output, rows)
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    _work(Path(sys.argv[1]), sys.argv[2], [tuple(case) for case in json.loads(sys.argv[3])])
