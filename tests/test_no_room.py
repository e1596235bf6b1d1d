"""Runs where they cannot be written: no room, no permission; and in folders with odd names."""

import os
import shutil
from pathlib import Path

import train
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.errors import InputError
from mlx_gmvae.runs.checkpoint import load_arrays

import numpy as np
import pytest
from conftest import largest_file
from PIL import Image

SMALL = "--arch mlp --hidden_dims 8 --latent_dims 2 --model vae --dataset a.npz --save_every 1"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez("a.npz", images=images)
    return tmp_path


@pytest.mark.draws
def test_a_run_without_room_keeps_what_was_saved_and_goes_on_when_there_is_some(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(f"{SMALL} --epochs 2 --outdir run".split()) == 0
    whole = load_arrays("run/model.npz")
    shutil.rmtree("run")
    command = f"{SMALL} --epochs 2 --outdir run"
    for num_bytes in (20_000, 40_000, 150_000):  # of the state, the animation, the longer one
        capsys.readouterr()
        with largest_file(num_bytes):
            assert train.main(command.split()) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "File too large (make room for it); " in error
        assert Path("run").exists() == (num_bytes > 20_000) and not list(Path().rglob(".*"))
        if num_bytes > 20_000:
            assert load_arrays("run/state.npz") and "continue with: python train.py" in error
            command = "--resume run"
    assert train.main(command.split()) == 0
    for name, value in load_arrays("run/model.npz").items():
        np.testing.assert_array_equal(value, whole[name])


def test_decoded_images_without_room(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(9):
        Image.new("RGB", (40, 40), (20 * number, 0, 0)).save(tmp_path / f"photos/{number}.png")
    with largest_file(20_000), pytest.raises(InputError, match="choose another"):
        load_dataset(str(tmp_path / "photos"), tmp_path / "kept")
    assert not list((tmp_path / "kept").rglob("*.*"))
    assert len(load_dataset(str(tmp_path / "photos"), tmp_path / "kept").train) == 7


def test_output_that_cannot_be_printed(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert train.main(f"{SMALL} --epochs 1 --outdir run".split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No space left on device (make room for it); " in error


@pytest.mark.parametrize("place", ["ein Ordner/Bücher und Äpfel", "linked/run", "x" * 250])
def test_folders_with_odd_names(elsewhere: Path, place: str) -> None:
    Path("elsewhere").mkdir()
    Path("linked").symlink_to("elsewhere")
    assert train.main([*SMALL.split(), "--epochs", "1", "--outdir", place]) == 0
    assert train.main(["--resume", place, "--epochs", "2"]) == 0
    assert (Path(place) / "metrics.json").is_file()


@pytest.mark.parametrize("place", ["x" * 300, "a.npz/run", "a.npz", "/proc/run", "locked/run"])
def test_folders_that_cannot_be(
    elsewhere: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if place.startswith("locked"):
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        Path("locked").mkdir(mode=0o500)
    assert train.main([*SMALL.split(), "--epochs", "1", "--outdir", place]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and place.partition("/run")[0][:200] in error
