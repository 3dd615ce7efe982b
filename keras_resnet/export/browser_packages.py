"""LiteRT.js and ONNX Runtime Web on this machine: fetched once by npm, checked, kept in a cache."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from keras_resnet.weights.files.file_system import replace

_SECONDS = 600


class BrowserPackageError(ValueError):
    """A package for the browser is not on this machine and could not be fetched."""


@dataclasses.dataclass(frozen=True)
class BrowserPackage:
    """A package of the npm registry, in one version.

    Attributes:
        name: Its name.
        version: The version that was tested.
        sha512: SHA-512 of its archive, as npm states it in lock files (base64).
        files: The files that pages load, by their name in the archive below `package/`.
    """

    name: str
    version: str
    sha512: str
    files: tuple[str, ...]


_VARIANTS = ("", "_compat", "_threaded")
LITERTJS = BrowserPackage(
    "@litertjs/core",
    "2.5.3",
    "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    (
        "package.json",
        "dist/index.js",
        *(f"wasm/litert_wasm{each}_internal.{end}" for each in _VARIANTS for end in ("js", "wasm")),
    ),
)
WASM_UTILS = BrowserPackage(
    "@litertjs/wasm-utils",
    "2.5.3",
    "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
    ("package.json", "dist/index.js"),
)
ONNXRUNTIME_WEB = BrowserPackage(
    "onnxruntime-web",
    "1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    ("package.json", "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
)
# The import map of pages that use LiteRT.js, whose files `write_litertjs` writes.
IMPORTS = {
    "@litertjs/core": "./litertjs/core/dist/index.js",
    "@litertjs/wasm-utils": "./litertjs/wasm-utils/dist/index.js",
}


def package_folder(
    package: BrowserPackage, given: str | os.PathLike[str] | None = None, *, fetch: bool = True
) -> Path:
    """Returns the folder of a package, fetched by npm where it is not in the cache.

    The cache is `models/keras_resnet/npm` in `$KERAS_HOME` or `~/.keras`. The archive is checked
    against the package's SHA-512 before it is unpacked.

    Args:
        package: The package.
        given: A `node_modules` folder, or one that holds it, to use in place of the cache.
        fetch: Whether npm may be run.

    Raises:
        BrowserPackageError: If the package is not there and cannot be fetched, or differs.
    """
    if given is not None:
        return _given_folder(package, Path(given))
    folder = _cache() / f"{package.name.replace('/', '+').lstrip('@')}-{package.version}"
    if all((folder / name).is_file() for name in package.files):
        return folder
    wanted = f"{package.name}@{package.version}"
    if not fetch:
        raise BrowserPackageError(f"{wanted} is not in {str(folder.parent)!r}")
    npm = shutil.which("npm")
    if npm is None:
        raise BrowserPackageError(
            f"{wanted} is not on this machine, and npm, which fetches it once, is not installed: "
            "install Node.js, or give a node_modules folder that holds the package"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".npm.tmp", dir=folder.parent))
    try:
        _unpack(_pack(npm, wanted, staging), package, staging / "package")
        if folder.exists():
            replace(folder, staging / "incomplete")
        replace(staging / "package", folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def write_litertjs(folder: Path, given: str | os.PathLike[str] | None = None) -> None:
    """Writes the files of LiteRT.js that a page loads into `folder / "litertjs"`.

    Raises:
        BrowserPackageError: As `package_folder`.
    """
    for package in (LITERTJS, WASM_UTILS):
        source = package_folder(package, given)
        for name in package.files:
            target = folder / "litertjs" / package.name.rpartition("/")[2] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)


def _cache() -> Path:
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return Path(home, "models", "keras_resnet", "npm")


def _given_folder(package: BrowserPackage, given: Path) -> Path:
    for folder in (given / package.name, given / "node_modules" / package.name):
        if not (folder / "package.json").is_file():
            continue
        missing = [name for name in package.files if not (folder / name).is_file()]
        version = json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"]
        if missing or version != package.version:
            raise BrowserPackageError(
                f"{str(folder)!r} is {package.name} {version}"
                f"{f' without {missing[0]}' if missing else ''}; {package.version} is needed: "
                f"npm install {package.name}@{package.version}"
            )
        return folder
    raise BrowserPackageError(
        f"{str(given)!r} has no {package.name}: give a node_modules folder, made by "
        f"npm install {package.name}@{package.version}"
    )


def _pack(npm: str, wanted: str, folder: Path) -> Path:
    """Has npm write a package's archive into a folder."""
    command = [npm, "pack", wanted, "--pack-destination", str(folder), "--silent"]
    try:
        result = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise BrowserPackageError(f"npm did not fetch {wanted} in {_SECONDS} s") from None
    archives = list(folder.glob("*.tgz"))
    if result.returncode or len(archives) != 1:
        said = result.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"exit status {result.returncode}"
        raise BrowserPackageError(
            f"npm could not fetch {wanted} ({reason}). Where there is no network, give a "
            "node_modules folder that holds it"
        )
    return archives[0]


def _unpack(archive: Path, package: BrowserPackage, folder: Path) -> None:
    """Unpacks a package's files after a check of the archive's hash."""
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise BrowserPackageError(
            f"{package.name}@{package.version} has SHA-512 {found}, not {package.sha512}"
        )
    with tarfile.open(archive, "r:gz") as tar:
        for name in package.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(f"package/{name}")
            if source is None:
                raise BrowserPackageError(f"{package.name} has no file {name}")
            with source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
