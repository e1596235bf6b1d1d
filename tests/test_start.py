"""A run that is refused leaves nothing behind, and the next one takes its name."""

from pathlib import Path

import train
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.report import tensorboard

import numpy as np
import pytest

SMALL = "--arch mlp --hidden_dims 8 --latent_dims 2 --K 3 --epochs 2"


@pytest.fixture
def elsewhere(digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nine images, ninety images, and the shares of two classes."""
    monkeypatch.chdir(tmp_path)
    for num in (9, 90):
        np.savez(
            f"{num}.npz",
            images=digits.train.images[:num, ..., 0],
            test_images=np.zeros((2, 8, 8), np.uint8),
        )
    Path("two.txt").write_text("1 2")
    return tmp_path


@pytest.mark.parametrize("where", ["", " --outdir run", " --seeds 2"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dataset 90.npz --balance two.txt", "balance must be 3 numbers"),
        ("--dataset 90.npz --batchsize 1", "larger --batchsize"),
        ("--dataset 9.npz --early_stopping 1", "too few"),
        ("--dataset 9.npz --model vade --K 10", "too few for K = 10"),
        ("--dataset 90.npz --tensorboard", "--tensorboard needs TensorBoard"),
        ("--dataset 90.npz --seed 4294967296", "seed is"),
    ],
)
def test_a_refused_run_leaves_nothing(
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: str,
    message: str,
    where: str,
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    before = set(elsewhere.iterdir())
    assert train.main([*SMALL.split(), *(flags + where).split()]) == 2
    assert message in capsys.readouterr().err
    assert set(elsewhere.iterdir()) == before


def test_the_last_of_the_seeds_is_checked_before_the_first(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"{SMALL} --dataset 90.npz --seed 4294967295 --seeds 2"
    assert train.main(options.split()) == 2
    assert "seed is 4294967296" in capsys.readouterr().err
    assert not Path("results").exists()


def test_a_run_that_is_to_be_replaced_stays_where_the_new_one_is_refused(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"{SMALL} --dataset 90.npz --outdir run".split()
    assert train.main(options) == 0
    model = Path("run/model.npz").read_bytes()
    assert train.main([*options, "--overwrite", "--balance", "two.txt"]) == 2
    assert Path("run/model.npz").read_bytes() == model and Path("run/metrics.json").is_file()


def test_a_run_continued_is_measured_anew(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics of fewer epochs are not taken for those of more."""
    assert train.main(f"{SMALL} --dataset 90.npz --outdir run".split()) == 0
    # As if it were interrupted.
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)
    assert train.main(["--resume", "run", "--epochs", "3"]) == 0
    assert not Path("run/metrics.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(elsewhere)
    assert train.main(["--resume", "run"]) == 0
    assert Path("run/metrics.json").is_file()
