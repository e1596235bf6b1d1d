"""The pretrained models load, work in every script, and are what their card says."""

import re
from pathlib import Path

import cluster
import generate
import reconstruct
from mlx_gmvae.models import MixtureModel
from mlx_gmvae.runs.checkpoint import load_model

import pytest
from conftest import ROOT

CARD = (ROOT / "pretrained/README.md").read_text()
FILES = sorted((ROOT / "pretrained").glob("*.npz"))
COLUMNS = ["data", "epochs", "seconds", "elbo", "importance_bound", "mse", "ssim"]
COLUMNS += ["accuracy", "nmi", "ari", "kilobytes"]


def card_row(path: Path) -> dict[str, str]:
    row = re.search(rf"^\| `{path.name}` \|(.*)\|$", CARD, flags=re.MULTILINE)
    assert row, f"pretrained/README.md has no row for {path.name}"
    return dict(zip(COLUMNS, (cell.strip() for cell in row[1].split("|")), strict=True))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_card_agrees_with_the_file(path: Path) -> None:
    loaded, row = load_model(path), card_row(path)
    figures = {
        **loaded.metrics["generative"], **loaded.metrics.get("clustering", {}),
        "epochs": loaded.training["epochs"], "seconds": loaded.metrics["training_seconds"],
        "kilobytes": path.stat().st_size / 1024,
    }  # fmt: skip
    for name, shown in row.items():
        if shown and name != "data":
            digits = len(shown.partition(".")[2])
            assert f"{figures[name]:.{digits}f}" == shown, name
    assert row["data"].startswith(loaded.data["dataset"])
    assert path.stat().st_size < 3 * 2**20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_script_runs_on_it(path: Path, tmp_path: Path) -> None:
    """On the bundled digits, so that nothing is downloaded: as MNIST-sized images."""
    data = "--dataset digits --image_size 28 28"
    out = f"--outdir {tmp_path}"
    assert generate.main(f"--model {path} --outfile {tmp_path}/s.png".split()) == 0
    assert reconstruct.main(f"--model {path} --rec_testdata {data} {out}".split()) == 0
    is_mixture = isinstance(load_model(path).model, MixtureModel)
    assert cluster.main(f"--model {path} {data} {out}".split()) == (0 if is_mixture else 2)


def test_digits_model_needs_no_data_flags(tmp_path: Path) -> None:
    model = ROOT / "pretrained/gmvae_digits_K10_dims_0008.npz"
    assert cluster.main(f"--model {model} --outdir {tmp_path}".split()) == 0


def test_reported_accuracy_is_reproduced(data_dir: str, tmp_path: Path) -> None:
    """cluster.py on the file and the real test images gives the card's figures again."""
    import json

    model = ROOT / "pretrained/gmvae_mnist_K10_dims_0008.npz"
    options = f"--model {model} --data_dir {data_dir} --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    scores = json.loads((tmp_path / "metrics.json").read_text())["clustering"]
    assert f"{scores['accuracy']:.3f}" == card_row(model)["accuracy"]
    assert f"{scores['ari']:.3f}" == card_row(model)["ari"]
