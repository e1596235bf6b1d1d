"""Asynchronous evaluation: a step runs while Python builds the next one, so a GPU never waits."""

from collections import deque
from typing import Any

import mlx.core as mx

from . import forks
from .backend import on_gpu

MOST = 1  # unfinished steps besides the newest; each has its own arrays in memory


class AsyncEvaluation:
    """Queue of started evaluations, of which at most `most` are unfinished.

    The default is 1 on a GPU, and 0 on the CPU, where Python and the step need the same cores.
    """

    def __init__(self, most: int | None = None):
        self.most = (MOST if on_gpu() else 0) if most is None else most
        self._started: deque[Any] = deque()

    def start(self, result: Any, *state: Any) -> Any:
        """Start to evaluate everything; return the newest finished `result`, or None.

        Raises InputError in a process that was forked after MLX had been used.
        """
        forks.require_usable()
        mx.async_eval(result, *state) if self.most else mx.eval(result, *state)
        self._started.append(result)
        return self._wait(self.most)

    def finish(self) -> Any:
        """Wait for all evaluations; return the newest result, or None if none was pending."""
        return self._wait(0)

    def _wait(self, most: int) -> Any:
        finished = None
        while len(self._started) > most:
            finished = self._started.popleft()
            mx.eval(finished)
        return finished
