"""Contact sheets of images, with a title, headed sections and a caption below each image."""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..system.files import atomic_write
from . import figures

COLUMNS = 10
MARGIN = 4
TITLE_SIZE, HEADING_SIZE, CAPTION_SIZE = 18, 14, 10
SMALLEST_SIDE = 56
SMALLEST_CAPTIONED_SIDE = 112
LARGEST_SIDE = 256
GREY = (110, 110, 110)


class Section(NamedTuple):
    """Images (N, H, W, C) in rows of `columns` below a heading, with optional caption lines."""

    heading: str
    images: np.ndarray
    captions: list[list[str]] | None = None
    columns: int = COLUMNS


def save_sheet(path: Path, title: str, sections: list[Section]) -> None:
    """Write a picture of all sections that have images, one below the other."""
    bands = [_text_band(title, TITLE_SIZE, "bold")]
    for section in sections:
        if len(section.images):
            if section.heading:
                bands.append(_text_band(section.heading, HEADING_SIZE))
            bands.append(_cells(section))
    width = max(band.width for band in bands)
    sheet = Image.new("RGB", (width, sum(band.height for band in bands) + MARGIN), "white")
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    with atomic_write(path) as written:
        sheet.save(written)


def _cells(section: Section) -> Image.Image:
    """Draw the images in rows; enlarge small ones by an integer factor and reduce large ones."""
    images = figures.shrunk(section.images, LARGEST_SIDE)
    smallest = SMALLEST_CAPTIONED_SIDE if section.captions else SMALLEST_SIDE
    factor = max(1, round(smallest / images.shape[2]))
    height, width = (side * factor for side in images.shape[1:3])
    lines = max(map(len, section.captions)) if section.captions else 0
    line_height = CAPTION_SIZE + 3
    across = min(section.columns, len(images))
    cell_width = max(width, SMALLEST_CAPTIONED_SIDE if lines else 0) + MARGIN
    cell_height = height + MARGIN + lines * line_height
    rows = math.ceil(len(images) / across)
    sheet = Image.new("RGB", (MARGIN + across * cell_width, rows * cell_height + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left = MARGIN + number % across * cell_width
        top = number // across * cell_height
        picture = figures.as_pillow(image).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(picture, (left, top))
        for line, text in enumerate(section.captions[number] if section.captions else []):
            shown = _shortened(text, cell_width - MARGIN)
            place = (left, top + height + 1 + line * line_height)
            pen.text(place, shown, fill=GREY if line else "black", font=font(CAPTION_SIZE))
    return sheet


def _text_band(text: str, size: int, weight: str = "") -> Image.Image:
    drawn = font(size, weight)
    band = Image.new("RGB", (math.ceil(drawn.getlength(text)) + 2 * MARGIN, size + 12), "white")
    ImageDraw.Draw(band).text((MARGIN, 4), text, fill="black", font=drawn)
    return band


def _shortened(text: str, width: int) -> str:
    """Shorten a text in its middle to fit `width` pixels, because names differ at their ends."""
    if font(CAPTION_SIZE).getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
        if font(CAPTION_SIZE).getlength(short) <= width:
            return short
    return "…"


@cache
def font(size: int, weight: str = "") -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans from matplotlib, because it has more letters than Pillow's own font."""
    import matplotlib

    name = f"DejaVuSans{'-Bold' if weight == 'bold' else ''}.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
