"""Image files of every format, depth and orientation come back as what they show."""

import struct
import zlib
from pathlib import Path
from typing import Any

from mlx_gmvae.data.decode import decode, read_header, read_largest
from mlx_gmvae.data.depth import bits_of
from mlx_gmvae.data.fitting import FITS, fit, fit_images, proposed_size

import numpy as np
import pytest
import tifffile
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


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_values_of_fewer_bits_are_scaled_by_them(suffix: str, bits: int, tmp_path: Path) -> None:
    levels = np.arange(256).reshape(16, 16)
    values = np.rint(levels * ((2**bits - 1) / 255)).astype(np.uint16)
    path = str(write(tmp_path, "deep" + suffix, Image.fromarray(values)))
    assert read_header(path).is_deep and bits_of(read_largest(path)) == bits
    np.testing.assert_array_equal(decode(path, 1, (16, 16), "crop", bits)[..., 0], levels)


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zlib", "byteorder": ">"},
    ],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_values_of_twelve_bits_in_colour(
    options: dict[str, Any] | None, channels: int, tmp_path: Path
) -> None:
    """Of which Pillow gives the upper 8 of 16 bits, here 4."""
    levels = np.random.default_rng(0).integers(0, 256, (9, 7, channels))
    levels[..., 3:] = 255
    values = np.rint(levels * (4095 / 255)).astype(np.uint16)
    path = tmp_path / ("deep.png" if options is None else "deep.tif")
    if options is None:
        path.write_bytes(deep_png(values))
    else:
        kind: dict[str, Any] = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(path, values, photometric="rgb", **kind, **options)
    assert bits_of(read_largest(str(path))) == 12
    found = decode(str(path), 3, (9, 7), "crop", bits=12)
    np.testing.assert_array_equal(found, levels[..., :3])


def deep_png(values: np.ndarray) -> bytes:
    """A PNG in colour of 16 bits a channel, which Pillow does not write."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )


def test_formats_that_say_their_depth_are_taken_at_their_word(tmp_path: Path) -> None:
    values = np.arange(1000, 1006, dtype=">u2").reshape(2, 3)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 2 4095\n" + values.tobytes())
    assert not read_header(str(tmp_path / "a.pgm")).is_deep
    expected = np.rint(values.astype(float) * (255 / 4095))
    found = decode(str(tmp_path / "a.pgm"), 1, (2, 3), "crop", bits=10)[..., 0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:Image size")  # which loading a folder ignores
def test_a_large_jpeg_is_read_at_a_fraction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write(tmp_path, "phone.jpg", FLOWER, quality=95))
    plain = str(write(tmp_path, "scan.png", FLOWER))
    for limit in (FLOWER.width * FLOWER.height - 1, FLOWER.width * FLOWER.height // 3):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # of which Pillow opens twice as many
        assert read_header(path)[:2] == (427, 640)
        small = decode(path, 3, (20, 30), "crop").astype(int)
        exact = fit_images(np.asarray(FLOWER)[None], (20, 30), "crop")[0]
        assert np.abs(small - exact).mean() < 4
        with pytest.raises(Image.DecompressionBombError, match="smaller --image_size"):
            decode(path, 3, (427, 640), "crop")
        for read in (read_header, lambda path: decode(path, 3, (20, 30), "crop")):
            with pytest.raises(Image.DecompressionBombError, match="save it as a JPEG, or with at"):
                read(plain)
        assert proposed_size([(427, 640)] * 2) == (44, 64)


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
