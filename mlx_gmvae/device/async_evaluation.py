"""Training steps that run while Python builds the next one, so that a GPU never waits for it."""

from collections import deque
from typing import Any

import mlx.core as mx

from . import forks
from .backend import on_gpu

MOST = 1  # unfinished steps beside the newest; each keeps arrays of its own


class AsyncEvaluation:
    """Evaluations that were started, of which at most `most` are left unfinished.

    By default one on a GPU. On the CPU none: there Python and the step want the same cores.
    """

    def __init__(self, most: int | None = None):
        self.most = (MOST if on_gpu() else 0) if most is None else most
        self._started: deque[Any] = deque()

    def start(self, result: Any, *state: Any) -> Any:
        """Start evaluating all; answers the `result` of the newest that is finished, or None.

        Raises InputError in a process that was forked after MLX had been used.
        """
        forks.require_usable()
        mx.async_eval(result, *state) if self.most else mx.eval(result, *state)
        self._started.append(result)
        return self._wait(self.most)

    def finish(self) -> Any:
        """Wait for all that was started; answers the newest result, or None if none was left."""
        return self._wait(0)

    def _wait(self, most: int) -> Any:
        finished = None
        while len(self._started) > most:
            finished = self._started.popleft()
            mx.eval(finished)
        return finished
