"""Two processes that train together, one of which is killed (`soak.py partners`).

The launcher is killed too. Every part returns rows of {"fault", "tried", "survived", "failures",
"seconds"}.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from soak_kills import ROOT, SECONDS, TINY
from soak_runs import Row, row

LAUNCHERS = {
    "mlx.launch": ["mlx.launch", "-n", "2", "--starting-port", "{port}", "--"],
    "mpirun": ["mpirun", "-n", "2", "--oversubscribe"],
}


def partners(args: argparse.Namespace) -> list[Row]:
    """Kill one of two processes, or their launcher; the others must end by themselves."""
    rows = []
    for name in LAUNCHERS:
        if shutil.which(name) is None:
            continue
        started, failures = time.monotonic(), []
        for number, victim in enumerate(("first", "second", "launcher")):
            folder = Path(args.workdir) / name / victim
            try:
                kill_partner(name, victim, folder, 42400 + 10 * number)
            except Exception as error:
                failures.append(f"{name}, {victim} killed: {error}")
        num = 3
        rows.append(
            row(f"killed: one of two, or {name}", num, num - len(failures), failures, started)
        )
    return rows


def kill_partner(name: str, victim: str, folder: Path, port: int) -> None:
    """Raise AssertionError unless all end soon after and the run can be resumed."""
    launch = [word.format(port=port) for word in LAUNCHERS[name]]
    options = f"{TINY} --dataset digits --K 3 --batchsize 256 --epochs 100000 --save_every 2"
    silence, end = os.pipe()  # a terminal without input
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    launcher = subprocess.Popen(
        [*launch, sys.executable, "train.py", *options.split(), "--outdir", str(folder)],
        cwd=ROOT, env=os.environ | allowed | {"OPENBLAS_NUM_THREADS": "1"},
        stdin=silence, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until((folder / "progress").exists, SECONDS)  # written after the first epochs
        first, second = sorted(processes_of(folder))[-2:]
        os.kill(
            {"first": first, "second": second, "launcher": launcher.pid}[victim], signal.SIGKILL
        )
        wait_until(lambda: launcher.poll() is not None and not processes_of(folder), 30)
    finally:
        for process in [*processes_of(folder), launcher.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        launcher.wait()
        os.close(silence)
        os.close(end)
    resume = [sys.executable, "train.py", "--cpu", "--resume", str(folder), "--log_every", "1"]
    with subprocess.Popen(resume, cwd=ROOT, stdout=subprocess.PIPE, text=True) as resumed:
        assert resumed.stdout is not None
        is_resumed = any(" steps |" in line for line in resumed.stdout)
        resumed.kill()
    assert is_resumed, "it cannot be resumed"


def processes_of(folder: Path) -> list[int]:
    """Return the Python processes that train into `folder`."""
    found = subprocess.run(["pgrep", "-f", f"^{sys.executable} train.py .*{folder}"],
                           capture_output=True, text=True, check=False)  # fmt: skip
    return [int(word) for word in found.stdout.split()]


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"partners": partners}
