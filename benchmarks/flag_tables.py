"""Tables of the scripts' flags, from their argument parsers, for docs/reference/flags.md."""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlx_gmvae.cli.script import Parser

SCRIPTS = ("train", "cluster", "generate", "reconstruct")
NO_FLAGS_OF_THEIRS = ("help", "version", "help_all")  # which every script has
DEFAULT = re.compile(r" ?\(default: ([^()]*)\)$")
Row = tuple[str, str, str]  # flag, what it does, default


class _Built(Exception):
    """Raised by a parser that is complete, in place of parsing."""

    def __init__(self, parser: Parser):
        self.parser = parser


def parser_of(script: str) -> Parser:
    """Return the argument parser of a script."""

    def caught(parser: Parser, *_: object) -> None:
        raise _Built(parser)

    module = import_module(f"mlx_gmvae.cli.{script}")
    with mock.patch.object(Parser, "parse_args", caught):
        try:
            module.parse_arguments([])
        except _Built as built:
            return built.parser
    raise AssertionError(f"{script} builds no parser")


def groups_of(script: str) -> dict[str, list[Row]]:
    """Return the flags of a script by the title of their group, without hidden ones."""
    return {
        group.title or "": [
            row_of(action)
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and action.dest not in NO_FLAGS_OF_THEIRS
        ]
        for group in parser_of(script)._action_groups
    }


def row_of(action: argparse.Action) -> Row:
    """Return the cells of a flag: as it is typed, its meaning, its default."""
    flag = ", ".join(action.option_strings)
    if action.choices is not None:
        flag += " {" + ",".join(map(str, action.choices)) + "}"
        flag += " ..." * (action.nargs == "+")
    elif isinstance(action.metavar, tuple):
        flag += " " + " ".join(action.metavar)
    elif action.nargs != 0:
        name = action.metavar or action.dest.upper()
        flag += f" {name}" + f" [{name} ...]" * (action.nargs == "+")
    text = (action.help or "").replace("%%", "%")
    found = DEFAULT.search(text) if text.count("(default: ") == 1 else None
    text, default = (text[: found.start()], found[1]) if found else (text, "")
    return f"`{_escaped(flag)}`", _in_words(text), _in_words(default)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _in_words(text: str) -> str:
    """Return text in which flags are code, and `<`, `*` and `_` no markup."""
    parts = re.split(r"(--\w+)", _escaped(text))  # every second one is a flag
    parts[::2] = [re.sub(r"([<*_])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    return "".join(parts)


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Return rows as a Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shared_rows() -> dict[Row, list[str]]:
    """Return the flags that are the same in several scripts, and which scripts those are."""
    found: dict[Row, list[str]] = {}
    for script in SCRIPTS:
        for rows in groups_of(script).values():
            for row in rows:
                found.setdefault(row, []).append(f"{script}.py")
    return {row: scripts for row, scripts in found.items() if len(scripts) > 1}


def shared() -> str:
    """Return the table of the flags that several scripts have."""
    rows = [(*row, ", ".join(scripts)) for row, scripts in shared_rows().items()]
    return table(rows, ("flag", "meaning", "default", "scripts"))


def own(script: str) -> str:
    """Return the tables of the flags that a script alone has, a heading for each group."""
    others = shared_rows()
    parts = []
    for title, rows in groups_of(script).items():
        left: list[tuple[str, ...]] = [row for row in rows if row not in others]
        if left:
            heading = "" if title in ("options", "optional arguments") else f"**{title}**\n\n"
            parts.append(heading + table(left, ("flag", "meaning", "default")))
    return "\n\n".join(parts)
