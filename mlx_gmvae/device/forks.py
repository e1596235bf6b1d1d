"""Detection of forks after MLX was used, where the child lacks MLX's threads and would hang.

Code that evaluates arrays calls `require_usable` first. This module does not import MLX by itself.
"""

import contextlib
import os
import sys
import threading

from ..errors import InputError

SECONDS_TO_ANSWER = 2
PROBLEM = (
    "this process was forked after MLX had been used, and would wait for MLX's threads forever; "
    "use the spawn or loky start method"
)

_is_used = False  # in this process, or in the parent before the fork
_is_child = False  # forked, and not yet known whether MLX works


def require_usable() -> None:
    """Raise InputError if MLX was used before the process was forked. Call it before using MLX."""
    global _is_used, _is_child
    if _is_child:
        _is_used = _is_used or not _answers()
        if _is_used:
            raise InputError(PROBLEM)
        _is_child = False
    _is_used = True


def is_usable() -> bool:
    """Return whether evaluations of MLX can be waited for in this process."""
    return not _is_child


def _answers() -> bool:
    """Return whether MLX works if imported; other code may have used it before the fork."""
    if "mlx.core" not in sys.modules:
        return True
    import mlx.core as mx

    stream, answered = mx.default_stream(mx.default_device()), threading.Event()

    def wait() -> None:
        with contextlib.suppress(Exception):  # a GPU does not survive a fork
            mx.synchronize(stream)
            answered.set()

    threading.Thread(target=wait, daemon=True).start()
    return answered.wait(SECONDS_TO_ANSWER)


def _forked() -> None:
    global _is_child
    _is_child = "mlx.core" in sys.modules


os.register_at_fork(after_in_child=_forked)
