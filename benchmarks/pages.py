"""Write the tables of README.md and docs/: of benchmarks/results, and of the scripts' flags.

    python benchmarks/pages.py            # update the tables
    python benchmarks/pages.py --check    # only report whether they are up to date

A table stands between the comments `<!-- NAME -->` and `<!-- /NAME -->`. The function of that name
in TABLES (page_tables.py) writes it.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

import record
from page_tables import MEASURED, TABLES

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    outdated = [path.name for path in pages() if update(path, write=not check)]
    print(f"{'outdated' if check else 'written'}: {', '.join(outdated) or 'none'}")
    sys.exit(bool(check and outdated))


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def update(path: Path, write: bool = True) -> bool:
    """Update a page; return whether it was out of date."""
    text = path.read_text()
    fresh = updated(text)
    if write and fresh != text:
        path.write_text(fresh)
    return fresh != text


def updated(text: str, tables: dict[str, Callable[[], str]] | None = None) -> str:
    """Return a page with each of its tables written from the results."""
    tables = tables or TABLES

    def table(found: re.Match[str]) -> str:
        name = found[1]
        content = tables[name]()
        if name in MEASURED:
            content += f"\n\nMeasured with version {record.versions_of(*MEASURED[name])}."
        return f"<!-- {name} -->\n{content}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
