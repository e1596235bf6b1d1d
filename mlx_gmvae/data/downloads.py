"""Files of published datasets: found in the data folder or downloaded, and always verified."""

import hashlib
import os
import platform
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..system.files import commit, remove_stale, temporary
from ..system.progress_bar import progress
from .idx import gunzip, read_raw

MIRROR_VARIABLE = "MLX_GMVAE_MIRROR"


class Content(NamedTuple):
    """Contents of a published dataset: images and labels, if any, and a test split, if any."""

    train: tuple[np.ndarray, np.ndarray | None]
    test: tuple[np.ndarray, np.ndarray | None] | None = None
    class_names: tuple[str, ...] = ()


class Published(NamedTuple):
    """Mirrors of one dataset, the SHA-256 of each file, and the function that reads the files.

    The mirrors serve each file under its name and `suffix`. `digest_of` says whether the digests
    are of the decompressed file ("content") or of the file as it is served ("archive").
    """

    mirrors: tuple[str, ...]
    digests: dict[str, str]
    read: "Callable[[Downloads], Content]"
    digest_of: str = "content"
    suffix: str = ""

    @property
    def wanted(self) -> str:
        """Return the names of the files to download by hand, for messages."""
        names = [name + self.suffix for name in self.digests]
        return names[0] if len(names) == 1 else f"its four files ({names[0]}, ...)"


def expanded(path: str | Path) -> Path:
    """Return a path with ~ expanded. Raises InputError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"cannot find {path}: {error}") from None


class Downloads:
    """Files of the dataset `name`, in `data_dir/name` or directly in `data_dir`."""

    def __init__(self, name: str, published: Published, data_dir: Path):
        self.name = name
        self.published = published
        self.own_folder = data_dir / name
        self.places = (self.own_folder, data_dir)

    def folder(self, name: str) -> Path | None:
        """Return the folder of that name, such as an extracted archive, or None."""
        return next((place / name for place in self.places if (place / name).is_dir()), None)

    def content(self, file_name: str) -> tuple[str, bytes]:
        """Return the path of a file, with or without its suffix, and its decompressed content.

        Raises DownloadError if the file is absent and cannot be downloaded, InputError if the file
        on disk is not the published one.
        """
        served = file_name + self.published.suffix
        for folder in self.places:
            for path in {folder / file_name: 0, folder / served: 0}:
                if not path.is_file() or not (folder == self.own_folder or self._is_known(path)):
                    continue
                try:
                    return str(path), self._verified(file_name, path)
                except InputError:
                    # Fashion-MNIST and KMNIST use MNIST's file names: a file in `data_dir` itself
                    # may belong to another of these datasets.
                    if folder == self.own_folder:
                        raise
        return self._downloaded(file_name, self.own_folder / served)

    def _is_known(self, path: Path) -> bool:
        """Return whether there is a digest for `path`; some datasets have one for archives only."""
        return self.published.digest_of != "archive" or path.name.endswith(self.published.suffix)

    def _downloaded(self, file_name: str, path: Path) -> tuple[str, bytes]:
        own_mirror = os.environ.get(MIRROR_VARIABLE)
        bases = [own_mirror.rstrip("/") + "/"] if own_mirror else self.published.mirrors

        def check(written: Path) -> None:  # do not accept a network's login page as data
            try:
                self._verified(file_name, path, written)
            except InputError:
                raise ValueError("the downloaded file is not the published one") from None

        try:
            fetch([base + path.name for base in bases], path, check)
        except OSError as error:
            raise InputError(f"cannot write to {path.parent}: {error.strerror}") from None
        return str(path), self._verified(file_name, path)

    def _verified(self, file_name: str, path: Path, written: Path | None = None) -> bytes:
        """Return the verified content of `path`, or of `written`, which is to replace it."""
        raw = read_raw(written or path)
        content = raw if path.name == file_name else gunzip(raw, path)
        is_of_archive = self.published.digest_of == "archive"
        if is_of_archive and path.name != file_name + self.published.suffix:
            return content  # only the archive's digest is known; parsing checks the structure
        if sha256(raw if is_of_archive else content) != self.published.digests[file_name]:
            raise InputError(
                f"{path} is not the published {self.name} file (wrong SHA-256); delete it to "
                "download it again, or name its folder as --dataset to use it as your own data"
            )
        return content


TIMEOUT_SECONDS = 20  # without receiving a byte
PATIENCE_SECONDS, SLOWEST = 60, 1000  # give up after these seconds below these bytes per second
ROUNDS = 2  # over the mirrors; the second retries temporary failures
CHUNK_BYTES = 1 << 16


class DownloadError(InputError):
    """No mirror could be reached, or none served the right file."""


def fetch(
    mirrors: Sequence[str],
    path: Path,
    check: Callable[[Path], None] = lambda written: None,
    largest_bytes: int = 1 << 28,
) -> None:
    """Download a file to `path` from the first of `mirrors` (complete URLs) that serves it.

    `check` is called with the downloaded file and raises ValueError if it is the wrong one. Only
    then is it moved to `path`, so `path` is correct or absent. Raises DownloadError with the
    reason of the last failure, and OSError if nothing can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent)
    reason, left = "no mirror is known", list(mirrors)
    with temporary(path) as written:
        for _ in range(ROUNDS):
            for address in list(left):
                try:
                    _fetch_one(address, written, path.name, largest_bytes)
                    check(written)
                except (OSError, HTTPException, ValueError) as error:
                    reason = _reason(error)
                    if not _may_pass(error):
                        left.remove(address)
                else:
                    commit(written, path)
                    return
    raise DownloadError(f"cannot download {path.name} ({reason})")


def _may_pass(error: Exception) -> bool:
    """Return whether a retry may succeed: the server was reached, but the transfer failed."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500
    return isinstance(error, (ConnectionError, HTTPException, _Broken))


class _Broken(ValueError):
    """The connection ended before the file did."""


def _reason(error: Exception) -> str:
    """Return why a download failed, with a remedy if Python has no root certificates."""
    cause = getattr(error, "reason", error)  # urllib wraps the errors of the connection
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return str(cause)
    # Python from python.org has a script that installs them, which must be run once.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    script = f'open "/Applications/Python {version}/Install Certificates.command"'
    other = "install ca-certificates, or set SSL_CERT_FILE to a file of root certificates"
    remedy = f"run: {script}" if platform.system() == "Darwin" else other
    return f"the server's certificate cannot be verified, {cause.verify_message}; {remedy}"


def _fetch_one(address: str, path: Path, name: str, largest_bytes: int) -> None:
    """Download to `path`, replacing its content; `name` is for the progress bar."""
    started = time.monotonic()
    request = urllib.request.Request(address, headers={"User-Agent": "mlx_gmvae"})
    with (
        path.open("wb") as file,
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,
    ):
        announced = int(answer.headers.get("Content-Length") or 0)
        received = 0
        with progress(total=announced or None, unit="B", unit_scale=True, desc=name) as bar:
            while chunk := answer.read1(CHUNK_BYTES):  # returns what has arrived
                received += len(chunk)
                if received > largest_bytes:
                    raise ValueError("the download is far larger than the file should be")
                seconds = time.monotonic() - started
                if seconds > PATIENCE_SECONDS and received < SLOWEST * seconds:
                    raise ValueError(f"only {received} bytes arrived in {seconds:.0f} seconds")
                file.write(chunk)
                bar.update(len(chunk))
        if announced and received != announced:
            raise _Broken(f"the connection broke after {received} of {announced} bytes")


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()
