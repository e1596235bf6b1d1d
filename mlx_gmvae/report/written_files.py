"""The folder that a script writes into: what it wrote there, in a line; what is outdated, away."""

import re
from collections.abc import Iterable
from pathlib import Path


def saved_line(folder: Path, names: Iterable[str]) -> str:
    """The line that names every file that was written into a folder."""
    *others, last = names
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"saved {listed} in {folder}"


def alike(pattern: str, num: int) -> list[str]:
    """A name for `num` files of one pattern, or none if there are none."""
    return [f"{pattern} ({num:,})"] if num else []


def names_in(folder: Path, patterns: Iterable[str]) -> list[str]:
    """The files in `folder` of glob patterns, and the folders with the number of files in each."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    names = []
    for path in found:
        if path.is_dir():
            names.append(f"{path.name}/ ({sum(each.is_file() for each in path.rglob('*')):,})")
        else:
            names.append(path.name)
    return names


def files_named(folder: Path, pattern: str) -> list[Path]:
    """The files directly in `folder`, if it exists, whose whole names fit a regular expression."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if re.fullmatch(pattern, path.name, re.DOTALL)]


def remove_outdated(earlier: Iterable[Path], written: Iterable[Path]) -> None:
    """Remove those `earlier` files that are none of those `written` since."""
    # By identity: where case does not count, an earlier name may be that of a new file.
    kept = [path.stat() for path in written]
    ours = {(status.st_dev, status.st_ino) for status in kept}
    for path in earlier:
        if not path.is_file():
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) not in ours:
            path.unlink()
