"""Fetch a published file once, verify it, keep it."""

import contextlib
import hashlib
import os
import platform
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from ..errors import InputError

TIMEOUT_SECONDS = 20
CHUNK_BYTES = 1 << 16


class DownloadError(InputError):
    """No mirror could be reached, or what came was not the file."""


def fetch(mirrors: list[str], path: Path, largest_bytes: int = 1 << 30) -> None:
    """Download from the first of `mirrors` (whole addresses) that answers, to `path`.

    Written under a temporary name beside it and renamed, so that `path` is whole or absent.
    Raises DownloadError with the reason from the last mirror.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    reason = "no mirror is known"
    for address in mirrors:
        try:
            _fetch_one(address, path, largest_bytes)
            return
        except (OSError, HTTPException, ValueError) as error:
            reason = _reason(error)
    raise DownloadError(f"cannot download {path.name} ({reason})")


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


def _fetch_one(address: str, path: Path, largest_bytes: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "mlx_gmvae"})
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,
        ):
            announced = int(answer.headers.get("Content-Length") or 0)
            received = 0
            with tqdm(
                total=announced or None, unit="B", unit_scale=True, desc=path.name,
                leave=False, disable=None,
            ) as bar:  # fmt: skip
                while chunk := answer.read(CHUNK_BYTES):
                    received += len(chunk)
                    if received > largest_bytes:
                        raise ValueError("the answer is far larger than the file")
                    file.write(chunk)
                    bar.update(len(chunk))
            if announced and received != announced:
                raise ValueError(f"the connection broke after {received} of {announced} bytes")
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()
