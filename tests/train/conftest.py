"""A tiny run, small enough to train within a test and shared where no test changes it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import pathlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

from keras_resnet.nets.precision import dtype_policy
from keras_resnet_train import preparation, session
from keras_resnet_train.cli import main
from keras_resnet_train.config import RunConfig
from keras_resnet_train.console import Console
from keras_resnet_train.data import array_record_files, resolve_data
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.remote import store
from keras_resnet_train.rundir import RunDirectory, spec_of
from keras_resnet_train.session import run_training
from keras_resnet_train.strategies import make_strategy
from keras_resnet_train.trainer import Trainer

# 8 layers of 4 and 8 filters on digits of 8 x 8 pixels: what takes time is tracing the graph.
TINY = {
    "data.dataset": "digits",
    "data.image_size": 8,
    "model.spec.widths": [4, 8, 8],
    "batch_size": 64,
    "steps": 40,
    "augment.pad": 1,
    "schedule.learning_rate": 0.2,
    "schedule.warmup_epochs": 0,
}


def tiny_config(**changes: Any) -> RunConfig:
    """The tiny run's configuration, `__` standing for the dots of changed fields."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return get_recipe("digits").configure("cifar_resnet8", {**TINY, **dotted})


@pytest.fixture(scope="session")
def tiny() -> Callable[..., RunConfig]:
    """Makes tiny configurations: `tiny(steps=3, optimizer__ema=0.5)`."""
    return tiny_config


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished tiny run, for reading only; `copied_run` is for changing."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    run_training(tiny_config(), path)
    return path


@pytest.fixture(scope="session")
def prepare_tfds() -> Callable[..., None]:
    """Writes a data set of TFDS with two record files for each split, as TFDS itself would."""
    return write_tfds


def write_tfds(
    root: pathlib.Path,
    name: str,
    suffix: str,
    images: Sequence[bytes],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    splits: Sequence[str] = ("train",),
    channels: int = 3,
) -> None:
    """Writes encoded images as version 1.0.0; `suffix` is `tfrecord` or `array_record`."""
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, channels), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=class_names),
        }
    )
    path = root / name / "1.0.0"
    path.mkdir(parents=True)
    records = [
        features.serialize_example(
            features.encode_example({"image": io.BytesIO(image), "label": label})
        )
        for image, label in zip(images, labels, strict=True)
    ]
    halves = records[: len(records) // 2], records[len(records) // 2 :]
    infos = []
    for split in splits:
        for number, half in enumerate(halves):
            file = str(path / f"{name}-{split}.{suffix}-{number:05d}-of-00002")
            if suffix == "tfrecord":
                import tensorflow as tf

                writer: Any = tf.io.TFRecordWriter(file)
            else:
                module = array_record_files.array_record_module("this test")
                writer = module.ArrayRecordWriter(file, "group_size:1")
            for record in half:
                writer.write(record)
            writer.close()
        template = tfds.core.ShardedFileTemplate(
            data_dir=path,
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            dataset_name=name,
            split=split,
            filetype_suffix=suffix,
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(half) for half in halves],
                num_bytes=sum(map(len, records)),
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(path), features=features, split_infos=infos, check_data=False
    )


@pytest.fixture(scope="module")
def without_pictures(finished_run: pathlib.Path) -> Iterator[None]:
    """Trains the runs of a file without what their reports show, a quarter of a tiny run's time.

    `finished_run`, which is made before, has its pictures.
    """

    def blank(config: RunConfig, data: Any, preprocess: Any, count: int = 16) -> Any:
        shape = (count, *preprocess.size, data.channels)
        return np.zeros(shape, "uint8"), np.zeros(count, "int64")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "augmented_examples", blank)
        patch.setattr(session, "pick_samples", lambda *_: {})
        yield


