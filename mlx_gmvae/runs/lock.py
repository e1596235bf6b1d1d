"""Lock of a run folder, so that only one training runs in it at a time.

The operating system releases the lock when the process ends. It is on a hidden file, which is
removed at the end. A killed process leaves this file behind without a lock; the next process locks
it again, and removes unfinished temporary files.
"""

import contextlib
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ..errors import InputError
from ..system.files import lock, remove_stale

NAME = ".training"
# Sub-folders of a run.
BELOW = ("progress", "iterations", "reconstructions", "reconstructions/*", "summary")
FOLDERS = (*BELOW, "seed_*", *(f"seed_*/{name}" for name in BELOW))


class Occupied(InputError):
    """Another process trains in the folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainings out of an existing `folder`. Raises Occupied if one runs there."""
    path = folder / NAME
    handle = _taken(path)
    try:
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        for place in [folder, *chain.from_iterable(map(folder.glob, FOLDERS))]:
            remove_stale(place)
        yield
    finally:
        with contextlib.suppress(OSError):  # if the folder was removed or replaced
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                path.unlink()
        os.close(handle)


def _taken(path: Path) -> int:
    """Open and lock the file, and make sure that it still has its name afterwards."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not lock(handle):
                other = os.pread(handle, 20, 0).decode(errors="replace")
                raise Occupied(
                    f"another training (process {other or 'unknown'}) writes to {path.parent}; "
                    "wait for it to end, or choose another folder"
                )
            with contextlib.suppress(FileNotFoundError):  # removed by a process that ended just now
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
