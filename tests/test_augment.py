"""Distortions: bilinear sampling against scipy, and what a random affine map must keep."""

from mlx_gmvae.clustering.augment import bilinear, draw_maps, random_affine

import mlx.core as mx
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import affine_transform, map_coordinates

rng = np.random.default_rng(0)


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
    found = np.array(random_affine(mx.array(x), mx.array(maps)))
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
    maps = np.array(draw_maps(20_000))
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
