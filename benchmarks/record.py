"""Results of the benchmarks, each with the version of the package that made it.

    python benchmarks/record.py            # what is stale (make results)

A benchmark writes benchmarks/results/NAME.json with `write`, which stamps the version and the date
of what was measured in benchmarks/results/versions.json: for the whole file, or for the parts that
were measured. A part is stale if another version of the package measured it and none of its runs
was repeated since; then the exit code is 1. `confirm` is for trainings with several seeds: they
repeat bit for bit, so if one seed of an earlier version gives equal figures, the others stand.
"""

import argparse
import datetime
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Read, not imported: some benchmarks run in environments of other libraries, without MLX.
SOURCE = (ROOT / "mlx_gmvae" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.findall('^__version__ = "(.*)"$', SOURCE, re.MULTILINE)[0]
RESULTS = ROOT / "benchmarks" / "results"
VERSIONS = RESULTS / "versions.json"
# Files that no measurement writes; `earlier` has runs of versions that are not repeated.
BY_HAND = {"published", "versions", "earlier"}
WHOLE = "all"  # the part of a file that is measured at once


class Stamp(NamedTuple):
    """The version and the date of one measured part of a result."""

    name: str
    part: str
    version: str
    date: str


def write(path: Path, content: dict[str, Any], parts: Iterable[str] = (WHOLE,)) -> None:
    """Write a result, and stamp the parts that were measured now."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    if path.parent != RESULTS:
        return  # a trial, written elsewhere
    versions = _versions()
    now = {"version": VERSION, "date": datetime.date.today().isoformat()}
    versions[path.stem] = versions.get(path.stem, {}) | dict.fromkeys(parts, now)
    _write(versions)


def confirm(name: str, parts: Iterable[str], how: str) -> None:
    """Stamp parts of an earlier version with this one, since a repeated run was equal."""
    versions = _versions()
    for part in parts:
        versions[name][part] |= {"version": VERSION, "confirmed": how}
    _write(versions)


def stamps() -> Iterator[Stamp]:
    """Return the stamps of all results; a file without any has an unknown version."""
    versions = _versions()
    for path in sorted(RESULTS.glob("*.json")):
        if path.stem not in BY_HAND:
            unknown = {WHOLE: {"version": "unknown", "date": ""}}
            for part, stamp in versions.get(path.stem, unknown).items():
                yield Stamp(path.stem, part, stamp["version"], stamp["date"])


def versions_of(name: str, first: str = "") -> str:
    """Return the versions that measured the parts of a result whose names begin with `first`."""
    found = {s.version for s in stamps() if s.name == name and s.part.startswith(first)}
    return ", ".join(sorted(found))


def stale() -> list[Stamp]:
    """Return the parts that another version of the package measured."""
    return [stamp for stamp in stamps() if stamp.version != VERSION]


def _versions() -> dict[str, Any]:
    return json.loads(VERSIONS.read_text()) if VERSIONS.exists() else {}


def _write(versions: dict[str, Any]) -> None:
    VERSIONS.write_text(json.dumps(dict(sorted(versions.items())), indent=1) + "\n")


def main() -> int:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    old = stale()
    total = len(list(stamps()))
    for stamp in old:
        print(f"stale: {stamp.name}, {stamp.part} (version {stamp.version} {stamp.date})")
    print(f"{total - len(old)} of {total} results were measured with version {VERSION}")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
