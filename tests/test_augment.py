"""Distortions: bilinear sampling against scipy, and what a random affine map must keep."""

from mlx_gmvae.clustering.affine import affine, bilinear
from mlx_gmvae.clustering.augment import (
    KINDS,
    Augmentation,
    colour,
    flip,
    kinds_of,
    strokes,
    suitable,
    two_tone,
)
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.errors import InputError

import mlx.core as mx
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import (
    affine_transform,
    convolve,
    generate_binary_structure,
    grey_dilation,
    grey_erosion,
    map_coordinates,
)
from sklearn.datasets import load_sample_images

rng = np.random.default_rng(0)
random_affine = Augmentation(["affine"])


def test_bilinear_is_scipys() -> None:
    x = rng.random((3, 9, 6, 2))
    rows, columns = rng.uniform(-2, 10, (3, 5, 4)), rng.uniform(-2, 8, (3, 5, 4))
    found = np.array(bilinear(mx.array(x), mx.array(rows), mx.array(columns)))
    for image in range(3):
        for channel in range(2):
            expected = map_coordinates(
                x[image, ..., channel], [rows[image], columns[image]], order=1, mode="nearest"
            )
            np.testing.assert_allclose(found[image, ..., channel], expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 6, 3), (1, 1, 1), (1, 7, 2)])
def test_any_shape_and_no_new_values(shape: tuple[int, int, int]) -> None:
    x = mx.array(rng.random((5, *shape), dtype=np.float32))
    y = random_affine(x)
    assert y.shape == x.shape
    assert float(x.min()) - 1e-6 <= float(y.min()) <= float(y.max()) <= float(x.max()) + 1e-6


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 6, 3)])
def test_a_map_is_scipys_affine_transform(shape: tuple[int, int, int]) -> None:
    """Shear, then rotation, then scale about the middle, then shift, as matrices."""
    x = rng.random((6, *shape))
    maps = rng.uniform(-1, 1, (6, 6))
    maps[:, 0] = 0
    found = np.array(affine(mx.array(x), mx.array(maps)))
    middle = (np.array(shape[:2]) - 1) / 2
    for image, (angle, shear, scale_y, scale_x, *shift) in enumerate(maps.T):
        turn = np.deg2rad(15 * angle)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        slant = np.array([[1, 0], [np.tan(np.deg2rad(12 * shear)), 1]])
        matrix = np.diag([1 + 0.15 * scale_y, 1 + 0.15 * scale_x]) @ rotation @ slant
        offset = middle + 2.5 / 28 * np.array(shift) * shape[:2] - matrix @ middle
        for channel in range(shape[2]):
            expected = affine_transform(
                x[image, ..., channel], matrix, offset, order=1, mode="nearest"
            )
            np.testing.assert_allclose(found[image, ..., channel], expected, atol=1e-4)
    np.testing.assert_allclose(found[0], x[0], atol=1e-6)  # nothing drawn, nothing moved


def test_maps_are_drawn_evenly_and_apart() -> None:
    mx.random.seed(0)
    maps = np.array(random_affine.draw(20_000))
    assert maps.shape == (6, 20_000)
    for each in maps:
        assert stats.kstest(each, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.corrcoef(maps), np.eye(6), atol=0.03)


def test_each_image_gets_its_own_map_each_time() -> None:
    mx.random.seed(0)
    x = mx.array(np.repeat(rng.random((1, 12, 12, 1)), 4, axis=0))
    first, second = np.array(random_affine(x)), np.array(random_affine(x))
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first[0], second[0])


def test_maps_are_small_and_centred() -> None:
    """A blob moves by at most the shift, and not on average; its mass stays about the same."""
    mx.random.seed(0)
    grid = np.arange(28)
    blob = np.exp(-((grid[:, None] - 13.5) ** 2 + (grid[None] - 13.5) ** 2) / 8)
    x = mx.array(np.repeat(blob[None, ..., None], 2000, axis=0))
    y = np.array(random_affine(x))[..., 0]
    mass = y.sum(axis=(1, 2))
    centre = np.stack([(y.sum(axis=2) @ grid) / mass, (y.sum(axis=1) @ grid) / mass])
    assert 2 < np.abs(centre - 13.5).max() < 4  # 2.5 pixels, rotated, sheared and scaled
    assert np.abs(centre.mean(axis=1) - 13.5).max() < 0.15
    assert mass.mean() == pytest.approx(blob.sum(), rel=0.05)


def drawn(kind: str, *columns: list[float]) -> mx.array:
    """Numbers for one image per column, in the middle of their range where none are given."""
    numbers = np.zeros((KINDS[kind][1], len(columns)), np.float32)
    for column, given in enumerate(columns):
        numbers[: len(given), column] = given
    return mx.array(numbers)


