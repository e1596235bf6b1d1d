"""Features of files and arrays: at the encoder's resolution, kept, resumed after a kill."""

import dataclasses
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mlx_gmvae as mg
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.encoders.encode import encode_images, features_of
from mlx_gmvae.encoders.encoder import Encoder, load_encoder
from mlx_gmvae.encoders.kept import KeptFeatures
from mlx_gmvae.errors import InputError

import numpy as np
import pytest
from conftest import ROOT, largest_file
from encoder_oracle import FOLDER, photographs
from PIL import Image

HALF = 1e-3  # relative precision of what is kept


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(FOLDER / "dinov2")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of odd sizes in two folders, one turned by EXIF, one with alpha, one grey."""
    folder = tmp_path / "photos"
    for name, image in photographs().items():
        (folder / name).mkdir(parents=True)
        Image.fromarray(image).save(folder / name / "plain.png")
    turned = Image.fromarray(photographs()["wide"]).rotate(-90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by a quarter to the left
    turned.save(folder / "wide" / "turned.png", exif=exif)
    alpha = Image.fromarray(photographs()["tall"]).convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    alpha.save(folder / "tall" / "alpha.png")
    Image.fromarray(photographs()["tall"][..., 0]).save(folder / "tall" / "grey.png")
    return folder


def counted(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the encoder is given from now on, call by call."""
    calls: list[int] = []
    features = Encoder.features

    def count(self: Encoder, pixels: np.ndarray) -> np.ndarray:
        calls.append(len(pixels))
        return features(self, pixels)

    monkeypatch.setattr(Encoder, "features", count)
    return calls


def seen(encoder: Encoder, image: Image.Image) -> np.ndarray:
    return encoder.features(encoder.preprocessing.pixels(image)[None])[0]


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_files_are_seen_whole_and_upright(encoder: Encoder, photos: Path, tmp_path: Path) -> None:
    found = mg.encode_images(photos, encoder, tmp_path / "kept")
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    rows = dict(zip(names, found, strict=True))
    assert found.shape == (7, encoder.num_features) and found.dtype == np.float32
    pictures = {name: Image.fromarray(image) for name, image in photographs().items()}
    for name, picture in pictures.items():
        wanted = seen(encoder, picture)
        assert apart(rows[f"{name}/plain.png"], wanted) < HALF
    np.testing.assert_array_equal(rows["wide/turned.png"], rows["wide/plain.png"])
    white = Image.new("RGBA", pictures["tall"].size, "white")
    with Image.open(photos / "tall" / "alpha.png") as alpha:
        wanted = seen(encoder, Image.alpha_composite(white, alpha).convert("RGB"))
    assert apart(rows["tall/alpha.png"], wanted) < HALF
    grey = seen(encoder, Image.fromarray(photographs()["tall"][..., 0]).convert("RGB"))
    assert apart(rows["tall/grey.png"], grey) < HALF
    # Named one by one, in another order, and by the encoder's folder.
    order: list[Path | str] = [photos / names[3], str(photos / names[0])]
    some = encode_images(order, FOLDER / "dinov2", tmp_path / "kept")
    np.testing.assert_array_equal(some, found[[3, 0]])


def test_large_jpegs_are_read_at_a_fraction_of_their_size(encoder: Encoder, tmp_path: Path) -> None:
    picture = Image.fromarray(photographs()["wide"]).resize((1732, 1204))
    picture.save(tmp_path / "large.jpg", quality=95)
    with Image.open(tmp_path / "large.jpg") as large:
        wanted = seen(encoder, large)
    (found,) = encode_images(tmp_path / "large.jpg", encoder, tmp_path)
    # 61 of 1204 pixels: a quarter of the file is enough.
    assert 0 < apart(found, wanted) < 0.05


