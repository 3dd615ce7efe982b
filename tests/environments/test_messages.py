"""What a person reads whose environment lacks something: one line that helps."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types

import keras
import pytest

from keras_resnet import _environment

BACKEND = keras.backend.backend()


def hide(monkeypatch: pytest.MonkeyPatch, *missing: str, installed: str = "") -> None:
    """Makes `import keras` fail for a missing backend, as in an environment without it."""

    class Finder:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "keras":
                raise ModuleNotFoundError(f"No module named {missing[0]!r}", name=missing[0])

    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == installed or None)


def test_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tensorflow")
    with pytest.raises(
        ModuleNotFoundError,
        match="needs a backend, and tensorflow is not installed"
        ": `pip install tensorflow`, or `pip install jax`",
    ) as raised:
        _environment.check()
    assert raised.value.name == "tensorflow"


def test_another_backend_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tensorflow", installed="torch")
    with pytest.raises(ModuleNotFoundError, match="set KERAS_BACKEND=torch, which is installed"):
        _environment.check()


def test_no_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "keras")
    with pytest.raises(ModuleNotFoundError, match="needs Keras 3, .* `pip install keras`"):
        _environment.check()


@pytest.mark.parametrize("version", ["2.15.0", "3.7.0"])
def test_old_keras(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(__version__=version))
    with pytest.raises(ImportError, match=f"Keras 3.8 or later: .*--upgrade.*Keras {version}"):
        _environment.check()


def test_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_environment.sys, "version_info", (3, 10, 13))
    with pytest.raises(ImportError, match="needs Python 3.11 or later. Received: Python 3.10"):
        _environment.check()


@pytest.mark.parametrize("value", ["1", "True"])
def test_keras_2_as_tf_keras(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    with pytest.warns(UserWarning, match="`tf.keras` is Keras 2.*Use `import keras`, or unset it"):
        _environment.check()
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    _environment.check()


@pytest.mark.multi_process
def test_list_and_info_need_no_tensorflow() -> None:
    """They run on any backend, and where there is none they say how to get one."""
    code = (
        "import importlib.util, sys\n"
        "hidden = {'tensorflow', *sys.argv[2].split(',')}\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in hidden:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *_: None if name in hidden else found(name)\n"
        "from keras_resnet_train.cli import main\n"
        "sys.exit(main([*sys.argv[1].split(), 'cifar_resnet20']))\n"
    )

    def output(command: str, *hidden: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", code, command, ",".join(hidden)],
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"},
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    other = next((name for name in ("jax", "torch") if importlib.util.find_spec(name)), None)
    if other:
        assert output("list") == (0, "cifar_resnet20\n")
        assert "269,722 trainable" in output("info")[1]
    status, text = output("info", "jax", "torch")
    assert (status, text.count("\n")) == (1, 1)
    assert text.startswith("Error: Keras needs a backend, and tensorflow is not installed: `pip")
