"""Ctrl-C at any time, and SIGTERM: one line that says what is kept and how to go on, status 130.

While a script imports its modules, `at_once` ends it; then `as_exceptions` makes a
KeyboardInterrupt of the signal, and in training `noticed` only takes note of it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from . import startup_signals
from .startup_signals import COMMAND as COMMAND
from .startup_signals import NOTHING_YET as NOTHING_YET
from .startup_signals import STATUS as STATUS
from .startup_signals import line as line

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS_TO_WAIT = 0.02
_handled = threading.Event()  # set whenever Python has come to handle a signal


def say(how_to_go_on: str | None) -> None:
    """From here on, what a line after Ctrl-C says is kept and can be done; None says nothing.

    Every phase sets it that changes what is true.
    """
    startup_signals.to_say = how_to_go_on


def how_to_go_on() -> str:
    """What that line says after "interrupted"."""
    return startup_signals.to_say or "run the same command again"


def finished() -> None:
    """Everything is done and said: let Ctrl-C no longer change how one of our scripts ends."""
    say(None)
    if signal.getsignal(signal.SIGINT) is startup_signals.leave:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM raise KeyboardInterrupt in the main thread."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        _handled.set()
        raise KeyboardInterrupt

    def hook(raised: Any) -> None:
        # Python cannot raise in a destructor or a callback from C: interrupt again in a moment.
        if issubclass(raised.exc_type, KeyboardInterrupt):
            _interrupt_again()
        else:
            hook_before(raised)

    hook_before, sys.unraisablehook = sys.unraisablehook, hook
    try:
        with _handled_by(interrupt):
            yield
    finally:
        sys.unraisablehook = hook_before


def _interrupt_again() -> None:
    main = threading.main_thread().ident
    assert main is not None
    retry = threading.Timer(SECONDS_TO_WAIT, signal.pthread_kill, (main, signal.SIGINT))
    retry.daemon = True
    retry.start()


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C or SIGTERM makes the yielded function answer True.

    A second one interrupts at once.
    """
    stop = False

    def request(signum: int, frame: FrameType | None) -> None:
        nonlocal stop
        _handled.set()
        if stop:
            raise KeyboardInterrupt
        stop = True

    with _handled_by(request):
        yield lambda: stop


@contextmanager
def ends_if_blocked(seconds: float) -> Iterator[None]:
    """Within, a signal that Python has not handled after `seconds` ends the program in one line.

    Python handles signals between two of its own instructions. Compiling the kernels of a step can
    be one of them, for minutes; what was saved before is kept.
    """
    if not _in_main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while os.read(reader, 1):
            if not _handled.wait(seconds):
                startup_signals.leave(signal.SIGINT, None)
            _handled.clear()

    _handled.clear()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # which ends the watcher
        watcher.join()
        os.close(reader)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if not _in_main_thread():  # where Python lets nobody handle signals
        yield
        return
    previous = {name: signal.signal(name, handler) for name in _heeded()}
    try:
        yield
    finally:
        for name, before in previous.items():
            signal.signal(name, before)


def _heeded() -> list[signal.Signals]:
    """All but those that whoever started us wants ignored, as a shell does for background jobs."""
    return [name for name in SIGNALS if signal.getsignal(name) is not signal.SIG_IGN]


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
