"""Image files of every format, depth and orientation come back as what they show."""

from pathlib import Path
from typing import Any

from mlx_gmvae.data.decode import decode, read_header
from mlx_gmvae.data.fitting import FITS, fit, fit_images

import numpy as np
import pytest
from pictures import FLOWER, PHOTO, write
from PIL import Image

QUARTER_TURN = 6  # EXIF orientation: the camera lay on its side


def decoded(path: Path) -> np.ndarray:
    header = read_header(str(path))
    channels = 1 if header.is_grey else 3
    return decode(str(path), channels, (header.height, header.width), "crop")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".PNG", ".tiff"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(decoded(write(tmp_path, "a" + suffix)), np.asarray(PHOTO))


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_formats_come_back_nearly(tmp_path: Path, suffix: str) -> None:
    found = decoded(write(tmp_path, "a" + suffix, quality=95)).astype(int)
    assert np.abs(found - np.asarray(PHOTO)).mean() < 4


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for suffix in (".png", ".tif"):
        path = write(tmp_path, "deep" + suffix, Image.fromarray(values * 257))
        np.testing.assert_array_equal(decoded(path)[..., 0], values)


def test_palette_one_bit_cmyk_and_alpha(tmp_path: Path) -> None:
    palette = PHOTO.quantize(16)
    np.testing.assert_array_equal(
        decoded(write(tmp_path, "p.png", palette)), np.asarray(palette.convert("RGB"))
    )
    bits = PHOTO.convert("1")
    found = decoded(write(tmp_path, "b.png", bits))
    np.testing.assert_array_equal(found[..., 0], np.asarray(bits) * 255)
    cmyk = decoded(write(tmp_path, "c.jpg", PHOTO.convert("CMYK"), quality=95))
    assert np.abs(cmyk.astype(int) - np.asarray(PHOTO)).mean() < 8
    clear = PHOTO.convert("RGBA")
    clear.putalpha(0)
    assert (decoded(write(tmp_path, "rgba.png", clear)) == 255).all()
    half = PHOTO.convert("LA")
    half.putalpha(128)
    found = decoded(write(tmp_path, "la.png", half))[..., 0]
    grey = np.asarray(PHOTO.convert("L")).astype(float)
    np.testing.assert_allclose(found, grey * (128 / 255) + 255 * (127 / 255), atol=1)


def test_transparent_palette_is_flattened_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    found = decoded(write(tmp_path, "p.png", image, transparency=1))
    assert found[0, 0].tolist() == [255, 0, 0] and (found[1:] == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_animations_give_their_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    path = write(
        tmp_path, "a" + suffix, frames[0], save_all=True, append_images=frames[1:], **options
    )
    np.testing.assert_array_equal(decoded(path), np.asarray(frames[0]))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = QUARTER_TURN
    options_of: dict[str, dict[str, Any]] = {".jpg": {"quality": 95}, ".webp": {"lossless": True}}
    options = options_of.get(suffix, {})
    path = write(tmp_path, "a" + suffix, exif=exif, **options)
    assert read_header(str(path))[:2] == (48, 32)
    grey = write(tmp_path, "grey" + suffix, PHOTO.convert("L"), exif=exif, **options)
    turned = PHOTO.transpose(Image.Transpose.ROTATE_270)
    for found, expected in [(path, turned), (grey, turned.convert("L").convert("RGB"))]:
        assert np.abs(decoded(found).astype(int) - np.asarray(expected)).mean() < 4


@pytest.mark.parametrize("how", FITS)
def test_fitting_at_decode_time_is_that_of_arrays(tmp_path: Path, how: str) -> None:
    path = write(tmp_path, "a.png")
    found = decode(str(path), 3, (9, 20), how)
    np.testing.assert_array_equal(found, fit_images(np.asarray(PHOTO)[None], (9, 20), how)[0])
    large = write(tmp_path, "large.jpg", FLOWER, quality=95)  # read at an eighth, then fitted
    exact = fit_images(np.asarray(FLOWER)[None], (10, 15), how)[0].astype(int)
    assert np.abs(decode(str(large), 3, (10, 15), how) - exact).mean() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white_in_parts_as_in_whole(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels, "RGBA")
    picture = picture.quantize(16) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode and image.has_transparency_data
    whole = decode(str(tmp_path / "a.png"), 3, (9, 11), "crop")
    monkeypatch.setattr("mlx_gmvae.data.decode.PIXELS_AT_ONCE", 5)
    np.testing.assert_array_equal(decode(str(tmp_path / "a.png"), 3, (9, 11), "crop"), whole)
    assert len(np.unique(whole)) > 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (4, 4), (13, 9, 3), (40, 31, 3)])
def test_a_picture_is_padded_by_the_median_of_its_border(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    padded = np.asarray(fit(Image.fromarray(pixels), (200, 20), "pad"))
    np.testing.assert_array_equal(padded[0, 0], np.median(border, axis=0).astype(int))
