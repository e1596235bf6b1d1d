"""A person's own pictures as they come from a phone, and others tried on the model of them."""

import csv
import json
from pathlib import Path

import cluster
import reconstruct
import train
from mlx_gmvae.data import formats
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.runs.checkpoint import load_model

import numpy as np
import pytest
from conftest import without_drawing
from PIL import Image, features
from skimage import data

QUARTER_TURN = {0x0112: 6}  # EXIF orientation: shown upright, stored on its side
LARGE = (2016, 1512)
SMALL = "--K 2 --latent_dims 4 --max_filters 16 --epochs 1 --classifier conv --descriptor hog"


def photograph(number: int, size: tuple[int, int]) -> Image.Image:
    """A part of a real photograph, width x height."""
    pictures = [data.astronaut, data.chelsea, data.coffee, data.rocket, data.cat]
    picture = Image.fromarray(pictures[number % len(pictures)]())
    left, top = 7 * number % 60, 11 * number % 60
    return picture.crop((left, top, picture.width, picture.height)).resize(size)


def phone_folder(folder: Path, num: int) -> Path:
    """Portraits and landscapes, some turned by EXIF, large and small, in several formats."""
    folder.mkdir()
    for number in range(num):
        size = (400, 300) if number % 3 else (300, 400)
        picture = photograph(number, size)
        exif = Image.Exif()
        if number % 4 == 1:
            exif.update(QUARTER_TURN)
        picture.save(folder / f"IMG_{number:04d}.jpg", exif=exif)
    photograph(num, LARGE).save(folder / "large.jpg", quality=80)
    frames = [photograph(each, (120, 90)) for each in (1, 2)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    if features.check("avif"):
        frames[1].save(folder / "web.avif")
    (folder / "corrupt.jpg").write_bytes((folder / "IMG_0000.jpg").read_bytes()[:2000])
    (folder / "live.mov").write_bytes(b"a film")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def phone_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a folder of mixed sizes, trained with no word about sizes."""
    place = tmp_path_factory.mktemp("phone")
    options = f"--dataset {phone_folder(place / 'Photos 2026', 14)} --outdir {place}/run"
    words = options.replace("Photos 2026", "Photos\t2026").split(" ")
    words = [word.replace("\t", " ") for word in words]
    with without_drawing():
        assert train.main([*words, *SMALL.split(), "--data_dir", f"{place}/kept"]) == 0
    return place


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_size_is_proposed_for_a_mixed_folder(phone_run: Path) -> None:
    config = load_model(phone_run / "run/model.npz").model.config
    assert config.channels == 3
    assert max(config.image_size) == 64 and min(config.image_size) >= 32
    metrics = json.loads((phone_run / "run/metrics.json").read_text())
    files = 14 + 3 + bool(features.check("avif"))
    assert metrics["images"] in (round(0.2 * files), round(0.2 * files) - 1)  # one is corrupt
    page = (phone_run / "run/summary.html").read_text()
    assert page.count("data:image/png;base64,") > 5


def test_a_second_folder_is_fitted_to_the_model_and_taken_whole(
    phone_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for number, size in enumerate([(500, 200), (90, 300), (64, 48), (1000, 1000), (33, 77)]):
        photograph(number, size).save(others / f"été {number}.png")
    (others / "talk.mp3").write_bytes(b"")
    model = ["--model", f"{phone_run}/run/model.npz", "--dataset", str(others)]
    model += ["--data_dir", str(tmp_path / "kept")]
    assert cluster.main([*model, "--outdir", f"{tmp_path}/c", "--anomalies", "3"]) == 0
    rows, columns = load_model(phone_run / "run/model.npz").model.config.image_size
    said = capsys.readouterr()
    assert f"left out in {others}: 1 .mp3" in said.err
    assert "images of 5 sizes" in said.err and f"resized to {columns} x {rows} (" in said.err
    assert f"all 5 images of {others} in" in said.out
    assert (
        "nats per pixel and channel: " in said.out
        and " for the model's own test images)" in said.out
    )
    assignments = csv_rows(tmp_path / "c/assignments.csv")
    files = [str(others / f"été {number}.png") for number in range(5)]
    assert sorted(row["file"] for row in assignments) == files

    assert reconstruct.main([*model, "--outdir", f"{tmp_path}/r"]) == 0
    table = csv_rows(tmp_path / "r/all_reconstructions.csv")
    assert [row["file"] for row in table] == [row["file"] for row in assignments]
    assert "showing all 5 images, which are fewer than --num 64" in capsys.readouterr().out


def test_one_picture_will_do(phone_run: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    photograph(0, (200, 100)).convert("L").save(tmp_path / "one/grey.png")
    model = f"--model {phone_run}/run/model.npz --dataset {tmp_path}/one --data_dir {tmp_path}/kept"
    assert cluster.main([*model.split(), "--outdir", f"{tmp_path}/c"]) == 0
    (row,) = csv_rows(tmp_path / "c/assignments.csv")
    assert row["file"].endswith("grey.png")
    assert reconstruct.main([*model.split(), "--outdir", f"{tmp_path}/r"]) == 0


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
def test_the_way_to_fit_is_the_models_unless_one_is_given(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "train.npy", rng.integers(0, 256, (30, 8, 8), np.uint8))
    np.save(tmp_path / "other.npy", rng.integers(0, 256, (5, 16, 12), np.uint8))
    options = f"--dataset {tmp_path}/train.npy --fit {how} --model vae --arch mlp --hidden_dims 8"
    options += f" --epochs 1 --outdir {tmp_path}/run"
    assert train.main(options.split()) == 0
    done = {"crop": "cropped and resized", "pad": "padded", "stretch": "stretched"}
    model = f"--model {tmp_path}/run/model.npz --dataset {tmp_path}/other.npy --outdir {tmp_path}/r"
    capsys.readouterr()
    assert reconstruct.main(model.split()) == 0
    assert f"{done[how]} to 8 x 8" in capsys.readouterr().err
    assert reconstruct.main([*model.split(), "--fit", "pad"]) == 0
    assert "padded to 8 x 8" in capsys.readouterr().err


def test_data_that_is_gone_is_said_to_come_from_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), np.uint8)
    np.save("mine.npy", images)
    options = "--dataset mine.npy --model vae --arch mlp --hidden_dims 8 --epochs 1 --outdir run"
    assert train.main(options.split()) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert reconstruct.main(["--model", "../run/model.npz"]) == 0  # found by its absolute path
    (tmp_path / "mine.npy").rename(tmp_path / "moved.npy")
    capsys.readouterr()
    assert reconstruct.main(["--model", "../run/model.npz"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/mine.npy, on which ../run/model.npz was trained, no longer exists" in error
    assert "--dataset" in error
    assert train.main(["--resume", "../run", "--epochs", "2"]) == 2
    assert "put it back" in capsys.readouterr().err
    assert reconstruct.main(["--model", "../run/model.npz", "--dataset", "../moved.npy"]) == 0


def test_heic_is_read_where_its_package_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pip install pillow-heif to run this test")
    heif.register_heif_opener()
    folder = tmp_path / "iphone"
    folder.mkdir()
    for number in range(4):
        photograph(number, (80, 60)).save(folder / f"{number}.HEIC", quality=95)
    splits = load_dataset(str(folder), tmp_path / "kept")
    assert splits.train.image_shape == (60, 80, 3)
    everything = splits.named("all")
    (found,) = everything.images[everything.index == 0].astype(int)
    assert np.abs(found - np.asarray(photograph(0, (80, 60)))).mean() < 5


def test_heic_is_named_with_its_remedy_where_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formats, "_reads_heif", lambda: False)
    folder = tmp_path / "iphone"
    folder.mkdir()
    for number in range(31):
        (folder / f"{number}.heic").write_bytes(b"")
    options = f"--dataset {folder} --data_dir {tmp_path}/kept --outdir {tmp_path}/run"
    assert train.main(options.split()) == 2
    assert "31 .heic (pip install pillow-heif to read them)" in capsys.readouterr().err
