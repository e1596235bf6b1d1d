"""Atomic writes of files, file locks, and removal of stale temporary files."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

PREFIX, NAME_DIGITS = ".saving-", 12  # for names of temporary files


@contextlib.contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield an empty temporary file to write to, which replaces `path` at the end of the context.

    The file is in the same folder and has the same suffix, and its permissions follow the umask.
    After an error or an interrupt within the context, `path` is unchanged and nothing is left.
    With `durable` false, the write does not wait for the disk, and a power failure may lose the
    file; use it for one of many files. Raises OSError.
    """
    with temporary(path) as written:
        yield written
        if durable:
            commit(written, path)
        else:
            os.replace(written, path)


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file in the folder of `path`; without a `commit`, it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is chosen before the file is made, so that an interrupt at any moment removes it.
    written = path.with_name(f"{PREFIX}{secrets.token_hex(NAME_DIGITS // 2)}{path.suffix}")
    try:
        with written.open("xb") as held:
            lock(held.fileno())  # tells `remove_stale` that the file is in use
            yield written
    finally:
        with contextlib.suppress(OSError):
            written.unlink()


def commit(written: Path, path: Path) -> None:
    """Replace `path` by a finished file, after its content is on the disk.

    At the end the new name is on the disk too, if the file system can confirm that.
    """
    with written.open("rb") as file:  # reading also works for a copy of a read-only file
        os.fsync(file.fileno())
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync only reaches the cache of the disk
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
    """Lock an open file until it is closed or the process ends; return whether that succeeded.

    The result is True without a lock if the file system does not support locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def remove_stale(folder: Path) -> None:
    """Remove the unfinished temporary files of processes that were killed."""
    for path in folder.glob(f"{PREFIX}{'[0-9a-f]' * NAME_DIGITS}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while it is being written
            path.unlink()
