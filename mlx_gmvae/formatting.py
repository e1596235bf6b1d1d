"""Formatting of durations, tables, epochs and the names of splits for printed lines."""

from collections.abc import Sequence

SETS = {"train": "training images", "test": "held-out images", "all": "all images"}


def duration(seconds: float) -> str:
    """Return seconds in words: 45 s, 3 min 20 s or 1 h 5 min.

    >>> duration(200.4)
    '3 min 20 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of texts, with columns as wide as their widest text.

    >>> aligned([["", "ARI"], ["k-means", "0.5"]])
    ['         ARI', 'k-means  0.5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return [line.rstrip() for line in lines]


def epoch_line(record: dict[str, float], seconds_left: float) -> str:
    """Return the line that is printed after an epoch."""
    left = f" | Left {duration(seconds_left)}" if seconds_left else ""
    return (
        f"Epoch {record['epoch']:4.0f} | Loss {record['loss']:10.3f} | "
        f"Throughput {record['throughput']:8.0f} im/s | Time {record['seconds']:7.1f} s{left}"
    )
