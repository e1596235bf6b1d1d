"""Downloads of files into the cache of the Hub, announced and verified."""

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .repository import Repository, Unreachable

BLOCK_BYTES = 1 << 20


def downloaded(repo: Repository, names: tuple[str, ...], say: Callable[[str], None]) -> Path | None:
    """Return the first of the files that a repository has, in its newest version.

    Without a network it is the version in the cache. None if the repository has none of them.
    """
    for name in names:
        try:
            newest = repo.newest(name)
        except Unreachable:
            kept = next((path for path in map(repo.cached, names) if path), None)
            if kept is None:
                raise
            return kept
        if newest is None:
            continue
        is_new = repo._replace(revision=newest.commit).cached(name) is None
        if is_new:
            announce(repo, newest.size, say)
        path = repo.file(name)
        if is_new and path is not None:
            require_whole(path)
        return path
    return None


def announce(repo: Repository, size: int, say: Callable[[str], None]) -> None:
    """Call `say` with a line that tells the size of a download in bytes."""
    amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    say(f"downloading {repo.name}: {amount} into {repo.hub.constants.HF_HUB_CACHE}")


def to_stderr(line: str) -> None:
    """Print a line on stderr."""
    print(line, file=sys.stderr, flush=True)


def sha256_of(paths: list[Path]) -> str:
    """Return the SHA-256 of files, read one after another. Raises InputError."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    return digest.hexdigest()


def require_whole(path: Path) -> None:
    """Raise InputError if a file differs from its SHA-256, by which the cache names large files."""
    digest = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", digest) and sha256_of([path]) != digest:
        raise damaged(path)


def damaged(path: Path) -> InputError:
    """Remove a file from the cache, and return the error that says that it is a wrong one."""
    for wrong in {path, path.resolve()}:
        wrong.unlink(missing_ok=True)
    return InputError(f"{path.name} is damaged (wrong SHA-256); download it again")
