"""Handling of Ctrl-C and SIGTERM.

A script ends with status 130 and one line that says what is saved and how to continue. While it
imports its modules, `startup_signals.leave` ends it. Later `as_exceptions` turns the signal into a
KeyboardInterrupt, and in training `noticed` only records it.
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
_handled = threading.Event()  # set whenever Python has handled a signal


def say(how_to_go_on: str | None) -> None:
    """Set what is printed after "interrupted" from here on; with None nothing is printed.

    The text says what is saved and how to continue. Every phase that changes this sets it.
    """
    startup_signals.to_say = how_to_go_on


def how_to_go_on() -> str:
    """Return the text that is printed after "interrupted"."""
    return startup_signals.to_say or "run the same command again"


def finished() -> None:
    """Ignore Ctrl-C from here on, since the script has finished and printed everything."""
    say(None)
    # Whatever handler a second Ctrl-C has left, since Python's end would restore the default one.
    if startup_signals.is_script and _in_main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread for Ctrl-C and SIGTERM within this context."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        _handled.set()
        raise KeyboardInterrupt

    def hook(raised: Any) -> None:
        # Python cannot raise in a destructor or a callback from C, so interrupt again soon.
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
    """Yield a function that returns True after the first Ctrl-C or SIGTERM in this context.

    A second signal raises KeyboardInterrupt at once.
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
    """End the program with one line if Python does not handle a signal within `seconds`.

    Python handles signals only between its own instructions. Compiling the kernels of a step is a
    single instruction that can take minutes. What was saved before is kept.
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
        os.close(writer)  # ends the watcher
        watcher.join()
        os.close(reader)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if not _in_main_thread():  # only the main thread can set handlers
        yield
        return
    previous = {name: signal.signal(name, handler) for name in _heeded()}
    try:
        yield
    finally:
        for name, before in previous.items():
            signal.signal(name, before)


def _heeded() -> list[signal.Signals]:
    """Return the signals that are not ignored, as a shell does for background jobs."""
    return [name for name in SIGNALS if signal.getsignal(name) is not signal.SIG_IGN]


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
