"""Durations as people read them."""

from mlx_gmvae.formatting import duration

import pytest


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"), (45, "45 s"), (59.6, "1 min 0 s"), (200.4, "3 min 20 s"),
        (3599, "59 min 59 s"), (3660, "1 h 1 min"), (36_000, "10 h 0 min"),
    ],
)  # fmt: skip
def test_units_by_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text
