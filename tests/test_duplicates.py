"""Near-duplicates: made ones are found, other images are not, and the best comes first."""

import csv
from pathlib import Path

import cluster
from mlx_gmvae.clustering.descriptors import reduced
from mlx_gmvae.clustering.duplicates import correlations, near_duplicates
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.report import duplicate_groups
from mlx_gmvae.report.sheets import Section

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sklearn.datasets import load_sample_images

MODEL = f"--model {ROOT}/pretrained/gmvae_photos_K10_dims_0032.npz"


def pieces(num: int, side: int = 96) -> list[Image.Image]:
    """Parts of two photographs that do not overlap, those of high contrast first."""
    found = []
    for photo in load_sample_images().images:
        for top in range(0, photo.shape[0] - side, side):
            for left in range(0, photo.shape[1] - side, side):
                found.append(Image.fromarray(photo[top : top + side, left : left + side]))
    return sorted(found, key=lambda piece: -np.asarray(piece).std())[:num]


def changed(image: Image.Image, kind: str, path: Path) -> Path:
    """A copy of an image as a file."""
    width, height = image.size
    if kind == "small":
        image.resize((width * 2 // 3, height * 2 // 3)).save(path)
    elif kind == "compressed":
        path = path.with_suffix(".jpg")
        image.save(path, quality=40)
    elif kind == "cropped":
        image.resize(
            image.size, box=(0.05 * width, 0.05 * height, 0.95 * width, 0.95 * height)
        ).save(path)
    else:
        Image.fromarray((np.asarray(image) * 0.7).astype(np.uint8)).save(path)
    return path


def test_copies_are_found_and_the_best_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, expected = tmp_path / "photos", []
    folder.mkdir()
    kinds = ("small", "compressed", "cropped", "dark")
    for number, piece in enumerate(pieces(16)):
        piece.save(folder / f"{number:02}.png")
        if number < len(kinds):
            copy = changed(piece, kinds[number], folder / f"{number:02}_copy.png")
            expected.append({f"{number:02}.png", copy.name})
    options = (
        f"{MODEL} --dataset {folder} --no_labels --fit stretch --duplicates --outdir {tmp_path}/out"
    )
    assert cluster.main(options.split()) == 0
    out = capsys.readouterr().out
    assert "near-duplicates: 8 of 20 images, in 4 groups" in out, out
    with (tmp_path / "out/duplicates.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row["group"], set()).add(Path(row["file"]).name)
    assert list(groups.values()) == expected
    best = {Path(row["file"]).name for row in rows if row["is_best"] == "1"}
    assert {"00.png", "01.png"} <= best  # larger than the small one, more bytes than the JPEG
    with Image.open(tmp_path / "out/duplicates.png") as sheet:
        assert sheet.width > 100


def test_the_sheet_begins_with_the_largest_group_and_each_with_its_sharpest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrast = np.array([10, 30, 20, 10, 40, 30, 30, 10, 20])
    checks = np.indices((8, 8)).sum(axis=0) % 2
    images = (100 + contrast[:, None, None, None] * checks[..., None]).astype(np.uint8)
    shown: list[Section] = []
    monkeypatch.setattr(duplicate_groups, "save_sheet", lambda *args: shown.extend(args[2]))
    groups = [np.array([0, 1]), np.array([2, 3, 4, 5]), np.array([6, 7, 8])]
    duplicate_groups.save_groups(tmp_path, Dataset.of(images), groups)
    with (tmp_path / "duplicates.csv").open() as file:
        rows = list(csv.DictReader(file))
    ordered = [[1, 0], [4, 5, 2, 3], [6, 8, 7]]
    assert [int(row["index"]) for row in rows] == [row for group in ordered for row in group]
    assert [row["group"] for row in rows] == list("001111222")
    assert [row["is_best"] for row in rows] == list("101000100")
    for section, group in zip(shown, [ordered[1], ordered[2], ordered[0]], strict=True):
        assert section.heading.startswith(f"{len(group)} images")
        np.testing.assert_array_equal(section.images, images[group])


def test_neither_noise_nor_plain_images_are_copies() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 20, 24, 3), np.uint8)
    plain = np.full((5, 20, 24, 3), 90, np.uint8)
    assert near_duplicates(np.concatenate([noise, plain])) == []
    assert near_duplicates(noise[:1]) == [] and near_duplicates(plain) == []
    (group,) = near_duplicates(np.concatenate([noise, noise[7:8] // 2 + 60]))
    assert group.tolist() == [7, 40]


def test_a_crop_correlates_with_the_whole_whichever_comes_first() -> None:
    piece = pieces(1, 200)[0]
    crop = piece.resize(piece.size, box=(20, 0, 200, 180))  # nine tenths, from the right
    grey = reduced(np.stack([np.asarray(piece), np.asarray(crop)]), grey=True)[..., 0]
    one, other = correlations(grey, np.array([[0, 1], [1, 0]]))
    assert one == pytest.approx(other, abs=1e-5) and one > 0.95
    plain = np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1]
    assert plain < 0.95
