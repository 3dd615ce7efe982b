"""Addresses of directories in object stores, such as `s3://bucket/runs/flowers`."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple


class Scheme(NamedTuple):
    """A kind of store.

    Attributes:
        extra: The extra of this package that installs its driver; "" where none is needed.
        module: The module of the driver, for `find_spec`.
        credentials: How a user gives credentials.
    """

    extra: str
    module: str
    credentials: str


SCHEMES = {
    "s3": Scheme(
        "s3",
        "s3fs",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials; for another server "
        "than Amazon's, AWS_ENDPOINT_URL",
    ),
    "gs": Scheme(
        "gcs",
        "gcsfs",
        "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS",
    ),
    "hf": Scheme("hub", "huggingface_hub", "`hf auth login`, or HF_TOKEN"),
    "file": Scheme("", "fsspec", "the permissions of the folder"),
    "memory": Scheme("", "fsspec", "none"),
}

# A path has one slash where the address had two.
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):[/\\]+(.*)", re.DOTALL)


def remote_url(value: object) -> str | None:
    """Returns the address that a text or a path stands for; None for a local path.

    `hf://owner/repository` names published weights; only `hf://buckets/...` is a place for files.

    Example:
        >>> remote_url(Path("s3://bucket/run"))
        's3://bucket/run'
    """
    if not isinstance(value, str | Path):
        return None
    match = _ADDRESS.fullmatch(str(value))
    if match is None:
        return None
    scheme, rest = match.group(1), match.group(2).replace("\\", "/")
    if scheme == "hf" and not rest.startswith("buckets/"):
        return None
    lead = "/" if scheme == "file" else ""
    return f"{scheme}://{lead}{rest.strip('/')}"


def home_folder() -> Path:
    """Returns the folder of what is kept between runs: `$KERAS_HOME/keras_resnet`."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return Path(home) / "keras_resnet"


def copy_path(kind: str, url: str) -> Path:
    """Returns where the copy of a place is kept, in a folder of its own, under its own last name.

    Example:
        >>> copy_path("read", "s3://bucket/runs/flowers").name
        'flowers'
    """
    name, _, digest = short_name(url).rpartition("-")
    return home_folder() / kind / digest / name


def short_name(url: str) -> str:
    """Returns a name for a folder that holds a copy: the last part of the address, and a hash."""
    last = re.sub(r"[^A-Za-z0-9._-]", "_", url.rsplit("/", 1)[-1])[:40] or "root"
    return f"{last}-{hashlib.sha256(url.encode()).hexdigest()[:10]}"
