"""Common behaviour of the four scripts: parsing, exit codes, Ctrl-C and printed lines."""

import argparse
import contextlib
import errno
import functools
import io
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn, TextIO

from .. import __version__
from ..device import distributed
from ..errors import InputError, did_you_mean
from ..system import interrupts

EXIT_BAD_INPUT = 2
WIDTH = 100  # characters in a line of help
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota or file-size limit reached
_lines: ContextVar[TextIO | None] = ContextVar("_lines", default=None)


class Parser(argparse.ArgumentParser):
    """An argument parser whose flags have underscores, as documented, or dashes.

    `--help` ends with the `examples` and omits the `rare` flags; `--help_all` lists all flags.
    """

    def __init__(self, description: str, examples: Sequence[str] = (), rare: Sequence[str] = ()):
        super().__init__(
            prog=Path(sys.argv[0]).name,
            description=textwrap.fill(description, WIDTH - 2),
            epilog="\n  ".join(["examples:", *examples]) if examples else None,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=WIDTH),
        )
        self.rare = rare
        self.given: list[str] = []
        self.add_argument("--version", action="version", version=f"mlx_gmvae {__version__}")
        if rare:
            text = f"show all flags, with the {len(rare)} that are rarely needed, and exit"
            self.add_argument("--help_all", action=_HelpAll, nargs=0, help=text)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
            import argcomplete

            argcomplete.autocomplete(self)
        args = sys.argv[1:] if args is None else args
        self.given = [_underscored(argument) for argument in args]
        given = super().parse_args(self.given, namespace)
        for action in self._actions:  # an empty name would look like a flag that was not given
            values = getattr(given, action.dest, None)
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, str) and not value.strip():
                    self.error(f"{action.option_strings[0]} is empty; give it a value")
        return given

    def format_help(self) -> str:
        hidden = [action for action in self._actions if action.dest in self.rare]
        texts = [action.help for action in hidden]
        for action in hidden:
            action.help = argparse.SUPPRESS
        try:
            return super().format_help()
        finally:
            for action, text in zip(hidden, texts, strict=True):
                action.help = text

    def error(self, message: str) -> NoReturn:
        for argument in self.given:
            flag = argument.partition("=")[0]
            meant = self._meant(flag)
            if meant:  # also if argparse reports something else first, such as a missing flag
                message = f"unrecognized arguments: {flag}{meant}"
                break
        raise InputError(f"{message} (see {self.prog} --help)")

    def _meant(self, flag: str) -> str:
        """Return a suggestion for an unknown flag that resembles a known one, else ""."""
        known = self._option_string_actions
        return did_you_mean(flag, known) if flag.startswith("--") and flag not in known else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        assert isinstance(parser, Parser)
        parser.rare = ()
        parser.print_help()
        parser.exit()


def _underscored(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def script(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Wrap a script's `main(argv)`: bad input prints one line and exits with 2, Ctrl-C with 130."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> int:
        with json_lines("--json" in (sys.argv[1:] if argv is None else argv)):
            return guarded(argv)

    def guarded(argv: list[str] | None) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # file names may be undecodable
                stream.reconfigure(errors="backslashreplace")
        interrupts.say(interrupts.NOTHING_YET)
        try:
            with interrupts.as_exceptions():
                status = main(argv)
                sys.stdout.flush()
                return status
        except InputError as error:
            message = str(error)
        except BrokenPipeError:  # nobody reads our output any more
            _discard_stdout()
            return 0
        except OSError as error:
            place = f"cannot use {error.filename}: " if error.filename else ""
            message = f"{place}{error.strerror or error}"
            if error.errno == errno.EROFS:
                message += "; choose a folder that can be written"
            if error.errno in FULL:
                message += f" (make room for it); {interrupts.how_to_go_on()}"
                if not _can_print():
                    _discard_stdout()
        except MemoryError:
            message = "not enough memory; use smaller or fewer images"
        except RuntimeError as error:
            if not distributed.has_lost_another(error):
                raise
            message = f"another process of this training has stopped ({error}); "
            message += interrupts.how_to_go_on()
        except KeyboardInterrupt:
            message = ""  # printed below, when the progress bar has gone
        finally:
            last_words = interrupts.line()
            interrupts.finished()
        if not message:
            print(last_words, flush=True)
            return interrupts.STATUS
        print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
        return EXIT_BAD_INPUT

    return wrapped


def _can_print() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _discard_stdout() -> None:
    """Redirect stdout to the null device, so that Python does not flush it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command_line(name: str) -> list[str]:
    """Return the words that call a script in the same way as this one.

    That is an installed command, or a file in a clone of the repository.
    """
    installed = sys.argv[0].startswith(f"{interrupts.COMMAND} ")
    return [interrupts.COMMAND, name] if installed else ["python", f"{name}.py"]


@contextlib.contextmanager
def json_lines(wanted: bool) -> Iterator[None]:
    """Reserve stdout for `log_json` within the context and send all else to stderr, if `wanted`."""
    if not wanted:
        yield
        return
    token = _lines.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _lines.reset(token)


def log_json(event: str, values: dict[str, Any]) -> None:
    """Print a line of JSON on stdout if --json was given."""
    lines = _lines.get()
    if lines is not None:
        print(json.dumps({"event": event, **values}), file=lines, flush=True)


def print_options(options: dict[str, Any]) -> None:
    """Print the options in use as an aligned block."""
    width = max(map(len, options))
    for name, value in options.items():
        print(f"  {name:<{width}}  {value}")


def print_scores(title: str, scores: dict[str, float]) -> None:
    """Print a line of named scores."""
    print(f"{title}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items()))


def require_at_least(name: str, value: int | None, least: int) -> None:
    """Raise InputError if a number on the command line is too small; None (not given) is valid."""
    if value is not None and value < least:
        raise InputError(f"--{name} is {value}; it must be at least {least}")
