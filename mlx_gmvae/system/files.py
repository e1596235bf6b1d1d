"""Files that are whole or absent, whatever happens while they are written."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

PREFIX, NAME_DIGITS = ".saving-", 12  # of files that are being written


@contextlib.contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Within, an empty file beside `path` to write to; at the end it takes its place.

    It has the same suffix, and the rights that the umask gives a new file. If what is done within
    fails or is interrupted, `path` stays what it was and nothing is left. Unless it is `durable`,
    a power cut may still cost it: for one of many files, each of which would wait for the disk.
    Raises OSError.
    """
    with temporary(path) as written:
        yield written
        if durable:
            commit(written, path)
        else:
            os.replace(written, path)


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Within, an empty file beside `path`; what is not `commit` elsewhere by the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named before it is made, so that an interrupt at any moment removes it.
    written = path.with_name(f"{PREFIX}{secrets.token_hex(NAME_DIGITS // 2)}{path.suffix}")
    try:
        with written.open("xb") as held:
            lock(held.fileno())  # which says to `remove_stale` that somebody is writing
            yield written
    finally:
        with contextlib.suppress(OSError):
            written.unlink()


def commit(written: Path, path: Path) -> None:
    """Let a finished file take the place of `path`, when its content has reached the disk.

    The new name has reached it too at the end, on file systems that can say so.
    """
    with written.open("rb") as file:  # which a copy of a protected file allows too
        os.fsync(file.fileno())
        if hasattr(fcntl, "F_FULLFSYNC"):  # on a Mac, where fsync ends in the disk's own memory
            with contextlib.suppress(OSError):
                fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    os.replace(written, path)
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def lock(handle: int) -> bool:
    """Lock an open file until it is closed or the process ends, however; whether that was possible.

    Where a file system knows no locks, nobody is held up.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def remove_stale(folder: Path) -> None:
    """Remove what processes that were killed left half written."""
    for path in folder.glob(f"{PREFIX}{'[0-9a-f]' * NAME_DIGITS}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while it is being written
            path.unlink()
