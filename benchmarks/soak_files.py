"""Randomly mutated files, each read correctly or refused in one line (`soak.py files`).

Worker processes read them, with a memory limit and five seconds for each file, so that a crash
loses one file only and is counted. A failure names the kind and the seed, which make the same file
again: `python benchmarks/soak_files.py "sets, .npz" 17`.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from mlx_gmvae.errors import InputError

import numpy as np
import soak_mutations as mutate
from PIL import Image
from soak_kinds import KINDS, SHARES, Arrays, Kind

SECONDS_EACH = 5
SECONDS_UNTIL_KILLED = 60
SPARE_BYTES = 3 << 30  # of address space, above that of a worker at its start
SLACK_BYTES = 96 << 20  # of memory, for libraries


class TooSlow(BaseException):
    """Time limit exceeded; a BaseException, so that no `except Exception` catches it."""


def mutated(kind: Kind, seed: int) -> tuple[bytes, bytes, str]:
    """Return a good file, its mutated content, and the name of the mutation."""
    rng = random.Random(seed)
    original = kind.make(rng)
    mutation = rng.choice((*mutate.BYTES, *kind.lies))
    return original, mutation(rng, original), mutation.__name__


def problem_of(kind: Kind, path: Path, original: bytes, content: bytes, by: str) -> str:
    """Return what is wrong with how a mutated file is read; empty if read right or refused."""
    with_what_was = set(os.listdir(".")), set(os.listdir(path.parent.parent))
    path.write_bytes(content)
    honest = _pixels(path) * 4 + len(content) * (20 if content[:2] in (b"PK", b"\x1f\x8b") else 3)
    _reset_peak()
    before = _memory("VmRSS")
    found: Arrays = {}
    try:
        found = kind.read(path)
    except InputError as error:
        if "\n" in str(error) or not str(error):
            return f"refused in other than one line: {error!r}"
    except TooSlow:
        return f"takes over {SECONDS_EACH} seconds"
    except Exception as error:  # any other exception is a failure
        return f"{type(error).__name__}: {str(error)[:120]}"
    taken = _memory("VmHWM") - before
    honest += sum(array.nbytes for array in found.values())
    if taken > 2 * honest + SLACK_BYTES:
        return f"took {taken >> 20} MB where {honest >> 20} were needed"
    if (set(os.listdir(".")), set(os.listdir(path.parent.parent))) != with_what_was:
        return "something was written outside, or executed"
    for name, array in found.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name} is not finite"
    if kind.is_checked and by == "flip" and found:
        path.write_bytes(original)
        for name, array in kind.read(path).items():
            if not np.array_equal(array, found.get(name)):
                return f"{name} is not what was written"
    return ""


def _pixels(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return image.width * image.height if image.width * image.height < 1 << 27 else 0
    except Exception:
        return 0


def _memory(line: str) -> int:
    """Return memory of this process in bytes, from /proc; 0 if there is no /proc."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        return 1024 * next(int(row.split()[1]) for row in file if row.startswith(line))
    return 0


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise `TooSlow` within the block after `seconds` of processor time."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attempt(name: str, seed: int, folder: Path) -> str:
    """Return what is wrong with how the file of that kind and seed is read."""
    original, content, by = mutated(KINDS[name], seed)
    problem = judged(name, folder, original, content, by)
    return f"{name}, seed {seed} ({by}): {problem}" if problem else ""


def judged(name: str, folder: Path, original: bytes, content: bytes, by: str) -> str:
    """Return what is wrong with how a mutated file is read, in its own folder and in time."""
    place = folder / "inside" / "".join(filter(str.isalnum, name))
    place.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if "pictures" in name or ".mat" in name:
            warnings.simplefilter("ignore")  # as when folders are read
        with alarm(SECONDS_EACH):
            return problem_of(KINDS[name], place / KINDS[name].file, original, content, by)


def read_good(name: str, folder: Path) -> Arrays:
    """Read an unchanged file, which also imports everything that its reader needs."""
    place = folder / "good"
    place.mkdir(exist_ok=True)
    path = place / KINDS[name].file
    path.write_bytes(KINDS[name].make(random.Random(0)))
    return KINDS[name].read(path)


def prepare(name: str, folder: str) -> None:
    """Set up a worker: the folder, no output, all imports, and then the memory limit."""
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # image libraries print to stderr
    read_good(name, Path(folder))
    limit = _memory("VmSize") + SPARE_BYTES
    if limit > SPARE_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def work(name: str, seeds: range, folder: str, pipe: Connection) -> None:
    """Try one seed after another in a worker; report each before and after."""
    prepare(name, folder)
    for seed in seeds:
        pipe.send((seed, None))
        pipe.send((seed, attempt(name, seed, Path(folder))))


def survived(name: str, seeds: range, folder: Path) -> list[str]:
    """Return the failures of a kind over `seeds`; a worker that dies is replaced."""
    failures, context = [], multiprocessing.get_context("spawn")
    while seeds:
        ours, theirs = context.Pipe()
        worker = context.Process(target=work, args=(name, seeds, str(folder), theirs))
        worker.start()
        theirs.close()
        current = None
        with contextlib.suppress(EOFError):
            while ours.poll(SECONDS_UNTIL_KILLED if current is not None else 120):
                seed, answer = ours.recv()
                if answer:
                    failures.append(answer)
                current = seed if answer is None else None
                if answer is not None and seed == seeds[-1]:
                    break
        worker.kill() if current is not None else None
        worker.join()
        if current is None and worker.exitcode == 0:
            return failures
        if current is None:
            return [*failures, f"{name}: the worker ended with {worker.exitcode}"]
        failures.append(f"{name}, seed {current}: the process died with {worker.exitcode}")
        seeds = range(current + 1, seeds.stop)
    return failures


def counts(total: int) -> dict[str, int]:
    """Return the number of files of each kind that together make `total`."""
    shares = {name: SHARES.get(name, 1) for name in KINDS}
    return {name: round(total * share / sum(shares.values())) for name, share in shares.items()}


def files(args: argparse.Namespace) -> list[dict]:
    rows = []
    for name, num in counts(args.count).items():
        started = time.monotonic()
        failures = survived(name, range(args.seed, args.seed + num), Path(args.workdir))
        rows.append({
            "fault": f"mutated {name}", "tried": num, "survived": num - len(failures),
            "failures": failures[:10], "seconds": round(time.monotonic() - started, 1),
        })  # fmt: skip
        print(f"{name:<24}{num:>6} tried {len(failures):>4} failed {rows[-1]['seconds']:>7} s")
        for failure in failures[:10]:
            print(f"    {failure}", flush=True)
    return rows


PARTS = {"files": files}


if __name__ == "__main__":
    name, seed = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        print(attempt(name, int(seed), Path(place)) or "read right or refused")