@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_strokes_are_scipys_grey_morphology(ground: float) -> None:
    cross = generate_binary_structure(2, 1)
    image = np.zeros((12, 12))
    image[3:9, 3:9] = rng.random((6, 6))
    image = np.abs(ground - image)
    x = mx.array(np.repeat(image[None, ..., None], 4, axis=0).astype(np.float32))
    thick, thin, outlined, blurred = np.array(
        strokes(x, drawn("strokes", [1, 1, 1], [-1, 1, 1], [0, -1, 1], [0, 1, -1]))
    )[..., 0]
    upper = grey_dilation(image, footprint=cross)
    lower = grey_erosion(image, footprint=cross)
    np.testing.assert_allclose(thick, upper, atol=1e-6)
    np.testing.assert_allclose(thin, lower, atol=1e-6)
    np.testing.assert_allclose(
        outlined, 1 - (image - lower) if ground else upper - image, atol=1e-6
    )
    kernel = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8
    np.testing.assert_allclose(blurred, convolve(image, kernel, mode="nearest"), atol=1e-6)


def test_a_mirror_turns_half_of_the_images() -> None:
    x = mx.array(rng.random((2, 5, 4, 3), dtype=np.float32))
    found = np.array(flip(x, mx.array([[0.5, -0.5]])))
    np.testing.assert_array_equal(found[0], x[0])
    np.testing.assert_array_equal(found[1], np.array(x[1])[:, ::-1])


def test_colours_change_in_light_contrast_and_saturation() -> None:
    image = rng.uniform(0.4, 0.6, (6, 5, 3)).astype(np.float32)
    x = mx.array(np.repeat(image[None], 5, axis=0))
    numbers = drawn("colour", [0.5, 0, 0, 1], [0, 0.5, 0, 1], [0, 0, 0.5, 1], [0, 0, 0, -1],
                    [0, 0, 0, 1, 1, 0, -1])  # fmt: skip
    bright, contrast, vivid, grey, tinted = np.array(colour(x, numbers))
    np.testing.assert_allclose(bright, image * 1.2, rtol=1e-5)
    np.testing.assert_allclose(contrast - image.mean(), 1.2 * (image - image.mean()), atol=1e-5)
    level = image.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(vivid - level, 1.3 * (image - level), atol=1e-5)
    np.testing.assert_allclose(grey, np.repeat(level, 3, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(tinted, image * [1.2, 1, 0.8], rtol=1e-5)


def test_kinds_are_applied_in_their_order_each_with_its_own_numbers() -> None:
    x = mx.array(rng.random((4, 9, 7, 3), dtype=np.float32))
    both = Augmentation(["affine", "flip"])
    numbers = both.draw(4)
    assert numbers is not None and numbers.shape == (7, 4)
    expected = affine(flip(x, numbers[:1]), numbers[1:])
    np.testing.assert_array_equal(both(x, numbers), expected)
    np.testing.assert_array_equal(Augmentation([])(x), x)
    assert Augmentation([]).draw(4) is None


def test_the_images_decide_what_suits_them(digits: Splits) -> None:
    drawings = digits.train.images[:120].repeat(3, axis=1).repeat(3, axis=2)
    framed = np.pad(drawings, [(0, 0), (2, 2), (2, 2), (0, 0)])
    assert suitable(framed)[0] == "affine,strokes"
    assert suitable(255 - framed)[0] == "affine,strokes"
    # Whether strokes touch the border, and which ground they are on, makes no difference.
    stretched = digits.train.images[:120].copy()
    stretched[::10] = 255 - stretched[::10]
    assert suitable(stretched)[0] == "affine,strokes"
    both_ways = np.concatenate([framed, framed[:, :, ::-1]])
    assert suitable(both_ways)[0] == "affine,strokes,flip"
    photo = load_sample_images().images[0]
    crops = np.stack([photo[r : r + 32, c : c + 32] for r in range(0, 390, 60) for c in range(0, 600, 60)])  # fmt: skip # noqa: E501
    assert "colour" in suitable(crops)[0] and "strokes" not in suitable(crops)[0]
    grey = crops.mean(axis=-1, keepdims=True).astype(np.uint8)
    assert "strokes" not in suitable(grey)[0]


def test_drawings_have_two_tones_and_photographs_have_not(digits: Splits) -> None:
    """The limit of a half lies far from both."""
    ramp = np.linspace(0, 255, 256).reshape(1, 16, 16, 1).astype(np.uint8)
    assert two_tone(ramp) == pytest.approx(0.25, abs=0.02)
    half = np.where(np.arange(16)[:, None, None] < 8, 10, 60).astype(np.uint8)
    assert two_tone(np.broadcast_to(half, (5, 16, 16, 1))) == 1
    assert two_tone(digits.train.images) > 0.6
    photos = np.stack([photo[:384, :384] for photo in load_sample_images().images])
    assert two_tone(photos) < 0.35


def test_unknown_kinds_are_named() -> None:
    assert kinds_of("none") == [] and kinds_of("flip,affine") == ["flip", "affine"]
    with pytest.raises(InputError, match="augment is 'affine,turn'; it must be auto, none, or a"):
        kinds_of("affine,turn")
