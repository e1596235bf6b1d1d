"""Images sorted into a folder for each cluster: copies, links, names, refusals."""

import csv
import errno
import os
from pathlib import Path
from unicodedata import normalize

import cluster
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.errors import InputError
from mlx_gmvae.report import sorted_folders
from mlx_gmvae.report.assignments import Assignments

import numpy as np
import pytest
from PIL import Image


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_classes_keep_files_of_their_own_where_case_and_accents_do_not_count() -> None:
    names = ("Bird", "bird", "caf\u00e9", "cafe\u0301", "bird_1", "a/b", "a_b", "fish")
    dataset = Dataset("few", np.zeros((8, 2, 2, 1), np.uint8), None, np.arange(8))
    found = Assignments(dataset, np.eye(8), names)
    files = [found.name(number) for number in range(8)]
    assert files[0] == "class_Bird_0" and files[4] == "class_bird_1" and files[7] == "class_fish"
    as_macos_compares = [normalize("NFD", name).casefold() for name in files]
    assert len(set(as_macos_compares)) == 8
    assert not any("/" in name for name in files)


def test_images_are_sorted_into_folders_and_the_originals_stay(tmp_path: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), np.uint8)
    files = []
    for number, photo in enumerate(photos):
        path = tmp_path / "in" / str(number % 2) / "same_name.png"
        path = path.with_stem(f"same_name_{number // 2}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path)
        files.append(str(path))
    dataset = Dataset(str(tmp_path / "in"), photos, None, np.arange(6), files=tuple(files))
    found = Assignments(dataset, np.eye(3)[[0, 1, 0, 0, 1, 0]])
    os.utime(files[4], (1e9, 1e9))
    for links in (False, True):
        sorted_folders.prepare(dataset, tmp_path / f"out_{links}", hard_links=links)
        sorted_folders.sort_into(found, tmp_path / f"out_{links}", hard_links=links)
        names = {
            folder.name: sorted(path.name for path in folder.iterdir())
            for folder in (tmp_path / f"out_{links}").iterdir()
            if folder.name != "metadata.csv"
        }
        assert {name: len(each) for name, each in names.items()} == {
            "cluster_00": 4, "cluster_01": 2, "cluster_02": 0,
        }  # fmt: skip
        copy = tmp_path / f"out_{links}" / "cluster_01" / "000004_same_name_2.png"
        assert copy.read_bytes() == Path(files[4]).read_bytes()
        assert copy.samefile(files[4]) == links and copy.stat().st_mtime == 1e9
    assert all(Path(path).exists() for path in files)
    with pytest.raises(InputError, match="not an empty folder"):
        sorted_folders.prepare(dataset, tmp_path / "out_True")
    with pytest.raises(InputError, match="the folder of the images"):
        sorted_folders.prepare(dataset, tmp_path / "in" / "sorted")


def test_a_folder_that_cannot_hold_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    image = np.zeros((1, 2, 2, 1), np.uint8)
    dataset = Dataset(str(tmp_path / "in"), image, None, np.arange(1), files=("in/a.png",))
    with pytest.raises(InputError, match=r"cannot hold hard links to in/a.png .*leave out"):
        sorted_folders.prepare(dataset, tmp_path / "out", hard_links=True)
    assert not (tmp_path / "out").exists()


def test_sorting_is_refused_before_anything_is_scored(
    digits_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def score(*args: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr("mlx_gmvae.cli.cluster.responsibilities", score)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    model = f"--model {digits_run}/model.npz --split test"
    options = f"{model} --outdir {tmp_path}/c --sort_into {tmp_path}/full"
    assert cluster.main(options.split()) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_images_of_arrays_are_sorted_as_pictures(digits_run: Path, tmp_path: Path) -> None:
    model = f"--model {digits_run}/model.npz --split test"
    options = f"{model} --outdir {tmp_path}/c --sort_into {tmp_path}/sorted"
    assert cluster.main(options.split()) == 0
    rows = rows_of(tmp_path / "c/assignments.csv")
    digits = load_dataset("digits").test
    for row, image in list(zip(rows, digits.images, strict=True))[:20]:
        name = f"cluster_{int(row['cluster']):02d}/{int(row['index']):06d}.png"
        with Image.open(tmp_path / "sorted" / name) as saved:
            np.testing.assert_array_equal(np.array(saved), image[..., 0])
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == len(rows)
