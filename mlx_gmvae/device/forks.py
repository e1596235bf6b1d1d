"""Forks after MLX was used: its threads are missing in the child, and whatever it is asked hangs.

So all that is about to evaluate asks `require_usable` first. Imports nothing of MLX by itself.
"""

import contextlib
import os
import sys
import threading

from ..errors import InputError

SECONDS_TO_ANSWER = 2
PROBLEM = (
    "this process was forked after MLX had been used, and would wait for MLX's threads for ever; "
    "use the spawn or loky start method"
)

_is_used = False  # here, or before the fork in the process that this one comes from
_is_child = False  # forked, and not yet known to be able to use MLX


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
    """Whether MLX can be waited for here."""
    return not _is_child


def _answers() -> bool:
    """Whether MLX works, if it has been imported; somebody may have used it without asking us."""
    if "mlx.core" not in sys.modules:
        return True
    import mlx.core as mx

    stream, answered = mx.default_stream(mx.default_device()), threading.Event()

    def wait() -> None:
        with contextlib.suppress(Exception):  # as a GPU's that does not survive a fork
            mx.synchronize(stream)
            answered.set()

    threading.Thread(target=wait, daemon=True).start()
    return answered.wait(SECONDS_TO_ANSWER)


def _forked() -> None:
    global _is_child
    _is_child = "mlx.core" in sys.modules


os.register_at_fork(after_in_child=_forked)