@pytest.fixture
def copied_run(finished_run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished tiny run of the test's own."""
    return pathlib.Path(shutil.copytree(finished_run, tmp_path / "run"))


class PowerCutError(Exception):
    """Whatever ends a process."""


class CutAt(keras.callbacks.Callback):
    """Ends the run after the call of the graph that reaches a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch + 1 >= self.step:
            raise PowerCutError


@pytest.fixture(scope="session")
def train_until() -> Callable[..., None]:
    """Runs a training that ends as if killed: `train_until(14, config, path)`."""

    def run(step: int, config: RunConfig, path: pathlib.Path) -> None:
        with pytest.raises(PowerCutError):
            run_training(config, path, callbacks=[CutAt(step)])

    return run


@pytest.fixture(scope="session")
def train_model() -> Callable[[RunConfig], tuple[keras.Model, np.ndarray]]:
    """Trains the steps of a run, without its files and evaluations.

    Returns the model, with averaged weights where the run averages, and the loss and accuracy of
    each step.
    """

    def train(config: RunConfig) -> tuple[keras.Model, np.ndarray]:
        data, preprocess = resolve_data(config, spec_of(config))
        strategy = make_strategy(config.runtime.strategy)
        unused = RunDirectory(pathlib.Path("/none"))
        with dtype_policy(config.runtime.precision):
            trainer = Trainer(config, data, preprocess, unused, strategy, Console(quiet=True))
        metrics = trainer.train_steps(iter(trainer.batches()), trainer.length.steps)
        trainer.statistics.assign_means()
        if trainer.learner.averages is not None:
            trainer.learner.averages.assign(trainer.model)
        return trainer.model, metrics

    return train


class S3Server:
    """An S3 server of this machine (moto) that counts requests, and fails when it is told to.

    Attributes:
        fault: How it fails: `500`, `503`, `403`, `expired`, `reset`, or "" to work.
        only: Requests that fail: those with this method, or with this text in their path.
        requests: Method and path of each request so far.
        sent: Bytes of all answers so far.
    """

    _ERRORS: ClassVar = {
        "500": ("500 Internal Server Error", "InternalError"),
        "503": ("503 Slow Down", "SlowDown"),
        "403": ("403 Forbidden", "AccessDenied"),
        "expired": ("400 Bad Request", "ExpiredToken"),
    }

    def __init__(self) -> None:
        from moto.server import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.fault, self.only, self.sent = "", "", 0
        self.requests: list[tuple[str, str]] = []
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops the server."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        if self.fault and (not self.only or self.only == method or self.only in path):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if self.fault == "reset":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionResetError
            status, code = self._ERRORS[self.fault]
            body = f"<Error><Code>{code}</Code><Message>{code} says moto</Message></Error>".encode()
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            start(status, headers)
            return [b"" if method == "HEAD" else body]
        answer = [bytes(part) for part in self._moto(environ, start)]
        self.sent += sum(map(len, answer))
        return answer


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A local S3 server."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def make_bucket(s3_server: S3Server) -> Callable[[str], contextlib.AbstractContextManager[str]]:
    """Makes an empty bucket, with the credentials for it in the environment."""
    boto3 = pytest.importorskip("boto3")

    @contextlib.contextmanager
    def make(name: str) -> Iterator[str]:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in (
                ("AWS_ENDPOINT_URL", s3_server.url),
                ("AWS_ACCESS_KEY_ID", "key"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ):
                patch.setenv(variable, value)
            # Without the driver's own attempts, between which it sleeps.
            patch.setattr(store, "_S3_ATTEMPTS", 1)
            once = {"retries": {"total_max_attempts": 1}}
            patch.setitem(store._S3_OPTIONS, "config_kwargs", once)
            s3_server.fault = s3_server.only = ""
            client = boto3.client("s3")
            client.create_bucket(Bucket=name)
            for each in client.list_objects_v2(Bucket=name).get("Contents", ()):
                client.delete_object(Bucket=name, Key=each["Key"])
            yield f"s3://{name}"

    return make


@pytest.fixture
def bucket(make_bucket: Callable[[str], contextlib.AbstractContextManager[str]]) -> Iterator[str]:
    """An empty bucket of the local S3 server."""
    with make_bucket("runs") as place:
        yield place


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs a command line in this process: `command("info", "resnet50")`."""

    def run(*words: object) -> Ended:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Ended(status, *capsys.readouterr())

    return run
