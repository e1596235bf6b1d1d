"""Output folders of scripts: the line about written files, and removal of outdated ones."""

import re
from collections.abc import Iterable
from pathlib import Path


def saved_line(folder: Path, names: Iterable[str]) -> str:
    """Return the line that lists all files written to a folder."""
    *others, last = names
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"saved {listed} in {folder}"


def alike(pattern: str, num: int) -> list[str]:
    """Return a list with one name for `num` files of a pattern, empty if there are none."""
    return [f"{pattern} ({num:,})"] if num else []


def names_in(folder: Path, patterns: Iterable[str]) -> list[str]:
    """Return the names that match glob patterns in `folder`; folders with their number of files."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    names = []
    for path in found:
        if path.is_dir():
            names.append(f"{path.name}/ ({sum(each.is_file() for each in path.rglob('*')):,})")
        else:
            names.append(path.name)
    return names


def files_named(folder: Path, pattern: str) -> list[Path]:
    """Return the files directly in `folder` whose full names match a regular expression."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if re.fullmatch(pattern, path.name, re.DOTALL)]


def remove_outdated(earlier: Iterable[Path], written: Iterable[Path]) -> None:
    """Remove `earlier` files that are not among those `written` since."""
    # Compared by inode: without case sensitivity, an earlier name may be that of a new file.
    kept = [path.stat() for path in written]
    ours = {(status.st_dev, status.st_ino) for status in kept}
    for path in earlier:
        if not path.is_file():
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) not in ours:
            path.unlink()
