"""Lists of paths and of Pillow images, everywhere an array of images is."""

from pathlib import Path

import mlx_gmvae as mg
from mlx_gmvae import GMVAEClusterer
from mlx_gmvae.data.decode import decode
from mlx_gmvae.data.given import as_array
from mlx_gmvae.errors import InputError

import numpy as np
import pytest
from PIL import Image

DIGITS = Path(__file__).resolve().parent.parent / "pretrained/gmvae_digits_K10_dims_0008.npz"


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three photographs of different sizes, one of them grey and one turned by its EXIF."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("wide.png", "grey.png", "turned.jpg")]
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(paths[0])
    Image.fromarray(rng.integers(0, 256, (50, 50), np.uint8)).save(paths[1])
    turned = Image.fromarray(rng.integers(0, 256, (30, 70, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter turn
    turned.save(paths[2], exif=exif)
    return paths


def test_paths_become_one_array_of_a_common_size(photos: list[Path]) -> None:
    array = as_array(photos, "images")
    assert array.shape == (3, 48, 48, 3) and array.dtype == np.uint8  # medians, multiples of 4
    for row, path in enumerate(photos):
        np.testing.assert_array_equal(array[row], decode(str(path), 3, (48, 48), "crop"))
    assert as_array([str(photos[1])] * 2, "images").shape == (2, 50, 50, 1)  # all are grey
    assert as_array(tuple(photos), "images", shape=(8, 9, 1)).shape == (3, 8, 9, 1)


def test_open_images_are_treated_as_their_files(photos: list[Path]) -> None:
    opened = [Image.open(path) for path in photos]
    before = [image.size for image in opened]
    from_images, from_files = as_array(opened, "images"), as_array(photos, "images")
    # A JPEG that is decoded at a fraction of its size differs a little.
    assert np.abs(from_images.astype(int) - from_files).mean() < 2
    assert [image.size for image in opened] == before
    mixed = as_array([photos[0], opened[1]], "images", shape=(16, 16, 3))
    np.testing.assert_array_equal(mixed[0], decode(str(photos[0]), 3, (16, 16), "crop"))


def test_transparent_images_are_put_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    array = as_array([clear, Image.new("L", (4, 8), 7)], "images")
    assert array.shape[-1] == 3 and array[0].min() == 255 and array[1].max() == 7


def test_images_of_one_size_keep_their_pixels() -> None:
    deep = [Image.fromarray(np.full((3, 4), value, np.uint16)) for value in (1, 999)]
    assert as_array(deep, "images").max() == 999
    assert as_array([Image.new("RGB", (4, 3), "red")], "images").shape == (1, 3, 4, 3)


def test_twelve_bits_in_files_of_sixteen_are_not_dark(tmp_path: Path) -> None:
    paths = [tmp_path / "dim.png", tmp_path / "bright.png"]
    for path, value in zip(paths, (2048, 4095), strict=True):
        Image.fromarray(np.full((6, 6), value, np.uint16)).save(path)
    assert as_array(paths, "images").reshape(2, -1).max(axis=1).tolist() == [128, 255]


def test_what_cannot_be_read_is_named(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for last, problem in [
        (tmp_path / "text.png", r"images: .*text\.png cannot be read \(not an image\)"),
        (tmp_path / "none.png", r"images: .*none\.png cannot be read \(No such file"),
        (np.zeros((3, 3)), "images: image 3 cannot be read"),
    ]:
        with pytest.raises(InputError, match=problem):
            as_array([*photos, last], "images")


def test_a_model_takes_paths_of_any_size(photos: list[Path]) -> None:
    model = mg.load(DIGITS)
    by_hand = np.stack([decode(str(path), 1, (28, 28), "crop") for path in photos])
    np.testing.assert_array_equal(model.responsibilities(photos), model.responsibilities(by_hand))
    with Image.open(photos[0]) as image:
        assert model.encode([image, image.crop((0, 0, 20, 20))]).shape == (2, 8)


def test_an_estimator_takes_other_sizes_than_it_was_fitted_to(photos: list[Path]) -> None:
    options = {"arch": "mlp", "hidden_dims": 8}
    clusterer = GMVAEClusterer(
        2, latent_dims=2, model_options=options, max_iter=1, random_state=0
    ).fit([*photos, *photos])
    one_by_one = [clusterer.predict([path])[0] for path in photos]
    assert one_by_one == clusterer.predict(photos).tolist() == clusterer.labels_[:3].tolist()
