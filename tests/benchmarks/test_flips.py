"""A sample of `benchmarks.flips`: damaged weights are refused or answered, within bounds."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.damaged_files import save_keras_2, save_torch_legacy, save_torch_zip
from benchmarks.flips import FINE, Ended, damaged, open_one, table
from keras_resnet.weights.files.tensor_file import read

pytestmark = pytest.mark.skipif(
    not pathlib.Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux states it"
)
TENSORS = {
    "conv1.weight": np.arange(12, dtype="float32").reshape(2, 6),
    "fc.bias": np.ones(3, "float32"),
}


class File:
    """A file that `read` opens."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.content = path, path.read_bytes()

    def write(self, content: bytes) -> None:
        self.path.write_bytes(content)

    def open(self, way: str) -> bool:
        if way == "fails":
            raise KeyError("x")
        return bool(read(self.path).tensors)


@pytest.mark.parametrize("save", [save_torch_zip, save_torch_legacy, save_keras_2])
def test_damaged_weights(save: Callable[..., None], tmp_path: pathlib.Path) -> None:
    save(tmp_path / "net", TENSORS)
    for name, array in read(tmp_path / "net").tensors.items():
        assert save is save_keras_2 or np.array_equal(array, TENSORS[name])
    file, met = File(tmp_path / "net"), []
    assert open_one(file, "read", file.content)["how"] == "answer"
    for index in range(60):
        content = damaged(file.content, index)
        assert len(content) == len(file.content)
        met.append(open_one(file, "read", content))
    assert {each["how"] for each in met} == set(FINE), met
    assert open_one(file, "fails", file.content)["how"] == "KeyError"


def test_the_table() -> None:
    ended = [Ended("pth", "load", 0, "answer", seconds=1.0), Ended("pth", "load", 1, "hang")]
    (row,) = table(ended)
    assert (row["files"], row["answered"], row["refused"], row["faults"]) == (2, 1, 0, 1)
    assert row["seconds_at_most"] == 1.0
    assert damaged(b"abcdef", 3) == damaged(b"abcdef", 3) != b"abcdef"
