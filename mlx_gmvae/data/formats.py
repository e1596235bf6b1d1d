"""Image formats by file suffix, and the packages that read further ones."""

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable
from functools import cache

from PIL import features

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".gif",
    ".pbm", ".pgm", ".ppm", ".pnm",
)  # fmt: skip
HEIF = (".heic", ".heif")
AVIF = (".avif",)
JPEG_2000 = (".jp2", ".j2k")
REMEDIES = dict.fromkeys(HEIF, "pip install pillow-heif") | dict.fromkeys(
    AVIF + JPEG_2000, "pip install --upgrade pillow"
)
SUFFIXES_SHOWN = 6


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image format that can be read."""
    suffix = suffix_of(name)
    if suffix in HEIF:
        return _reads_heif()
    if suffix in AVIF:
        return _reads("avif")
    if suffix in JPEG_2000:
        return _reads("jpg_2000")
    return suffix in SUFFIXES


def suffix_of(name: str) -> str:
    """Return the suffix of a file name from its last dot, in lower case."""
    return os.path.splitext(name)[1].lower()


@cache
def _reads_heif() -> bool:
    """Return whether HEIF, the format of iPhone photographs, can be read; enable it if so."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


@cache
def _reads(feature: str) -> bool:
    """Return whether Pillow was built with a feature."""
    return bool(features.check(feature))


def left_out(names: Iterable[str]) -> str:
    """Return how many files of each suffix are not read, those with a remedy first.

    >>> left_out(["a.mov", "b.txt", "c.mov"])
    '2 .mov, 1 .txt'
    """
    counts = Counter(suffix_of(name) or "without a suffix" for name in names)
    shown = []
    in_order = sorted(counts.most_common(), key=lambda item: item[0] not in REMEDIES)
    for suffix, num in in_order[:SUFFIXES_SHOWN]:
        remedy = f" ({REMEDIES[suffix]} to read them)" if suffix in REMEDIES else ""
        shown.append(f"{num:,} {suffix}{remedy}")
    if len(counts) > SUFFIXES_SHOWN:
        shown.append(f"and {len(counts) - SUFFIXES_SHOWN:,} other kinds")
    return ", ".join(shown)
