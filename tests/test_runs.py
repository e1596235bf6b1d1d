"""Runs: killed and resumed, one at a time in a folder, and what they say they were made with."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cluster
import train
from mlx_gmvae.clustering import frozen
from mlx_gmvae.errors import InputError
from mlx_gmvae.runs import provenance
from mlx_gmvae.runs.checkpoint import load_arrays, load_info, save_arrays
from mlx_gmvae.runs.lock import locked
from mlx_gmvae.system.files import PREFIX

import numpy as np
import pytest
from conftest import ROOT, without_drawing
from PIL import Image

SMALL = "--arch mlp --hidden_dims 8 --latent_dims 2 --K 3 --epochs 1 --dataset a.npz --outdir run"
SMALL += " --heads 2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random images and of a run of one epoch on them, and a copy of it."""
    place = tmp_path_factory.mktemp("made") / "here"
    place.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(place / "a.npz", images=images)
    with without_drawing(), pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        assert train.main(SMALL.split()) == 0
    shutil.copytree(place, place.with_name("copy"))
    return place


@pytest.fixture
def run(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That run as it was, at its place, which is the working directory."""
    shutil.rmtree(made)
    shutil.copytree(made.with_name("copy"), made)
    monkeypatch.chdir(made)
    return Path("run")


def test_a_run_killed_within_an_epoch_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)  # which takes longest
    options = "--cpu --dataset digits --classes 0 1 --arch mlp --hidden_dims 16 --latent_dims 2"
    options += " --K 3 --epochs 2 --heads 2 --descriptor pixels --augment none"
    command = [*options.split(), "--save_every", "2", "--outdir"]
    folder = tmp_path / "killed"
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from mlx_gmvae.cli import run_callbacks, train
run_callbacks.SECONDS_BETWEEN_SAVES = 0
train.main(sys.argv[1:])
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, *command, str(folder)], stdout=subprocess.DEVNULL
    ) as process:
        while not (folder / "model.npz").exists():  # which is written after the first step
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    progress = load_info(folder / "state.npz")["progress"]
    assert progress["step"] > 0 and not (folder / "metrics.json").exists()
    assert train.main(["--cpu", "--resume", str(folder)]) == 0
    assert train.main([*command, str(tmp_path / "whole")]) == 0
    for name, value in load_arrays(tmp_path / "whole/model.npz").items():
        np.testing.assert_array_equal(load_arrays(folder / "model.npz")[name], value)
    assert not list(folder.rglob(".*"))


def resume(epochs: int) -> int:
    return train.main(f"--resume run --epochs {epochs}".split())


def test_a_run_says_with_what_it_was_made(run: Path) -> None:
    made_with = json.loads((run / "metrics.json").read_text())["made_with"]
    (session,) = made_with["sessions"]
    assert session["command"] == f"python train.py {SMALL}"
    assert session | provenance.environment() == session
    card = (run / "README.md").read_text()
    assert f"| crc32 of the training images | {made_with['images']['crc32']} |" in card
    assert f"| device | {session['device']} |" in card and f"| mlx | {session['mlx']} |" in card
    assert load_info(run / "state.npz")["record"]["sessions"] == [session]


def test_images_that_changed_are_refused_by_what_changed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = (run / "state.npz").read_bytes()
    images = np.load("a.npz")["images"]
    for changed, reason in [
        (images[:50], "there are 40 instead of 48"),
        (images ^ 1, "their checksum is"),
    ]:
        np.savez("a.npz", images=changed)
        assert resume(2) == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
    assert (run / "state.npz").read_bytes() == state and (run / "metrics.json").is_file()
    np.savez("a.npz", images=images)
    assert resume(2) == 0 and capsys.readouterr().err == ""


def test_another_version_is_named_and_the_run_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info, arrays = load_info(run / "state.npz"), load_arrays(run / "state.npz")
    arrays.pop("__config__", None)
    info["record"]["sessions"][0]["mlx"] = "0.1"
    save_arrays(run / "state.npz", arrays, info)
    assert resume(2) == 0
    error = capsys.readouterr().err
    now = provenance.environment()["mlx"]
    assert f"continues with mlx {now} instead of 0.1:" in error and error.count("\n") == 1
    assert f"| mlx | 0.1, then {now} |" in (run / "README.md").read_text()
    del info["record"]  # as the first version wrote it
    save_arrays(run / "state.npz", arrays, info)
    assert resume(3) == 0
    assert capsys.readouterr().err == ""


def test_two_trainings_in_one_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused and changes nothing; a killed one, and what it left, is no obstacle."""
    code = f"""
import sys
import time
from contextlib import ExitStack
from pathlib import Path
sys.path.insert(0, {str(Path(train.__file__).parent)!r})
from mlx_gmvae.system.files import atomic_write
from mlx_gmvae.runs.lock import locked
with locked(Path("run")), atomic_write(Path("run/reconstructions/large.png")):
    print("locked", flush=True)
    time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        for options in (f"{SMALL} --overwrite", "--resume run --epochs 2"):
            assert train.main(options.split()) == 2
            error = capsys.readouterr().err
            assert f"another training (process {other.pid}) writes to run;" in error
            assert error.count("\n") == 1
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
        other.kill()
    assert len(list(run.rglob(".*"))) == 2
    assert resume(2) == 0
    assert list(run.rglob(".*")) == []


@pytest.mark.parametrize("place", ["", "iterations", "reconstructions/clusters", "seed_3/progress"])
def test_what_a_killed_run_left_unfinished_is_removed_everywhere(
    tmp_path: Path, place: str
) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    left, own = folder / f"{PREFIX}0123456789ab.png", folder / ".saving-photo.png"
    left.touch()
    own.touch()
    with locked(tmp_path):
        assert not left.exists() and own.exists()


def test_where_a_folder_goes_its_lock_goes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        with pytest.raises(InputError, match=f"process {os.getpid()}"), locked(tmp_path / "run"):
            pass
        (tmp_path / "run/.training").unlink()
        (tmp_path / "run").rmdir()
    assert list(tmp_path.iterdir()) == []


def test_images_that_moved_are_found_where_dataset_says(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.npz").rename("b.npz")
    np.savez("others.npz", images=np.zeros((60, 8, 8), np.uint8))
    assert resume(2) == 2
    assert (
        "put it back, or give the new place of its images with --dataset" in capsys.readouterr().err
    )
    assert train.main(["--resume", "run", "--epochs", "2", "--dataset", "others.npz"]) == 2
    error = capsys.readouterr().err
    assert "the training images in" in error and "their checksum is" in error
    assert train.main(["--resume", "run", "--epochs", "2", "--dataset", "b.npz"]) == 0
    assert resume(3) == 0 and capsys.readouterr().err == ""  # from then on they are known there
    assert cluster.main(["--model", "run/model.npz", "--outdir", "c"]) == 0
    info, arrays = load_info(run / "state.npz"), load_arrays(run / "state.npz")
    del info["record"]  # as the first version wrote it
    save_arrays(run / "state.npz", arrays, info)
    assert train.main(["--resume", "run", "--epochs", "4", "--dataset", "b.npz"]) == 2
    assert "--dataset cannot change" in capsys.readouterr().err
    Path("b.npz").rename("c.npz")
    assert resume(4) == 2
    assert capsys.readouterr().err.endswith("; put it back\n")


def test_a_run_that_ends_says_what_to_type_next(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def last_line() -> str:
        assert train.main([*SMALL.split(), "--overwrite", "--data_dir", "kept here"]) == 0
        return capsys.readouterr().out.splitlines()[-1]

    options = "--model run/model.npz --explorer --data_dir 'kept here'"
    assert last_line() == f"next: python cluster.py {options}"
    assert cluster.main(shlex.split(options)) == 0
    monkeypatch.setattr(sys, "argv", ["mlx-gmvae train"])
    capsys.readouterr()
    assert last_line() == f"next: mlx-gmvae cluster {options}"


def test_what_others_may_get_finds_the_images_without_the_name_of_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "STEPS", 20)
    monkeypatch.setattr(frozen, "VOTE_STEPS", 10)
    home = tmp_path / "anna"
    photos, features = home / "album/photos", home / "private/features.npy"
    for folder in (photos / "sub", features.parent, tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(30):
        image = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
        image.save(photos / "sub" / f"{number}.png")
    np.save(features, rng.normal(size=(30, 4)))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(home / "album")
    command = SMALL.replace("a.npz", str(photos)).replace("--outdir run", f"--outdir {tmp_path}/r")
    assert train.main([*command.split(), "--features", str(features)]) == 0

    monkeypatch.chdir(tmp_path / "elsewhere")
    # Either way its own: all of them are shown.
    for options in (["--dataset", str(photos)], ["--explorer"]):
        seen = ["--features", str(features)]
        assert cluster.main(["--model", f"{tmp_path}/r/model.npz", *options, *seen]) == 0
        assert json.loads(Path("clusters/metrics.json").read_text())["images"] == 30
    told = [tmp_path / "r" / name for name in ("model.npz", "metrics.json", "README.md")]
    told += [tmp_path / "r/summary.html", tmp_path / "r/neighbours.npz"]
    told += [Path("clusters") / name for name in ("explorer.html", "summary.html", "metrics.json")]
    for path in told:
        assert b"anna" not in path.read_bytes(), path
        assert b"private" not in path.read_bytes() or path.name == "metrics.json", path
    assert load_info(tmp_path / "r/model.npz")["data"]["path"] == "~/album/photos"
    page = Path("clusters/explorer.html").read_text()
    assert re.search(r'"sub/\d+\.png"', page)
    assert train.main(["--resume", f"{tmp_path}/r", "--epochs", "2"]) == 0
