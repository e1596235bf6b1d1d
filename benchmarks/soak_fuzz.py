"""Fuzzing of each reader with hypothesis, which shrinks failures (`soak.py fuzz`).

Applies several mutations of `soak.py files` one after another, and then edits of single bytes.
"""

import argparse
import multiprocessing
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import soak_mutations as mutate
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from soak_files import judged, prepare
from soak_kinds import KINDS

EXAMPLES = 50  # between two checks of the clock
MOST_FOUND = 3  # failures of one reader
LARGEST = 1 << 29  # bytes of a file
SEEDS = st.integers(0, 2**32)
LIES = st.lists(st.tuples(st.integers(0, 15), SEEDS), max_size=3)
EDITS = st.lists(
    st.tuples(st.integers(-200, 2000), st.sampled_from("=+-^"), st.binary(min_size=1, max_size=8)),
    max_size=6,
)


def edited(content: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    """Set, insert, delete or flip bytes at positions from the start or the end."""
    for place, how, piece in edits:
        at = place if place >= 0 else max(0, len(content) + place)
        after = at if how == "+" else at + len(piece)
        if how == "-":
            piece = b""
        if how == "^":
            piece = bytes(a ^ b for a, b in zip(content[at:after], piece, strict=False))
        content = content[:at] + piece + content[after:]
    return content


def lied(name: str, start: int, lies: list[tuple[int, int]]) -> tuple[bytes, bytes]:
    """Return a good file, and its content after several mutations."""
    kind = KINDS[name]
    original = content = kind.make(random.Random(start))
    mutations = (*kind.lies, *mutate.BYTES)
    for number, lie in lies:
        try:
            mutated = mutations[number % len(mutations)](random.Random(lie), content)
        except Exception:  # the mutation parses the format, which the file no longer has
            continue
        # One bomb is enough: with several, copies of the file itself exceed the memory.
        content = mutated if len(mutated) <= LARGEST else content
    return original, content


def fuzz_kind(name: str, seconds: float, folder: str, first: int, pipe: Connection) -> None:
    """Fuzz one kind in a worker; send the number of files tried and the failures found."""
    prepare(name, folder)
    tried, found, started = 0, [], time.monotonic()
    while time.monotonic() - started < seconds and len(found) < MOST_FOUND:

        @seed(first + tried)
        @settings(max_examples=EXAMPLES, deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(start=SEEDS, lies=LIES, edits=EDITS)
        def holds(start: int, lies: list, edits: list) -> None:
            nonlocal tried
            tried += 1
            original, content = lied(name, start, lies)
            problem = judged(name, Path(folder), original, edited(content, edits), "fuzz")
            assert not problem, f"{name}, ({start}, {lies}, {edits}): {problem}"

        try:
            holds()
        except AssertionError as error:
            found.append(str(error).splitlines()[0])
    pipe.send((tried, found))


def fuzz(args: argparse.Namespace) -> list[dict]:
    names = [args.only] if args.only else list(KINDS)
    with ThreadPoolExecutor(args.jobs) as pool:
        return list(pool.map(partial(fuzzed, args=args), names))


def fuzzed(name: str, args: argparse.Namespace) -> dict:
    """Fuzz one kind in a process of its own, and return its row."""
    started, context = time.monotonic(), multiprocessing.get_context("spawn")
    folder = Path(args.workdir) / str(list(KINDS).index(name))
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = context.Pipe()
    options = (name, 60 * args.minutes, str(folder), args.seed, theirs)
    worker = context.Process(target=fuzz_kind, args=options)
    worker.start()
    theirs.close()
    try:
        tried, found = ours.recv()
    except EOFError:
        tried, found = 1, [f"{name}: the process died"]
    worker.join()
    print(f"{name:<24}{tried:>7} tried", *found, sep="\n    " if found else "", flush=True)
    return {
        "fault": f"fuzzed {name}", "tried": tried, "survived": tried - len(found),
        "failures": found, "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


PARTS = {"fuzz": fuzz}
