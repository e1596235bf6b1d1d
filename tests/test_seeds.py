"""--seeds in one folder: interrupted anywhere and resumed, they end as if they had not been."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from unittest.mock import Mock

import train
from mlx_gmvae.cli.seeds import Seeds
from mlx_gmvae.formatting import epoch_line
from mlx_gmvae.runs.checkpoint import load_arrays, load_info, load_model
from mlx_gmvae.runs.run_folder import RunFolder
from mlx_gmvae.training import callbacks

import numpy as np
import pytest
from conftest import only_few_digits, without_drawing

pytestmark = pytest.mark.usefixtures("few_digits")

OPTIONS = "--cpu --dataset digits --arch mlp --hidden_dims 16 --latent_dims 2 --K 3 --epochs 4"
OPTIONS += " --heads 2 --augment none --descriptor pixels"
OPTIONS += " --batchsize 128 --save_every 999 --seeds 3 --seed 5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds") / "whole"
    with without_drawing(), only_few_digits():
        assert train.main([*OPTIONS.split(), "--outdir", str(folder)]) == 0
    return folder


def assert_same_model(ours: Path, theirs: Path) -> None:
    arrays, others = (load_arrays(folder / "model.npz") for folder in (ours, theirs))
    assert arrays.keys() == others.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)
    seeds = [load_model(folder / "model.npz").training["seed"] for folder in (ours, theirs)]
    assert seeds[0] == seeds[1]


def test_interrupted_in_the_second_of_three_and_resumed(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cut, epochs = tmp_path / "cut", []

    def ctrl_c_in_the_second_epoch_of_the_second(
        record: dict[str, float], seconds_left: float
    ) -> str:
        epochs.append(record["epoch"])
        if epochs.count(2) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return epoch_line(record, seconds_left)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "epoch_line", ctrl_c_in_the_second_epoch_of_the_second)
        assert train.main([*OPTIONS.split(), "--outdir", str(cut)]) == 130
    assert epochs == [1, 2, 3, 4, 1, 2]
    last = capsys.readouterr().out.splitlines()[-1]
    expected = f"interrupted; continue with: python train.py --resume {cut} --save_every 999 --cpu"
    assert last == expected
    assert not (cut / "model.npz").exists() and not (cut / "seed_7").exists()
    assert train.main(shlex.split(last)[5:]) == 0
    assert "kept seed" in capsys.readouterr().out
    for name in ("", "seed_5", "seed_6", "seed_7"):
        assert_same_model(whole / name, cut / name)
    assert train.main(["--resume", str(cut)]) == 2
    assert "is finished after 4 epochs" in capsys.readouterr().err


def test_figures_of_a_seed_that_are_damaged_are_named(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "cut")
    for name in ("state.npz", "model.npz"):  # the best was not chosen yet
        (tmp_path / "cut" / name).unlink()
    for content in ("{", "[]", '{"pairs": {}}', '{"pairs": {"pair_loss": "low"}}'):
        (tmp_path / "cut/seed_6/metrics.json").write_text(content)
        assert train.main(["--resume", str(tmp_path / "cut")]) == 2
        error = capsys.readouterr().err
        assert "seed_6/metrics.json is damaged" in error and error.count("\n") == 1
    (tmp_path / "cut/seed_6/metrics.json").unlink()
    assert train.main(["--resume", str(tmp_path / "cut")]) == 0  # as the line says
    assert_same_model(whole, tmp_path / "cut")


def test_a_seed_that_was_trained_but_not_measured_is_measured(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut"
    subprocess.run(["cp", "-r", str(whole), str(cut)], check=True)
    (cut / "state.npz").unlink()  # what is copied up last
    (cut / "seed_7/metrics.json").unlink()
    assert train.main(["--resume", str(cut), "--epochs", "40"]) == 2
    assert "--epochs cannot change while the seeds" in capsys.readouterr().err
    assert train.main(["--resume", str(cut)]) == 0
    out = capsys.readouterr().out
    assert "run: " + str(cut / "seed_7") in out and "seed_6\n" not in out and "Epoch" not in out
    assert_same_model(whole, cut)


def test_the_kept_seed_is_that_of_the_lowest_loss(tmp_path: Path) -> None:
    """Not the first, and not the last."""
    plan = Mock()
    plan.experiment.training.seed = 5
    seeds = Seeds(RunFolder(tmp_path), plan, 3)
    for seed, loss in ((5, -1.0), (6, -1.5), (7, -1.2)):
        folder = seeds.folder.of_seed(seed)
        folder.metrics.write_text(json.dumps({"pairs": {"pair_loss": loss}}))
    assert list(seeds.pair_losses().items()) == [(6, -1.5), (7, -1.2), (5, -1.0)]


def test_what_says_which_seeds_may_be_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ("{}", "not JSON", '{"data": {"dataset": 1}}'):
        (tmp_path / "seeds.json").write_text(content)
        assert train.main(["--resume", str(tmp_path)]) == 2
        assert "seeds.json does not describe runs" in capsys.readouterr().err
    assert train.main(["--dataset", "digits", "--outdir", str(tmp_path)]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_images_of_unfinished_seeds_may_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    small = "--arch mlp --hidden_dims 8 --latent_dims 2 --K 3 --epochs 1 --dataset a.npy"
    assert train.main([*small.split(), *["--seeds", "2", "--outdir", "run"]]) == 0
    for name in ("state.npz", "seed_1/metrics.json"):
        Path("run", name).unlink()
    Path("a.npy").rename("b.npy")
    assert train.main(["--resume", "run"]) == 2
    assert "give the new place of its images with --dataset" in capsys.readouterr().err
    assert train.main(["--resume", "run", "--dataset", "b.npy"]) == 0
    for name in ("run", "run/seed_0", "run/seed_1"):
        for kind in ("state", "model"):
            assert load_info(Path(name, f"{kind}.npz"))["data"]["dataset"] == "b.npy"
