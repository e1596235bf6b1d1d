"""One training at a time in a folder, by a lock of the operating system that dies with its process.

The lock is on a hidden file, which is removed at the end. What a process that was killed left of it
holds nobody up: the next one takes it over, and removes what is half written.
"""

import contextlib
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ..errors import InputError
from ..system.files import lock, remove_stale

NAME = ".training"
# Of a run, below its folder.
BELOW = ("progress", "iterations", "reconstructions", "reconstructions/*", "summary")
FOLDERS = (*BELOW, "seed_*", *(f"seed_*/{name}" for name in BELOW))


class Occupied(InputError):
    """Another process trains in that folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within, no other process trains in an existing `folder`. Raises Occupied if one does."""
    path = folder / NAME
    handle = _taken(path)
    try:
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        for place in [folder, *chain.from_iterable(map(folder.glob, FOLDERS))]:
            remove_stale(place)
        yield
    finally:
        with contextlib.suppress(OSError):  # where the whole folder is gone, or made anew
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                path.unlink()
        os.close(handle)


def _taken(path: Path) -> int:
    """The file, open and locked, under the name that others will look for."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not lock(handle):
                other = os.pread(handle, 20, 0).decode(errors="replace")
                raise Occupied(
                    f"another training (process {other or 'unknown'}) writes to {path.parent}; "
                    "wait for it to end, or choose another folder"
                )
            with contextlib.suppress(FileNotFoundError):  # removed by one that ended just now
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
