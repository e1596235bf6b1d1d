"""Pictures show the right pixels in the right place."""

import resource
from pathlib import Path

from mlx_gmvae.report import figures

import numpy as np
import pytest
from pictures import as_bytes, cells, read
from PIL import Image, ImageSequence


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_images_row_by_row(tmp_path: Path, channels: int) -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full(
        (1, 60, 50, channels), 40, np.uint8
    )
    figures.save_grid(tmp_path / "g.png", images, columns=3)
    picture = read(tmp_path / "g.png").reshape(126, 158, -1)
    for number in range(5):
        top, left = 2 + number // 3 * 62, 2 + number % 3 * 52
        assert (picture[top : top + 60, left : left + 50] == 40 * number).all()
    assert (picture[64:, 106:] == 255).all()  # the sixth place is empty


def test_small_images_are_enlarged_by_a_whole_factor(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((1, 28, 20, 1))
    figures.save_grid(tmp_path / "g.png", images, columns=1)
    picture = read(tmp_path / "g.png")
    assert picture.shape == (2 * 28 + 4, 2 * 20 + 4)
    np.testing.assert_array_equal(cells(picture, 28, 20, 1), as_bytes(images))


def test_interleave_puts_reconstructions_below_originals() -> None:
    originals = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    rows = figures.interleave(originals, originals + 10, columns=2)
    assert rows.flatten().tolist() == [0, 1, 10, 11, 2, 255, 12, 255]


def test_unusual_channel_counts_can_still_be_saved(tmp_path: Path) -> None:
    image = np.stack([np.zeros((3, 3)), np.ones((3, 3))], axis=-1)
    figures.save_image(tmp_path / "two.png", image)
    assert (read(tmp_path / "two.png") == 128).all()


def test_frames_of_large_images_are_shrunk() -> None:
    images = np.zeros((2, 1000, 500, 3), np.uint8)
    images[:, 500:] = 255
    small = figures.shrunk(images, 96)
    assert small.shape == (2, 96, 48, 3)
    assert (small[:, :46] == 0).all() and (small[:, 50:] == 255).all()
    np.testing.assert_array_equal(figures.shrunk(images[:, :90, :80], 96), images[:, :90, :80])


@pytest.mark.draws
def test_an_animation_shows_its_frames_in_order(tmp_path: Path) -> None:
    frames = []
    for number, shade in enumerate((0, 128, 255)):
        path = tmp_path / f"{number}.png"
        pictures = [np.full((20, 30, 1), shade, np.uint8), np.full((10, 15, 3), shade, np.uint8)]
        figures.save_progress_frame(path, pictures, f"epoch {number}")
        frames.append(path)
    figures.save_animation(tmp_path / "p.gif", frames)
    with Image.open(tmp_path / "p.gif") as animation:
        shown = ImageSequence.all_frames(animation, lambda frame: frame.convert("L"))
        assert len(shown) == 3
        for frame, shade in zip(map(np.array, shown), (0, 128, 255), strict=True):
            assert frame.shape == (36, 47)
            np.testing.assert_allclose(frame[16:, :30], shade, atol=2)
            np.testing.assert_allclose(frame[16:26, 32:], shade, atol=2)
            assert (frame[16:, 30:32] == 255).all() and (frame[26:, 32:] == 255).all()
        captions = [np.array(frame)[:16] for frame in shown]
        assert all((caption < 100).any() and (caption == 255).mean() > 0.5 for caption in captions)
        assert (captions[0] != captions[1]).any() and (captions[1] != captions[2]).any()


def test_an_animation_of_many_frames_opens_few_files_and_shows_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --save_every 1 makes them; macOS allows 256 open files."""
    monkeypatch.setattr(figures, "MOST_FRAMES", 60)
    frames = []
    for number in range(128):
        frames.append(tmp_path / f"{number}.png")
        Image.new("L", (16, 10), 2 * number).save(frames[-1])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 16, before[1]))
    try:
        figures.save_animation(tmp_path / "p.gif", frames)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with Image.open(tmp_path / "p.gif") as animation:
        shown = ImageSequence.all_frames(animation, lambda frame: frame.convert("L"))
    shades = [int(np.array(frame)[5, 8]) for frame in shown]
    assert len(shades) == 60 and shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0, 254) and max(np.diff(shades)) <= 6

    monkeypatch.setattr(figures, "ANIMATED_PIXELS", 20 * 16 * 10)  # for the memory's sake
    figures.save_animation(tmp_path / "p.gif", frames)
    with Image.open(tmp_path / "p.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 20
