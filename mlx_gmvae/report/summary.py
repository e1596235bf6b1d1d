"""Results of a run in a single HTML page, which needs no network and no other file."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..system.files import atomic_write
from . import figures

TEMPLATE = Path(__file__).with_suffix(".html")
SMALLEST_SIDE, SMALLEST_ALONE = 40, 96  # smallest side in pixels, in a row and alone


class Picture(NamedTuple):
    """A caption above images (N, H, W, C) in rows, or above the file of a diagram."""

    caption: str
    content: np.ndarray | Path
    columns: int = 10


class Block(NamedTuple):
    """A section of the page: a heading, a text, named figures, pictures, and a table.

    The first row of the table has the titles of its columns.
    """

    heading: str
    text: str = ""
    figures: Mapping[str, str] = MappingProxyType({})
    pictures: Sequence[Picture] = ()
    table: Sequence[Sequence[str]] = ()


def write_summary(path: Path, title: str, blocks: list[Block]) -> None:
    """Write the page. All texts are escaped, so markup in them has no effect."""
    body = "\n".join(map(_section, blocks))
    page = TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("<!--TITLE-->", escape(title)).replace("<!--BODY-->", body)
    with atomic_write(path) as written:
        written.write_text(page, encoding="utf-8", errors="replace")


def _section(block: Block) -> str:
    parts = [f"<section><h2>{escape(block.heading)}</h2>" if block.heading else "<section>"]
    if block.text:
        parts.append(f"<p>{escape(block.text)}</p>")
    if block.figures:
        rows = (
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in block.figures.items()
        )
        parts.append(f"<table>{''.join(rows)}</table>")
    if block.table:
        titles, *others = block.table
        head = "".join(f"<th>{escape(title)}</th>" for title in titles)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in others)
        parts.append(f"<table><tr>{head}</tr>{body}</table>")
    if block.pictures:
        parts.append(f"<div class=pictures>{''.join(map(_figure, block.pictures))}</div>")
    return "".join(parts) + "</section>"


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    if isinstance(picture.content, Path):
        kind, encoded = "diagram", picture.content.read_bytes()
    else:
        kind = "pixels"
        small = figures.shrunk(picture.content, figures.SHOWN_SIDE)
        smallest = SMALLEST_SIDE if picture.columns > 1 else SMALLEST_ALONE
        encoded = figures.as_png(figures.grid(small, picture.columns, smallest))
    source = "data:image/png;base64," + base64.b64encode(encoded).decode()
    return (
        f"<figure><figcaption>{caption}</figcaption>"
        f'<img class={kind} alt="{caption}" src="{source}"></figure>'
    )