def test_a_second_run_costs_nothing_and_changes_are_followed(
    encoder: Encoder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_images(photos, encoder, tmp_path / "kept")
    calls = counted(encoder, monkeypatch)
    np.testing.assert_array_equal(encode_images(photos, encoder, tmp_path / "kept"), first)
    assert calls == []
    shutil.copy(photos / "small" / "plain.png", photos / "tall" / "plain.png")
    changed = encode_images(photos, encoder, tmp_path / "kept")
    assert sum(calls) == 7 and not np.array_equal(changed, first)
    assert len(list((tmp_path / "kept" / "features").glob("*.npy"))) == 1  # no outdated one
    # Another encoder, or other preprocessing, has rows of its own.
    other = dataclasses.replace(encoder.preprocessing, crop=(42, 42))
    again = encode_images(photos, Encoder(encoder.id, other, encoder.network), tmp_path / "kept")
    assert not np.array_equal(again, changed)
    assert len(list((tmp_path / "kept" / "features").glob("*.npy"))) == 2


def test_training_and_test_images_share_what_is_kept(
    encoder: Encoder, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = load_dataset(str(photos), tmp_path / "kept", image_size=(16, 16))
    calls = counted(encoder, monkeypatch)
    parts = [features_of(part, encoder, tmp_path / "kept") for part in splits]
    assert sum(calls) == len(splits.train) + len(splits.test) == 7
    everything = features_of(splits.named("all"), encoder, tmp_path / "kept")
    np.testing.assert_array_equal(everything, np.concatenate(parts))
    np.testing.assert_array_equal(encode_images(photos, encoder, tmp_path / "kept")[
        splits.named("all").index], everything)  # fmt: skip
    assert sum(calls) == 7


def test_arrays_work_the_same_way(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.stack([image[:31, :47] for image in photographs().values()])
    calls = counted(encoder, monkeypatch)
    found = encode_images(images, encoder, tmp_path)
    assert apart(found[2], seen(encoder, Image.fromarray(images[2]))) < HALF
    calls.clear()
    np.testing.assert_array_equal(encode_images(images / 255, encoder, tmp_path), found)
    assert calls == []
    grey = encode_images(images[..., :1], encoder, tmp_path)
    np.testing.assert_array_equal(encode_images(images[..., 0], encoder, tmp_path), grey)
    assert sum(calls) == 4
    digits = load_dataset("digits").test.take(np.arange(5))
    assert features_of(digits, encoder, tmp_path).shape == (5, encoder.num_features)
    with pytest.raises(InputError, match="channel-first"):
        encode_images(images.transpose(0, 3, 1, 2), encoder, tmp_path)


def test_files_that_cannot_be_read_are_named(
    encoder: Encoder, photos: Path, tmp_path: Path
) -> None:
    bad = photos / "tall" / "alpha.png"
    bad.write_bytes(bad.read_bytes()[:500])
    splits = load_dataset(str(photos), tmp_path / "other", image_size=(16, 16))
    with pytest.warns(UserWarning, match=r"1 of 7 images cannot be read: .*alpha\.png \("):
        found = encode_images(photos, encoder, tmp_path / "kept")
    is_bad = np.isnan(found).any(axis=1)
    assert is_bad.sum() == 1 and np.isnan(found[is_bad]).all()
    with pytest.warns(UserWarning, match="nowhere"):
        encode_images([photos / "nowhere.png"], encoder, tmp_path / "kept")
    # What the folder loader left out is not asked for; what is damaged since is refused.
    assert np.isfinite(features_of(splits.named("all"), encoder, tmp_path / "kept")).all()
    (photos / "thin" / "plain.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 7 images cannot be read: .*plain\.png \(empty\)"):
        features_of(splits.named("all"), encoder, tmp_path / "kept")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="there are no images in"):
        encode_images(tmp_path / "none", encoder, tmp_path / "kept")
    with pytest.raises(InputError, match="there are no images"):
        encode_images([], encoder, tmp_path / "kept")


def test_a_killed_run_goes_on_where_it_was(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, kept = tmp_path / "photos", tmp_path / "kept"
    photos.mkdir()
    rng = np.random.default_rng(0)
    num = 12 * encoder.batch_size
    for number in range(num):
        pixels = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:04}.png")
    code = (
        "import sys, time\n"
        "from mlx_gmvae.encoders import encode, encoder\n"
        "features = encoder.Encoder.features\n"
        "def slowly(self, pixels):\n"
        "    print(len(pixels), flush=True); time.sleep(0.05); return features(self, pixels)\n"
        "encoder.Encoder.features = slowly\n"
        "encode.encode_images(*sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, str(photos), str(FOLDER / "dinov2"), str(kept)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):  # when the third batch is begun, two are kept
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    calls = counted(encoder, monkeypatch)
    found = encode_images(photos, encoder, kept)
    assert 0 < sum(calls) < num
    np.testing.assert_array_equal(found, encode_images(photos, encoder, tmp_path / "other"))


@pytest.mark.on_cpu("whose rows do not depend on the batch, to the last bit")
def test_half_written_and_damaged_rows_are_computed_again(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.stack([image[:31, :47] for image in photographs().values()])
    found = encode_images(images, encoder, tmp_path)
    (path,) = (tmp_path / "features").glob("*.npy")
    array = np.load(path, mmap_mode="r+")
    array[2, 5:] = np.nan
    array.flush()
    calls = counted(encoder, monkeypatch)
    np.testing.assert_array_equal(encode_images(images, encoder, tmp_path), found)
    assert calls == [1]
    path.write_bytes(path.read_bytes()[:200])
    np.testing.assert_array_equal(encode_images(images, encoder, tmp_path), found)
    assert sum(calls) == 5


def test_where_nothing_can_be_kept_one_line_says_so(encoder: Encoder, tmp_path: Path) -> None:
    images = np.stack([image[:31, :47] for image in photographs().values()])
    with largest_file(64), pytest.raises(InputError, match=r"cannot keep features in .*--data_dir"):
        encode_images(images, encoder, tmp_path)
    assert not list(tmp_path.rglob("*.npy"))
    (tmp_path / "features").rmdir()
    (tmp_path / "features").write_text("a file")
    with pytest.raises(InputError, match="cannot keep features in"):
        encode_images(images, encoder, tmp_path)
    huge = KeptFeatures(tmp_path / "other", "source", "encoder", [], 10**13, 384)
    with pytest.raises(InputError, match=r"need 7680000\.0 GB"):
        huge.open()


def test_features_that_are_not_finite_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    spoiled = load_encoder(FOLDER / "dinov2")
    spoiled.network.norm.weight *= 1e30
    with pytest.raises(InputError, match="gives NaN or huge features; download it again"):
        encode_images(photographs()["small"][None], spoiled, tmp_path)


def test_importing_the_package_imports_no_encoder() -> None:
    code = (
        "import sys, mlx_gmvae, train\n"
        "print([n for n in sys.modules if 'mlx_gmvae.encoders' in n or 'huggingface' in n])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
