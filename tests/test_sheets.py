"""Sheets for people: where the images and the captions are, in the pixels."""

from pathlib import Path

from mlx_gmvae.report import sheets
from mlx_gmvae.report.sheets import Section, save_sheet

import numpy as np
import pytest
from pictures import read

rng = np.random.default_rng(0)


def found_at(sheet: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
    """The places (top, left) at which an image lies in a sheet, pixel by pixel."""
    height, width = image.shape[:2]
    starts = np.argwhere((sheet == image[0, 0]).all(axis=-1))
    return [
        (top, left)
        for top, left in starts.tolist()
        if np.array_equal(sheet[top : top + height, left : left + width], image)
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_in_rows_below_their_headings(tmp_path: Path, channels: int) -> None:
    images = rng.integers(0, 200, (8, 60, 50, channels), np.uint8)
    save_sheet(tmp_path / "s.png", "title", [
        Section("first", images[:5], columns=3), Section("", images[5:6]),
        Section("none", images[:0]), Section("last", images[6:]),
    ])  # fmt: skip
    sheet = read(tmp_path / "s.png")
    shown = np.broadcast_to(images, (8, 60, 50, 3)) if channels == 3 else images.repeat(3, -1)
    places = [found_at(sheet, image) for image in shown]
    assert all(len(each) == 1 for each in places)
    (tops, lefts) = np.array([each[0] for each in places]).T
    assert (np.diff(lefts[[0, 1, 2]]) > 50).all() and lefts[3] == lefts[0] == lefts[5]
    assert tops[0] == tops[1] == tops[2] < tops[3] - 60 and tops[4] + 60 < tops[5] < tops[6] - 60
    assert (sheet[: tops[0]] < 128).any()  # the title, in black
    assert (sheet[tops[5] + 60 : tops[6]] < 128).any()  # a heading
    assert not (sheet[tops[4] + 60 : tops[5]] < 255).any()  # none


def test_captions_are_below_their_images_and_fit(tmp_path: Path) -> None:
    images = rng.integers(0, 200, (3, 112, 112, 3), np.uint8)
    long = "a very long name of a file that nobody could read in full.jpg"
    captions = [["one", "two"], [long], ["three"]]
    save_sheet(tmp_path / "s.png", "t", [Section("", images, captions, 3)])
    sheet = read(tmp_path / "s.png")
    below = [found_at(sheet, image)[0] for image in images]
    for (top, left), lines in zip(below, captions, strict=True):
        for line in range(2):
            first = top + 113 + line * 13
            written = (sheet[first : first + 13, left : left + 112] < 200).any()
            assert written == (line < len(lines))
        assert (sheet[top:, left + 112 : left + 116] == 255).all()  # nothing runs into the next
    assert sheets._shortened(long, 112).startswith("a ver") and "…" in sheets._shortened(long, 112)
    assert sheets._shortened(long, 112).endswith(".jpg")


def test_small_images_are_enlarged_by_whole_factors_and_large_ones_reduced(tmp_path: Path) -> None:
    small = rng.integers(0, 200, (1, 8, 8, 1), np.uint8)
    save_sheet(tmp_path / "s.png", "t", [Section("", small)])
    assert len(found_at(read(tmp_path / "s.png"), np.kron(small[0], np.ones((7, 7, 3))))) == 1
    large = rng.integers(0, 256, (1, 1000, 500, 3), np.uint8)
    save_sheet(tmp_path / "l.png", "t", [Section("", large)])
    assert read(tmp_path / "l.png").shape[0] < 256 + 60
