"""Folders of this machine: for what can be made or fetched again, and the user's own."""

import atexit
import functools
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """mlx_gmvae in the user's cache folder; where it cannot be made, a private temporary folder."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx_gmvae"
    except RuntimeError:  # a user without a home
        return private_dir()
    return folder if folder.is_dir() or _can_be_made(folder) else private_dir()


def _can_be_made(folder: Path) -> bool:
    above = next(place for place in folder.absolute().parents if os.path.lexists(place))
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def private_dir() -> Path:
    """A folder among the temporary files that only this user can read and write.

    The same one for all processes, unless something else stands in its place: then one for this
    process alone. Raises OSError.
    """
    shared = Path(tempfile.gettempdir()) / f"mlx_gmvae-{os.getuid()}"
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        found = shared.lstat()  # not of what a link leads to
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
    """A path or a line of text in which the user's home folder is ~, as it may be passed on."""
    try:
        home = Path.home()
    except RuntimeError:
        return text
    for place in {str(home), os.path.realpath(home)} - {"/"}:
        text = re.sub(rf"(?<![\w./~-]){re.escape(place)}(?![\w.-])", "~", text)
    return text
