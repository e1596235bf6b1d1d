"""The table of features: every command runs as typed, every test it names exists."""

import os
import re
from pathlib import Path

import cluster
import generate
import reconstruct
import train
from mlx_gmvae.clustering import frozen

import numpy as np
import pytest
from conftest import DATA_VARIABLE, ROOT
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

SCRIPTS = {"train": train, "reconstruct": reconstruct, "generate": generate, "cluster": cluster}
ROWS = re.findall(r"^\| (.+) \| `python (\w+)\.py (.+)` \| (\S+) \|$",
                  (ROOT / "docs/FEATURES.md").read_text(), flags=re.MULTILINE)  # fmt: skip
# What a command is for, and is there only once it has worked.
WRITTEN = {
    "runs/vae": "model.npz",
    "runs/tree": "progress.gif",
    "runs/photos": "reconstructions/large_comparisons/epoch_0001.png",
    "runs/auto": "select_k.png",
    "runs/own": "neighbours.npz",
    "runs/early": "best.npz",
    "runs/mutual": "latent_tsne.png",
    "rec": "test_worst.png",
    "clusters": "../sorted/cluster_09",
    "more": "cluster_03_00019.png",
    "strange": "anomalies.png",
    "fitted": "summary.html",
    "latents": "latents.npy",
    "tsne": "latent_tsne.png",
    "named": "confusion.png",
    "page": "explorer.html",
    "path.png": "",
    "manifold.png": "",
    "before.png": "",
    "samples.png": "",
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pretrained models, two classes of photographs, features of the digits."""
    folder = tmp_path_factory.mktemp("features")
    (folder / "pretrained").symlink_to(ROOT / "pretrained")
    (folder / "encoder").symlink_to(ROOT / "tests" / "encoders" / "dinov2")
    np.save(folder / "features.npy", load_digits().data)
    rng = np.random.default_rng(0)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            top, left = rng.integers(0, 300), rng.integers(0, 500)
            piece = Image.fromarray(photo[top : top + 48, left : left + 64])
            piece.save(folder / "photos" / name / f"{number}.png")
    (folder / "snapshots").mkdir()
    for number, size in enumerate([(90, 40), (30, 70), (64, 48)]):
        piece.resize(size).save(folder / "snapshots" / f"{number}.jpg")
    return folder


def test_the_table_has_its_rows() -> None:
    assert len(ROWS) >= 26
    assert {script for _, script, _, _ in ROWS} == set(SCRIPTS)


@pytest.mark.parametrize(("what", "script", "options", "test"), ROWS, ids=[row[0] for row in ROWS])
def test_row(
    what: str,
    script: str,
    options: str,
    test: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(frozen, "STEPS", 100)
    if "DIR" in options.split():
        data_dir = os.environ.get(DATA_VARIABLE)
        if not data_dir:
            pytest.skip(f"set {DATA_VARIABLE} to run: {options}")
        options = options.replace("DIR", data_dir)
    if "--tensorboard" in options:
        pytest.importorskip("tensorboard")
    arguments = options.split()
    assert SCRIPTS[script].main(arguments) == 0, capsys.readouterr().err
    flag = "--outfile" if "--outfile" in arguments else "--outdir"
    outdir = arguments[arguments.index(flag) + 1] if flag in arguments else ""
    assert not outdir or (workplace / outdir).exists()
    assert (workplace / outdir / WRITTEN.get(outdir, "")).exists()

    file, name = test.split("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()
