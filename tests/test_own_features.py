"""Features from a file: matched with the images, refused when they cannot be theirs, kept."""

import json
from pathlib import Path

import cluster
import train
from mlx_gmvae.clustering.features import load_features
from mlx_gmvae.clustering.neighbours import nearest, unit_length
from mlx_gmvae.data.datasets import Splits, load_dataset
from mlx_gmvae.errors import InputError
from mlx_gmvae.runs.run_folder import RunFolder

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

rng = np.random.default_rng(0)
SMALL = "--epochs 2 --batchsize 256 --arch mlp --hidden_dims 16 --latent_dims 2 --K 10"


def own_features() -> np.ndarray:
    """The pixels of all 1,797 digits, in their order."""
    return np.asarray(load_digits().data, np.float32) / 16


def test_rows_are_matched_with_the_training_images(digits: Splits, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", own_features())
    for part in load_features(str(tmp_path / "f.npy"), digits):
        expected = part.images.reshape(len(part), -1) / 255
        assert part.features is not None
        np.testing.assert_allclose(part.features, expected, atol=0.01)


def test_rows_with_names_may_come_in_any_order(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    names = [f"{'sub/' if number % 2 else ''}{number:02}.png" for number in range(30)]
    for number, name in enumerate(names):
        Image.fromarray(np.full((9, 9), 8 * number, np.uint8)).save(photos / name)
    splits = load_dataset(str(photos), data_dir=tmp_path / "kept")
    order = rng.permutation(30)
    levels = np.array([[1.0, number] for number in range(30)])
    np.savez(tmp_path / "f.npz", features=levels[order], files=np.array(names)[order])
    found = load_features(str(tmp_path / "f.npz"), splits)
    np.save(tmp_path / "sorted.npy", levels[np.argsort(names)])
    again = load_features(str(tmp_path / "sorted.npy"), splits)
    for part, same in zip(found, again, strict=True):
        assert part.features is not None
        np.testing.assert_array_equal(part.features[:, 1], part.images[:, 0, 0, 0] / 8)
        np.testing.assert_array_equal(part.features, same.features)
    np.savez(tmp_path / "f.npz", features=levels[:20], files=np.array(names)[:20])
    with pytest.raises(InputError, match="no features of"):
        load_features(str(tmp_path / "f.npz"), splits)


def test_names_may_be_absolute_or_base_names_and_need_no_order(tmp_path: Path) -> None:
    """Features that say nothing about how images look, such as those of noise, need names."""
    photos = tmp_path / "photos"
    noise = rng.integers(0, 256, (80, 9, 9), np.uint8)
    names = [f"{'sub/' if number % 2 else ''}{number:02}.png" for number in range(80)]
    (photos / "sub").mkdir(parents=True)
    for name, image in zip(names, noise, strict=True):
        Image.fromarray(image).save(photos / name)
    splits = load_dataset(str(photos), data_dir=tmp_path / "kept")
    (tmp_path / "link").symlink_to(photos)
    features = rng.normal(size=(80, 3))
    file = tmp_path / "f.npz"

    def found(files: list[str]) -> np.ndarray:
        np.savez(file, features=features, files=files)
        train_features = load_features(str(file), splits).train.features
        assert train_features is not None
        return train_features

    expected = found(names)
    for place in (photos, tmp_path / "link"):
        np.testing.assert_array_equal(found([str(place / name) for name in names]), expected)
    np.testing.assert_array_equal(found([Path(name).name for name in names]), expected)
    wrong = r"80 images, the first of them '00.png'; its files have names like '/data/00.png'; .*"
    with pytest.raises(InputError, match=wrong + f"give names relative to {photos}"):
        found([f"/data/{name}" for name in names])
    Image.fromarray(noise[0]).save(photos / "sub/00.png")  # two of one name
    splits = load_dataset(str(photos), data_dir=tmp_path / "kept")
    with pytest.raises(InputError, match="no features of"):
        found([Path(name).name for name in names])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[:-1], "1,796 rows, digits has 1,797 images"),
        (lambda f: f[:, 0], "numbers \\(N, F\\)"),
        (lambda f: f.astype(str), "numbers \\(N, F\\)"),
        (
            lambda f: np.where(np.arange(len(f))[:, None] == 3, np.nan, f),
            "NaN, infinite or huge features for 1 images, first in row 3",
        ),
        (lambda f: rng.permutation(f), "the order of the images"),
    ],
)
def test_features_of_other_images_are_refused(  # type: ignore[no-untyped-def]
    digits: Splits, tmp_path: Path, spoil, message: str
) -> None:
    np.save(tmp_path / "f.npy", spoil(own_features()))
    with pytest.raises(InputError, match=message):
        load_features(str(tmp_path / "f.npy"), digits)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY"])
def test_files_that_are_no_arrays_are_refused(
    digits: Splits, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "f.npy").write_bytes(content)
    for name in ("f.npy", "none.npy"):
        with pytest.raises(InputError):
            load_features(str(tmp_path / name), digits)


def test_features_for_neighbours_alone_are_kept_and_a_run_resumes_without_the_file(
    few_digits: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = load_dataset("digits")
    file, folder = tmp_path / "f.npy", tmp_path / "run"
    np.save(file, own_features()[:300, ::2])
    options = f"--dataset digits --features {file} --posterior bayes {SMALL} --outdir {folder}"
    assert train.main(options.split()) == 0
    config = json.loads(json.dumps(RunFolder.open(str(folder))[1].training.to_dict()))
    assert config["features"] == str(file)
    features = load_features(str(file), digits).train.features
    assert features is not None
    graph = nearest(unit_length(features), 5)
    file.unlink()
    images, saved = digits.train.images, RunFolder.open(str(folder))[1].training
    np.testing.assert_array_equal(RunFolder(folder).load_neighbours(images, saved), graph)
    assert train.main(["--resume", str(folder), "--epochs", "3"]) == 0
    assert cluster.main(f"--model {folder}/model.npz --outdir {tmp_path}/clusters".split()) == 0
    capsys.readouterr()
    for flags, message in (
        (f"--features {file}", "cannot read"),
        (f"--features {file} --descriptor hog", "descriptor has no effect with features"),
        (f"--features {file} --neighbours 0", "features has no effect with neighbours 0"),
    ):
        assert train.main(f"--dataset digits {SMALL} --outdir {tmp_path}/x {flags}".split()) == 2
        assert message in capsys.readouterr().err
