"""Odd but possible commands: nothing is lost, nothing is mixed up, and the line says why."""

import gzip
import json
import os
import re
import shutil
import struct
from pathlib import Path

import cluster
import generate
import reconstruct
import train
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.errors import InputError
from mlx_gmvae.runs.run_folder import RunFolder

import numpy as np
import pictures
import pytest
from conftest import ROOT, only_few_digits, without_drawing
from sklearn.datasets import load_digits

SMALL = "--cpu --arch mlp --hidden_dims 8 --latent_dims 3 --K 3 --epochs 1 --batchsize 256"
SMALL += " --heads 2 --neighbours 3"
DIGITS = ROOT / "pretrained" / "gmvae_digits_K10_dims_0008.npz"
Captured = pytest.CaptureFixture[str]


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    )


pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "run"
    with without_drawing(), only_few_digits():
        assert train.main(f"--dataset digits {SMALL} --outdir {folder}".split()) == 0
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        pictures.write(tmp_path / "photos", f"{number}.png", pictures.Image.fromarray(pixels))
    return tmp_path / "photos"


def test_a_run_may_start_from_the_model_that_it_replaces(run: Path) -> None:
    command = f"--dataset digits {SMALL} --init {run}/model.npz --outdir {run} --overwrite"
    assert train.main(command.split()) == 0
    record = json.loads((run / "metrics.json").read_text())["made_with"]
    assert record["init"]["name"] == "model.npz"


def test_a_readme_of_somebody_elses_stays(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "seed_of_doubt").mkdir()
    assert train.main(f"--dataset digits {SMALL} --outdir {tmp_path} --overwrite".split()) == 2
    assert "has a README.md of its own; choose another --outdir" in capsys.readouterr().err
    (tmp_path / "README.md").unlink()
    assert train.main(f"--dataset digits {SMALL} --outdir {tmp_path} --overwrite".split()) == 0
    assert (tmp_path / "seed_of_doubt").is_dir()


def test_a_run_is_known_until_all_of_it_is_removed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def interrupted(path: Path, missing_ok: bool = False) -> None:
        if path.name == "samples.png":
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", interrupted)
        RunFolder(run).clear()
    assert (run / "samples.png").exists() and not (run / "state.npz").exists()
    RunFolder(run).clear()
    assert not (run / "samples.png").exists() and not (run / "model.npz").exists()


def test_clusters_do_not_go_into_a_run(run: Path, capsys: Captured) -> None:
    before = (run / "metrics.json").read_text()
    assert cluster.main(f"--model {run}/model.npz --outdir {run}".split()) == 2
    assert "holds a training run" in capsys.readouterr().err
    assert (run / "metrics.json").read_text() == before


def test_what_is_written_never_lies_among_the_images(
    photos: Path, run: Path, capsys: Captured
) -> None:
    for options in ("", " --seeds 2"):
        command = f"--dataset {photos} {SMALL} --outdir {photos}/results{options}"
        assert train.main(command.split()) == 2
        assert "lies in the folder of the images" in capsys.readouterr().err
    for script in (cluster, reconstruct):
        command = f"--model {DIGITS} --dataset {photos} --outdir {photos}/made"
        assert script.main(command.split()) == 2
        assert "lies in the folder of the images" in capsys.readouterr().err
    assert len(list(photos.iterdir())) == 12


