"""How images come to one size and number of channels, against Pillow, NumPy and by hand."""

from mlx_gmvae.data.fitting import Sizes, fit_images, note, proposed_size, with_channels
from mlx_gmvae.data.formats import is_image_name, left_out

import numpy as np
import pytest
from PIL import Image

rng = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_keeps_the_middle_and_pad_the_whole(channels: int) -> None:
    wide = rng.integers(0, 256, (1, 10, 30, channels), np.uint8)
    np.testing.assert_array_equal(fit_images(wide, (10, 10), "crop"), wide[:, :, 10:20])
    wide[:, [0, -1]] = wide[:, :, [0, -1]] = 77
    padded = fit_images(wide, (30, 30), "pad")
    np.testing.assert_array_equal(padded[:, 10:20], wide)
    assert (padded[:, :10] == 77).all() and (padded[:, 20:] == 77).all()
    high = wide.transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(fit_images(high, (10, 10), "crop"), high[:, 10:20])


@pytest.mark.parametrize("channels", [1, 3])
def test_stretch_is_pillows_bicubic(channels: int) -> None:
    images = rng.integers(0, 256, (2, 9, 12, channels), np.uint8)
    found = fit_images(images, (5, 20), "stretch")
    for image, fitted in zip(images, found, strict=True):
        for channel in range(channels):
            plane = Image.fromarray(image[..., channel]).resize((20, 5), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(fitted[..., channel], np.asarray(plane))


def test_images_of_the_right_size_stay() -> None:
    images = rng.integers(0, 256, (2, 9, 12, 3), np.uint8)
    for how in ("crop", "pad", "stretch"):
        assert fit_images(images, (9, 12), how) is images


def test_channels_are_repeated_or_weighed_as_pillow_does() -> None:
    colour = rng.integers(0, 256, (3, 4, 5, 3), np.uint8)
    grey = with_channels(colour, 1)
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(grey[..., 0] - luma).max() <= 1
    np.testing.assert_array_equal(with_channels(grey, 3), grey.repeat(3, axis=-1))
    assert with_channels(colour, 3) is colour


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 20)] * 3, (28, 20)),
        ([(3000, 2000)] * 3, (3000, 2000)),  # one size is kept, however large
        ([(3000, 4000)] * 3 + [(4000, 3000)], (48, 64)),
        ([(3000, 4000), (4000, 3000)], (64, 64)),
        ([(40, 50), (44, 50)], (40, 48)),
        ([(2, 9000), (3, 9000)], (4, 64)),
    ],
)
def test_a_size_is_proposed_from_the_median(
    sizes: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    assert proposed_size(sizes) == expected


def test_what_is_said_of_sizes() -> None:
    one = Sizes.of([(4, 6)] * 3)
    assert one.describe() == "images of 6 x 4"
    assert one.differ_from((4, 5)) and not one.differ_from((4, 6))
    many = Sizes.of([(4, 6)] * 3 + [(1, 1), (2, 2), (3, 3), (2, 2)])
    assert many.describe() == "images of 4 sizes (6 x 4 in 3, 2 x 2 in 2, 1 x 1 in 1 and 1 others)"
    assert many.differ_from((4, 6))
    assert note("here", one, (2, 3), "pad", chosen=True) == (
        "here: images of 6 x 4; each is resized and padded to 3 x 2 (width x height)"
    )


def test_what_is_left_out_is_counted_by_kind_remedies_first() -> None:
    names = ["a.txt", "b.TXT", "c", "d.heic", "e.mov", "f.x", "g.y", "h.z", "i.w"]
    line = left_out(names)
    assert line.startswith("1 .heic (pip install pillow-heif to read them), 2 .txt, ")
    assert line.endswith("and 2 other kinds")
    assert is_image_name("A.JPG") and is_image_name("b.gif") and not is_image_name("c.txt")
