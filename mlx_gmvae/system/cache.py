"""Cache folders, and the user's home folder in paths."""

import atexit
import functools
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """Return mlx_gmvae's folder in the user's cache, or else a private temporary folder."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx_gmvae"
    except RuntimeError:  # a user without a home
        return private_dir()
    return folder if folder.is_dir() or _can_be_made(folder) else private_dir()


def _can_be_made(folder: Path) -> bool:
    above = next(place for place in folder.absolute().parents if os.path.lexists(place))
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def private_dir() -> Path:
    """Return a temporary folder that only this user can read and write.

    It is the same for all processes. If something else has its name, it is a folder for this
    process alone. Raises OSError.
    """
    shared = Path(tempfile.gettempdir()) / f"mlx_gmvae-{os.getuid()}"
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        found = shared.lstat()  # without following a link
    except OSError:
        return _own_dir()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return shared if is_ours and not found.st_mode & 0o077 else _own_dir()


@functools.cache
def _own_dir() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mlx_gmvae-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def without_home(text: str) -> str:
    """Return a path or a text with ~ instead of the user's home folder, so it can be shared."""
    try:
        home = Path.home()
    except RuntimeError:
        return text
    for place in {str(home), os.path.realpath(home)} - {"/"}:
        text = re.sub(rf"(?<![\w./~-]){re.escape(place)}(?![\w.-])", "~", text)
    return text
