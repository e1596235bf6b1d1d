"""Long fault-injection tests of what docs/RELIABILITY.md promises.

    python benchmarks/soak.py files --count 20000      mutated files of every kind that is read
    python benchmarks/soak.py fuzz --minutes 10        each reader for 10 minutes, with hypothesis
    python benchmarks/soak.py numbers                  NaN, odd sets, runs that diverge
    python benchmarks/soak.py downloads                a server with every kind of fault
    python benchmarks/soak.py page                     names with markup, in a browser
    python benchmarks/soak.py kills --count 200        runs that are killed and resumed
    python benchmarks/soak.py partners                 one of two processes is killed
    python benchmarks/soak.py disk leaks memory twice --count 200
                                                       full disks, long runs, memory, seeds
    python benchmarks/soak.py --table                  print the kept results as Markdown

The exit status is 1 if anything failed. Results are kept part by part in
benchmarks/results/soak.json; the table in docs/RELIABILITY.md is made from it.
"""

import argparse
import importlib
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import page_tables
import pages
import record

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benchmarks" / "results" / "soak.json"
SHOWN = ROOT / "docs" / "RELIABILITY.md"
COUNTED = ("files", "kills", "disk", "leaks", "memory")  # parts that --count makes longer
MODULES = (
    "soak_files",
    "soak_fuzz",
    "soak_numbers",
    "soak_downloads",
    "soak_page",
    "soak_kills",
    "soak_partners",
    "soak_runs",
)
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

Part = Callable[[argparse.Namespace], list[dict]]


def parts() -> dict[str, Part]:
    """Return every part by name."""
    return {
        name: part
        for module in MODULES
        for name, part in importlib.import_module(module).PARTS.items()
    }


def kept_so_far() -> dict:
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", metavar="PART")
    parser.add_argument(
        "--count", type=int, default=2000, help="files to mutate, runs to kill, ..."
    )
    parser.add_argument("--minutes", type=float, default=10, help="of fuzzing, for each reader")
    parser.add_argument("--jobs", type=int, default=1, help="readers to fuzz at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data_dir", help="a folder with published sets")
    parser.add_argument("--workdir", help="where files are written (default: a temporary folder)")
    parser.add_argument("--only", metavar="FAULT", help="of kills and readers, those of a kind")
    parser.add_argument("--table", action="store_true", help="print what is kept and run nothing")
    args = parser.parse_args()
    if args.table:
        print(page_tables.soak())
        return 0
    known = parts()
    unknown = [name for name in args.part if name not in known]
    if unknown or not args.part:
        parser.error(f"the parts are {', '.join(known)}")
    failed = 0
    for name in args.part:
        with tempfile.TemporaryDirectory() as temporary:
            own = argparse.Namespace(**{**vars(args), "workdir": args.workdir or temporary})
            rows = known[name](own)
        failed += sum(row["tried"] - row["survived"] for row in rows)
        command = ["python", "benchmarks/soak.py", name, *options(args, name)]
        kept = kept_so_far()
        if args.only:  # other parts keep their earlier results
            known_rows = {
                row["fault"]: row for row in [*kept.get(name, {"rows": []})["rows"], *rows]
            }
            rows = list(known_rows.values())
        kept |= {name: {"command": shlex.join(command), "rows": rows}}
        record.write(KEPT, kept, [name])
        pages.update(SHOWN)
    print(f"{failed} failed" if failed else "all survived")
    return int(failed > 0)


def options(args: argparse.Namespace, name: str) -> list[str]:
    """Return the flags that tell how much of a part was done."""
    own = {"fuzz": "minutes"}.get(name, "count" if name in COUNTED else None)
    return [f"--{own}", f"{getattr(args, own):g}"] if own else []


if __name__ == "__main__":
    sys.exit(main())
