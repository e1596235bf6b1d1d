"""Handling of Ctrl-C at the start of a script, before any slow import.

This module imports only what Python has already loaded at startup, so not even `signal`.
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

to_say: str | None = NOTHING_YET  # printed at an interrupt; `interrupts.say` changes it
is_script = False  # whether this process is one of ours, which may decide about signals


def guard_imports() -> bool:
    """If this program is one of our scripts, let Ctrl-C end it from here on; return whether it is.

    Nothing needs to be cleaned up yet, and an exception during an import would show a traceback
    or be replaced by another error.
    """
    path = getattr(sys.modules["__main__"], "__file__", None) or ""
    folder, name = os.path.split(os.path.realpath(path))
    beside = name in SCRIPTS and folder == os.path.realpath(CLONE)
    as_module = (
        sys.argv[0] == "-m" and "mlx_gmvae" in sys.orig_argv
    )  # while Python looks for the module
    global is_script
    is_ours = is_script = beside or as_module or os.path.basename(path) == COMMAND
    if is_ours:
        for signum in (_signal.SIGINT, _signal.SIGTERM):
            if _signal.getsignal(signum) is not _signal.SIG_IGN:  # ignored for background jobs
                try:
                    _signal.signal(signum, leave)
                except ValueError:  # only the main thread can set handlers
                    break
    return is_ours


def line() -> str:
    """Return the line for an interrupt at this moment."""
    return f"interrupted; {to_say}"


def refuse(problem: str) -> int:
    """Print in one line why the program cannot start; return its exit status."""
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {problem}\n")
    return REFUSED


def leave(signum: int, frame: object) -> None:
    """Print one line and end the program at once."""
    if to_say:
        os.write(1, f"{line()}\n".encode())
    os._exit(STATUS)
