"""Ctrl-C from a script's first moment on, before anything is imported that takes time.

So nothing is imported here that Python has not loaded to start, not even `signal`.
"""

import _signal  # type: ignore[import-not-found]
import os
import sys

STATUS = 130
REFUSED = 2
COMMAND = "mlx-gmvae"
SCRIPTS = ("train.py", "reconstruct.py", "generate.py", "cluster.py")
NOTHING_YET = "nothing was written yet; run the same command again"
CLONE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

to_say: str | None = NOTHING_YET  # by whoever ends the program; `interrupts.say` changes it


def guard_imports() -> bool:
    """If one of our scripts is the program that runs, let Ctrl-C end it from here on.

    Nothing has been begun that would need winding up, and an exception in the middle of an import
    would come out as a traceback, or as something else. Returns whether it is one of them.
    """
    path = getattr(sys.modules["__main__"], "__file__", None) or ""
    folder, name = os.path.split(os.path.realpath(path))
    beside = name in SCRIPTS and folder == os.path.realpath(CLONE)
    as_module = sys.argv[0] == "-m" and "mlx_gmvae" in sys.orig_argv  # until it has been found
    is_ours = beside or as_module or os.path.basename(path) == COMMAND
    if is_ours:
        for signum in (_signal.SIGINT, _signal.SIGTERM):
            if _signal.getsignal(signum) is not _signal.SIG_IGN:  # as for background jobs
                try:
                    _signal.signal(signum, leave)
                except ValueError:  # in another thread, where Python lets nobody handle signals
                    break
    return is_ours


def line() -> str:
    """The line for an interrupt that happens now."""
    return f"interrupted; {to_say}"


def refuse(problem: str) -> int:
    """Say in one line why the program cannot begin; returns its exit status."""
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {problem}\n")
    return REFUSED


def leave(signum: int, frame: object) -> None:
    """End the program at once, in one line."""
    if to_say:
        os.write(1, f"{line()}\n".encode())
    os._exit(STATUS)