def test_images_that_came_after_the_training_are_said(
    photos: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert train.main(f"--dataset {photos} {SMALL} --outdir {tmp_path}/r".split()) == 0
    command = f"--model {tmp_path}/r/model.npz --split test --outdir {tmp_path}/c"
    assert cluster.main(command.split()) == 0
    assert "training images now" not in capsys.readouterr().err
    for number in range(3):
        shutil.copy(photos / "0.png", photos / f"later_{number}.png")
    assert cluster.main(command.split()) == 0
    assert "has 12 training images now, but the model was trained on 10" in capsys.readouterr().err


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    folder = os.path.join(tmp_path, os.fsdecode(b"run_\xe9"))
    assert train.main([*f"--dataset digits {SMALL} --outdir".split(), folder]) == 0
    assert json.loads(Path(folder, "metrics.json").read_text())["split"] == "test"


def test_a_relative_in_the_common_folder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain files of MNIST have the names of Fashion-MNIST's."""
    images = np.zeros((4, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(4, np.uint8))
    monkeypatch.setenv("MLX_GMVAE_MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(InputError, match="cannot download"):
        load_dataset("fashion-mnist", tmp_path)
    own = tmp_path / "fashion-mnist"
    own.mkdir(exist_ok=True)
    for path in tmp_path.glob("*ubyte"):
        shutil.move(path, own)
    assert len(load_dataset("fashion-mnist", tmp_path).train) == 4


def test_parts_of_a_set_are_known_by_any_word_of_their_names(tmp_path: Path) -> None:
    for part, num in (("train", 6), ("test", 2)):
        path = tmp_path / f"emnist-letters-{part}-images-idx3-ubyte"
        write_idx(path, np.full((num, 5, 5), num, np.uint8))
        with gzip.open(f"{path}.gz", "wb") as file:
            file.write(path.read_bytes())
        path.unlink()
    splits = load_dataset(str(tmp_path))
    assert [len(part) for part in splits] == [6, 2]
    assert splits.test.images.max() == 2
    shutil.copy(next(tmp_path.glob("*test*")), tmp_path / "emnist-mnist-test-images-idx3-ubyte.gz")
    with pytest.raises(InputError, match="must hold one IDX image file, or one train and one"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("num", [pytest.param(3, marks=pytest.mark.draws), 4])
def test_a_map_of_as_few_images_as_clusters(num: int, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", (load_digits().images[:num] * 15).astype("uint8"))
    command = f"--model {DIGITS} --dataset {tmp_path}/few.npy --explorer --outdir {tmp_path}/c"
    assert cluster.main(command.split()) == 0
    page = (tmp_path / "c/explorer.html").read_text()
    (content,) = re.findall(r"^const data = (.*);$", page, flags=re.MULTILINE)
    data = json.loads(content)
    assert data["names"] == [str(number) for number in range(num)]
    for each in data["maps"]:
        assert np.shape(each["points"]) == (num, 2) and np.isfinite(each["points"]).all()
    assert f"{num} images" in (tmp_path / "c/summary.html").read_text()


def test_a_summary_needs_its_package_before_anything_is_lost(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from mlx_gmvae.cli import start

    def missing() -> None:
        raise InputError("--tensorboard needs TensorBoard")

    monkeypatch.setattr(start, "require_tensorboard", missing)
    assert train.main(f"--resume {run} --epochs 2 --tensorboard".split()) == 2
    assert "--tensorboard needs TensorBoard" in capsys.readouterr().err
    assert (run / "metrics.json").exists()


def test_a_folder_that_may_not_be_read_is_named(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (photos / "owls").mkdir()
    scandir = os.scandir

    def forbidding(place: str) -> object:  # to root, who runs tests at times, nothing is forbidden
        if str(place).endswith("owls"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", forbidding)
    assert train.main(f"--dataset {photos} {SMALL}".split()) == 2
    assert "cannot read the folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--num 3000000000", "GB of memory, this machine has"),
        ("--interpolate 0 1 --num 3000000000", "GB of memory, this machine has"),
        ("--num 2000 --outfile {}/s.webp", "choose .png"),
    ],
)
def test_more_images_than_there_is_room_for(
    options: str, message: str, made: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "s.webp").write_bytes(b"mine")
    command = f"--model {made}/model.npz --outfile {tmp_path}/s.png {options.format(tmp_path)}"
    assert generate.main(command.split()) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "s.webp").read_bytes() == b"mine"


def test_sizes_and_links_that_lead_nowhere(tmp_path: Path, capsys: Captured) -> None:
    assert train.main(["--dataset", "digits", "--image_size", "16384", "16384"]) == 2
    assert "GB of memory, this machine has" in capsys.readouterr().err
    (tmp_path / "loop").symlink_to("loop")
    assert train.main(f"--dataset {tmp_path}/loop".split()) == 2
    assert "loop" in capsys.readouterr().err


def test_long_names_are_sorted_under_their_numbers(photos: Path, tmp_path: Path) -> None:
    os.rename(photos / "0.png", photos / f"{'n' * 251}.png")
    command = f"--model {DIGITS} --dataset {photos} --outdir {tmp_path}/c --sort_into {tmp_path}/s"
    assert cluster.main(command.split()) == 0
    names = {path.name for path in (tmp_path / "s").rglob("*.png")}
    assert len(names) == 12 and max(map(len, names)) < 20
