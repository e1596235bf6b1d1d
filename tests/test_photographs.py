"""Runs of the scripts on folders of photographs."""

import json
import zipfile
from pathlib import Path

import cluster
import reconstruct
import train
from mlx_gmvae.data.dataset_spec import DatasetSpec
from mlx_gmvae.errors import InputError
from mlx_gmvae.runs.checkpoint import load_model

import pytest
from pictures import FLOWER, kept_arrays, labelled, write


@pytest.mark.usefixtures("few_words")
def test_a_run_without_labels_stays_without_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resumed, clustered and reconstructed by default; files of before know of no such thing."""
    folder, model = labelled(tmp_path / "pets"), tmp_path / "run/model.npz"
    options = f"--dataset {folder} --data_dir {tmp_path}/cache --outdir {tmp_path}/run --epochs 1"
    options += " --K 2 --arch mlp --hidden_dims 8 --latent_dims 2 --no_labels"
    assert train.main(options.split()) == 0
    assert load_model(model).data["labels"] is False
    cache = f"--data_dir {tmp_path}/cache"
    assert train.main(f"--resume {tmp_path}/run --epochs 2 {cache}".split()) == 0
    assert train.main(f"--resume {tmp_path}/run --epochs 3 --no_labels {cache}".split()) == 2
    assert "--no_labels cannot change" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    command = f"--model {model} {cache} --outdir {tmp_path}/clusters"
    assert cluster.main(command.split()) == 0
    again = json.loads((tmp_path / "clusters/metrics.json").read_text())
    assert "clustering" not in metrics and "clustering" not in again
    assert reconstruct.main(f"--model {model} {cache} --outdir {tmp_path}/r".split()) == 0
    header = (tmp_path / "r/train_reconstructions.csv").read_text(encoding="utf-8-sig").splitlines()
    assert "label" not in header[0]
    assert "sub-folders" not in capsys.readouterr().err
    assert cluster.main([*command.split(), "--labels"]) == 0
    assert "2 sub-folders of" in capsys.readouterr().err
    assert "clustering" in json.loads((tmp_path / "clusters/metrics.json").read_text())
    old = {"dataset": str(folder), "path": str(folder), "classes": None, "fit": "crop"}
    assert DatasetSpec.from_dict(old, "old").labels and DatasetSpec.from_dict(old, "old").bits == 16
    with pytest.raises(InputError, match="does not name its training images"):
        DatasetSpec.from_dict(old | {"labels": "no"}, "old")


@pytest.mark.usefixtures("few_words")
def test_large_photographs_train_without_downsampling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "large"
    photo = FLOWER.crop((100, 50, 220, 140))
    for number in range(3):
        write(folder, f"{number}.jpg", photo.rotate(number), quality=90)
    options = f"--dataset {folder} --data_dir {tmp_path}/cache --epochs 1 --latent_dims 4 --K 1"
    options += f" --max_filters 8 --save_every 5 --batchsize 2 --outdir {tmp_path}/run"
    options += " --classifier conv --descriptor hog"
    assert train.main(options.split()) == 0
    output = capsys.readouterr().out
    assert "memory: about " in output and "read from disk as needed" in output
    assert load_model(tmp_path / "run/model.npz").model.config.image_size == (90, 120)


@pytest.mark.usefixtures("few_words")
def test_real_photographs_train_resume_and_cluster(
    data_dir: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archives = list(Path(data_dir).glob("cifar10-jpg/*.zip"))
    if not archives:
        pytest.skip("there is no cifar10-jpg/*.zip beside mnist/")
    folder = tmp_path / "photos"
    with zipfile.ZipFile(archives[0]) as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".jpg")]
        archive.extractall(folder, names[::400])
    cache = f"--data_dir {tmp_path}/cache"
    options = (
        f"--dataset {folder} --epochs 1 --latent_dims 4 --K 4 --outdir {tmp_path}/run {cache} "
        "--arch mlp --hidden_dims 16 --num_layers 2"
    )
    assert train.main(options.split()) == 0
    assert f"data: {folder}, 25 training and 5 test images of (32, 32, 3)" in (
        capsys.readouterr().out
    )
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)
    assert train.main(f"--resume {tmp_path}/run --epochs 2 {cache}".split()) == 0
    model = f"--model {tmp_path}/run/model.npz {cache} --outdir {tmp_path}"
    assert cluster.main(f"{model}/clusters --split all".split()) == 0
    assert reconstruct.main(f"{model}/r --rec_testdata".split()) == 0
    metrics = json.loads((tmp_path / "clusters/metrics.json").read_text())
    assert metrics["images"] == 30 and "clustering" in metrics
    assert len(kept_arrays(folder)) == 1
