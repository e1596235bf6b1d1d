"""Files of a published set: found in the data folder or downloaded into it, always verified."""

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
    """What a published set holds: images and labels, if it has any; a test split, if it has one."""

    train: tuple[np.ndarray, np.ndarray | None]
    test: tuple[np.ndarray, np.ndarray | None] | None = None
    class_names: tuple[str, ...] = ()


class Published(NamedTuple):
    """Mirrors of one set, the SHA-256 of each file, and what makes a `Content` of them.

    The mirrors serve each file under its name and `suffix`. Digests are of the file without it
    ("content") or as it is served ("archive").
    """

    mirrors: tuple[str, ...]
    digests: dict[str, str]
    read: "Callable[[Downloads], Content]"
    digest_of: str = "content"
    suffix: str = ""

    @property
    def wanted(self) -> str:
        """The files to download by hand, in words."""
        names = [name + self.suffix for name in self.digests]
        return names[0] if len(names) == 1 else f"its four files ({names[0]}, ...)"


def expanded(path: str | Path) -> Path:
    """A path with its ~ replaced. Raises InputError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"cannot find {path}: {error}") from None


class Downloads:
    """The set `name` in `data_dir`: files lie in `data_dir/name` or directly in `data_dir`."""

    def __init__(self, name: str, published: Published, data_dir: Path):
        self.name = name
        self.published = published
        self.own_folder = data_dir / name
        self.places = (self.own_folder, data_dir)

    def folder(self, name: str) -> Path | None:
        """A folder of that name, if there is one: an archive that somebody extracted."""
        return next((place / name for place in self.places if (place / name).is_dir()), None)

    def content(self, file_name: str) -> tuple[str, bytes]:
        """The path of a file, plain or with its suffix, and its verified content, decompressed.

        Raises DownloadError if it is not there and cannot be fetched, InputError if the file
        there is not the published one.
        """
        served = file_name + self.published.suffix
        for folder in self.places:
            for path in {folder / file_name: 0, folder / served: 0}:
                if not path.is_file() or not (folder == self.own_folder or self._is_known(path)):
                    continue
                try:
                    return str(path), self._verified(file_name, path)
                except InputError:
                    # Relatives of MNIST share its file names: a file in the common folder is
                    # this set's only if its content says so.
                    if folder == self.own_folder:
                        raise
        return self._downloaded(file_name, self.own_folder / served)

    def _is_known(self, path: Path) -> bool:
        """Whether there is a digest for `path`: of some sets only for what they are packed in."""
        return self.published.digest_of != "archive" or path.name.endswith(self.published.suffix)

    def _downloaded(self, file_name: str, path: Path) -> tuple[str, bytes]:
        own_mirror = os.environ.get(MIRROR_VARIABLE)
        bases = [own_mirror.rstrip("/") + "/"] if own_mirror else self.published.mirrors

        def check(written: Path) -> None:  # a portal's login page must not be taken for data
            try:
                self._verified(file_name, path, written)
            except InputError:
                raise ValueError("what came is not the published file") from None

        try:
            fetch([base + path.name for base in bases], path, check)
        except OSError as error:
            raise InputError(f"cannot write to {path.parent}: {error.strerror}") from None
        return str(path), self._verified(file_name, path)

    def _verified(self, file_name: str, path: Path, written: Path | None = None) -> bytes:
        """The content of `path`, or of what was `written` to take its place. Raises InputError."""
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


TIMEOUT_SECONDS = 20  # without a byte
PATIENCE_SECONDS, SLOWEST = 60, 1000  # after which so many bytes a second are too few
ROUNDS = 2  # over the mirrors, of which the second is for what may have been an accident
CHUNK_BYTES = 1 << 16


class DownloadError(InputError):
    """No mirror could be reached, or what came was not the file."""


def fetch(
    mirrors: Sequence[str],
    path: Path,
    check: Callable[[Path], None] = lambda written: None,
    largest_bytes: int = 1 << 28,
) -> None:
    """Download from the first of `mirrors` (whole addresses) that serves the file, to `path`.

    What came is shown to `check`, which raises ValueError if it is not the file, and only then put
    in its place, so that `path` is right or absent. Raises DownloadError with the reason from the
    last mirror, OSError if nothing can be written.
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
    """Whether another try may succeed: the server answered, and then something went wrong."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500
    return isinstance(error, (ConnectionError, HTTPException, _Broken))


class _Broken(ValueError):
    """The connection ended before the file did."""


def _reason(error: Exception) -> str:
    """Why a download failed, with the remedy where Python knows no authorities to trust."""
    cause = getattr(error, "reason", error)  # urllib's errors wrap those of the connection
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return str(cause)
    # Python from python.org brings a script for that, which has to be run once.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    script = f'open "/Applications/Python {version}/Install Certificates.command"'
    other = "install ca-certificates, or set SSL_CERT_FILE to a file of root certificates"
    remedy = f"run: {script}" if platform.system() == "Darwin" else other
    return f"the server's certificate cannot be verified, {cause.verify_message}; {remedy}"


def _fetch_one(address: str, path: Path, name: str, largest_bytes: int) -> None:
    """Download to `path`, over whatever it holds; `name` is for the progress bar."""
    started = time.monotonic()
    request = urllib.request.Request(address, headers={"User-Agent": "mlx_gmvae"})
    with (
        path.open("wb") as file,
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,
    ):
        announced = int(answer.headers.get("Content-Length") or 0)
        received = 0
        with progress(total=announced or None, unit="B", unit_scale=True, desc=name) as bar:
            while chunk := answer.read1(CHUNK_BYTES):  # what has come, however little
                received += len(chunk)
                if received > largest_bytes:
                    raise ValueError("the answer is far larger than the file")
                seconds = time.monotonic() - started
                if seconds > PATIENCE_SECONDS and received < SLOWEST * seconds:
                    raise ValueError(f"only {received} bytes came in {seconds:.0f} seconds")
                file.write(chunk)
                bar.update(len(chunk))
        if announced and received != announced:
            raise _Broken(f"the connection broke after {received} of {announced} bytes")


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()
