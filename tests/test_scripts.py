"""The four scripts as a person runs them: whole stories, wrong input, Ctrl-C."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cluster
import generate
import reconstruct
import train
from mlx_gmvae.config import ModelConfig
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.device.randomness import random_rows
from mlx_gmvae.models import MixtureModel, build_model
from mlx_gmvae.report import curves
from mlx_gmvae.runs.checkpoint import load_model, save_model

import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT
from matplotlib import colormaps
from pictures import cells, read

NOWHERE = "http://127.0.0.1:9"  # a closed port: no download can succeed


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_train_writes_a_whole_run(digits_run: Path) -> None:
    assert load_model(digits_run / "model.npz").model.config.latent_dims == 4
    history = read_csv(digits_run / "history.csv")
    assert [row["epoch"] for row in history] == [str(n) for n in range(1, 21)]
    assert float(history[-1]["loss"]) < float(history[0]["loss"])
    for kind in ("standard", "comparisons", "large_comparisons", "clusters"):
        names = sorted(p.name for p in (digits_run / "reconstructions" / kind).iterdir())
        assert names == ["epoch_0010.png", "epoch_0020.png"]
    metrics = json.loads((digits_run / "metrics.json").read_text())
    assert metrics["images"] == 359
    assert metrics["generative"]["importance_bound"] > metrics["generative"]["elbo"]
    assert {"mse", "ssim", "kl_z", "kl_w", "kl_y"} <= metrics["generative"].keys()
    assert {"accuracy", "nmi", "ari"} <= metrics["clustering"].keys()
    assert metrics.pop("made_with")["seed"] == 0  # whose commands name paths of this machine
    assert load_model(digits_run / "model.npz").metrics == metrics


def test_pictures_of_a_run_are_those_of_its_model(digits_run: Path, digits: Splits) -> None:
    model = load_model(digits_run / "model.npz").model
    images = digits.test.images[random_rows(len(digits.test), 64)]
    assert isinstance(model, MixtureModel)
    expected = np.array(model.reconstruct(mx.array(images / 255))) * 255
    last = [digits_run / "reconstructions" / kind / "epoch_0020.png"
            for kind in ("standard", "comparisons", "large_comparisons", "clusters")]  # fmt: skip
    standard, comparisons, large, clusters = map(read, last)
    np.testing.assert_allclose(cells(standard, 8, 8, 8), expected, atol=1)
    rows = cells(comparisons, 8, 8, 8).reshape(8, 2, 8, 8, 8, 1)
    np.testing.assert_array_equal(rows[:, 0], images.reshape(8, 8, 8, 8, 1))
    np.testing.assert_allclose(rows[:, 1], expected.reshape(8, 8, 8, 8, 1), atol=1)
    originals, reconstructions = cells(large, 8, 8, 4).reshape(2, 4, 8, 8, 1)
    assert large.shape == (2 * 258 + 2, 4 * 258 + 2)
    np.testing.assert_array_equal(originals, images[:4])
    np.testing.assert_allclose(reconstructions, expected[:4], atol=1)
    # A row of samples per component, which the model itself recognises.
    np.testing.assert_array_equal(read(digits_run / "samples.png"), clusters)
    samples = mx.array(cells(clusters, 8, 8, 10) / 255)
    recognised = np.array(model.responsibilities(samples).argmax(axis=1)).reshape(10, 10)
    assert (recognised == np.arange(10)[:, None]).mean() > 0.9


def test_curves_of_a_run_are_those_of_its_history(digits_run: Path) -> None:
    history = [
        {name: float(value) for name, value in row.items()}
        for row in read_csv(digits_run / "history.csv")
    ]
    bound, pairs = curves.training_curves(history)
    assert list(bound) == ["loss, as weighted", "negative bound", "reconstruction",
                           "KL of q from the prior"]  # fmt: skip
    for number, record in enumerate(history):
        terms = [record[name] for name in ("reconstruction", "kl_z", "kl_w", "kl_y")]
        assert bound["negative bound"]["training"][number] == pytest.approx(sum(terms))
        divergences = [values[number] for values in bound["KL of q from the prior"].values()]
        assert sorted(divergences) == sorted(terms[1:])
        shown = [lines[""][number] for lines in pairs.values()]
        names = ("pair", "entropy", "imbalance", "sample")
        assert shown == [record[name] for name in names]


@pytest.mark.usefixtures("few_digits")
def test_train_prints_options_device_parameters_and_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").touch()
    options = f"--dataset digits --epochs 1 --model vae --arch mlp --outdir {tmp_path}/run"
    assert train.main(options.split()) == 0
    output = capsys.readouterr().out
    *_, saved, following = output.splitlines()
    assert following == f"next: python cluster.py --model {tmp_path}/run/model.npz --explorer"
    assert saved.startswith("saved ") and saved.endswith(f" in {tmp_path}/run")
    for path in (tmp_path / "run").iterdir():
        assert (path.name in saved) == (path.name != "notes.txt"), path.name
    assert "reconstructions/ (3)" in saved
    for part in (
        "latent_dims",
        "device: ",
        "number of trainable parameters: ",
        "Epoch    1 | Loss",
    ):
        assert part in output
    assert "im/s | Time" in output
    assert " K " not in output  # a VAE has none


@pytest.mark.draws
def test_the_other_scripts_need_the_model_file_alone(
    digits_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In another working directory, with only the .npz at hand; one as a real process."""
    model = tmp_path / "moved.npz"
    model.write_bytes((digits_run / "model.npz").read_bytes())
    command = [sys.executable, str(ROOT / "generate.py"), "--model", "moved.npz"]
    done = subprocess.run(
        [*command, *["--outfile", "s.png", "--seed", "1"]],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    monkeypatch.chdir(tmp_path)
    assert reconstruct.main(["--model", "moved.npz", "--rec_testdata", "--outdir", "r"]) == 0
    assert cluster.main(["--model", "moved.npz", "--outdir", "c", "--split", "all"]) == 0
    assert capsys.readouterr().err == ""
    scores = json.loads((tmp_path / "r/test_reconstructions.json").read_text())
    rows = read_csv(tmp_path / "r/test_reconstructions.csv")
    assert len(rows) == scores["images"] == 359
    assert np.mean([float(row["mse"]) for row in rows]) == pytest.approx(scores["mse"], abs=1e-5)
    loaded = load_model(model).model
    assert isinstance(loaded, MixtureModel)
    samples = mx.array(cells(read(tmp_path / "s.png"), 8, 8, 10) / 255)
    recognised = np.array(loaded.responsibilities(samples).argmax(axis=1)).reshape(10, 10)
    assert (recognised == np.arange(10)[:, None]).mean() > 0.9
    assignments = read_csv(tmp_path / "c/assignments.csv")
    assert sorted(int(row["index"]) for row in assignments) == list(range(1797))
    assert all(0 <= float(row["confidence"]) <= 1 for row in assignments)
    sizes = json.loads((tmp_path / "c/metrics.json").read_text())["cluster_sizes"]
    counted = np.bincount([int(row["cluster"]) for row in assignments], minlength=10)
    assert counted.tolist() == sizes
    sheets = {path.name for path in (tmp_path / "c").glob("cluster_*.png")}
    assert sheets == {f"cluster_{k:02d}.png" for k in np.flatnonzero(sizes)}
    by_cluster, _ = np.split(read(tmp_path / "c/latent.png")[..., :3].astype(int), 2, axis=1)
    for number, size in enumerate(sizes):  # in its own colour, six tenths opaque
        colour = 255 * (0.6 * np.array(colormaps["tab10"](number)[:3]) + 0.4)
        is_there = (np.abs(by_cluster - colour).max(axis=-1) <= 2).sum() > 20
        assert is_there or size == 0


def test_generate_one_cluster_as_files(digits_run: Path, tmp_path: Path) -> None:
    options = f"--model {digits_run}/model.npz --cluster 3 --num 5 --outdir {tmp_path}/files"
    assert generate.main([*options.split(), "--outfile", f"{tmp_path}/s.png"]) == 0
    files = sorted((tmp_path / "files").iterdir())
    assert [path.name for path in files] == [f"cluster_03_{n:05d}.png" for n in range(5)]
    shown = cells(read(tmp_path / "s.png"), 8, 8, 5)
    np.testing.assert_array_equal(np.stack([read(path) for path in files]), shown[..., 0])
    model = load_model(digits_run / "model.npz").model
    assert isinstance(model, MixtureModel)
    recognised = np.array(model.responsibilities(mx.array(shown / 255)).argmax(axis=1))
    assert (recognised == 3).mean() >= 0.8


def test_generate_into_a_folder_replaces_what_it_wrote_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the series it writes anew: another component's files are another call's."""
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(arch="mlp", hidden_dims=8, image_size=(8, 8), K=3)
    save_model(tmp_path / "m.npz", build_model(config))
    files = tmp_path / "files"
    files.mkdir()
    kept = {"cluster_01_1.png", "cluster_01_000001.png", "cluster_01_00001.txt", "photo.png",
            "my_cluster_01_00001.png", "sample_00001.png"}  # fmt: skip
    for name in kept | {"cluster_07_00000.png"}:
        (files / name).touch()
    for component, num in ((1, 6), (2, 4), (1, 2)):
        options = f"--model m.npz --cluster {component} --num {num} --outdir files"
        assert generate.main(options.split()) == 0
        assert f"cluster_{component:02d}_*.png ({num}) in files" in capsys.readouterr().out
    series = {f"cluster_{k:02d}_{n:05d}.png" for k, num in ((1, 2), (2, 4)) for n in range(num)}
    left = {path.name for path in files.iterdir()}
    assert left == kept | series | {"cluster_07_00000.png", "samples.png"}
    assert not (tmp_path / "samples.png").exists()  # the grid lies with its files

    assert generate.main(["--model", "m.npz", "--num", "1", "--outdir", "files"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "saved files/samples.png (3 samples, a row per component)",
        "saved cluster_*_*.png (3) in files",
    ]
    left = {path.name for path in files.iterdir()}
    assert left == kept | {f"cluster_{k:02d}_00000.png" for k in range(3)} | {"samples.png"}


def test_generate_repeats_itself_for_a_seed(digits_run: Path, tmp_path: Path) -> None:
    pictures = []
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        options = f"--model {digits_run}/model.npz --seed {seed} --outfile {tmp_path}/{name}.png"
        assert generate.main(options.split()) == 0
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_flags_may_be_dashed(digits_run: Path, tmp_path: Path) -> None:
    options = f"--model={digits_run}/model.npz --latent-dims=4 --outfile={tmp_path}/s.png"
    assert generate.main(options.split()) == 0


@pytest.mark.usefixtures("few_digits")
def test_mnist_default_falls_back_to_digits_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLX_GMVAE_MIRROR", NOWHERE)
    options = "--latent_dims 2 --K 3 --arch mlp --hidden_dims 16 --epochs 1"
    assert train.main(f"{options} --data_dir {tmp_path} --outdir {tmp_path}/run".split()) == 0
    said = "training on scikit-learn's 1,797 handwritten digits instead"
    assert said in capsys.readouterr().out
    assert load_model(tmp_path / "run/model.npz").model.config.image_size == (8, 8)
    described = load_model(tmp_path / "run/model.npz").data
    assert described == {
        "dataset": "digits", "path": None, "classes": None, "fit": "crop", "labels": True,
        "bits": None, "training_images": 240,
    }  # fmt: skip


def test_mnist_by_name_does_not_fall_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLX_GMVAE_MIRROR", NOWHERE)
    assert train.main(["--dataset", "mnist", "--data_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"put its four files (train-images-idx3-ubyte.gz, ...) into {tmp_path}/mnist" in error


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process trains is not measured, which takes longest."""
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)


@pytest.mark.usefixtures("few_digits", "unmeasured")
def test_runs_are_numbered_and_never_overwritten_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = "--dataset digits --epochs 1 --batchsize 256 --arch mlp --hidden_dims 8 --latent_dims 2"
    small += " --heads 1 --descriptor pixels --augment none"
    options = small.split()
    assert train.main(options) == train.main(options) == 0
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["gmvae_digits_K10_dims_0002", "gmvae_digits_K10_dims_0002-2"]
    there = ["--outdir", f"results/{names[0]}"]
    assert train.main([*options, *there]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert train.main([*options, *there, "--overwrite"]) == 0


@pytest.mark.usefixtures("unmeasured")
def test_ctrl_c_saves_and_resume_repeats_the_uninterrupted_run(tmp_path: Path) -> None:
    """A real process, a real SIGINT in the middle of an epoch, then --resume."""
    images = np.random.default_rng(0).integers(0, 256, (400, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", images)
    options = f"--dataset {tmp_path}/noise.npy --model vae --epochs 9 --latent_dims 2"
    options += " --save_every 100 --arch mlp --hidden_dims 64 --batchsize 32"
    assert train.main([*options.split(), "--outdir", f"{tmp_path}/whole"]) == 0
    command = [sys.executable, str(ROOT / "train.py"), *options.split()]
    with subprocess.Popen(
        [*command, "--outdir", f"{tmp_path}/cut"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Epoch    3"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        assert process.wait(60) == 130
    assert f"--resume {tmp_path}/cut" in rest
    assert train.main(["--resume", f"{tmp_path}/cut"]) == 0
    ours, theirs = (read_csv(tmp_path / name / "history.csv") for name in ("whole", "cut"))
    for row, other in zip(ours, theirs, strict=True):
        for name in set(row) - {"seconds", "throughput"}:
            assert row[name] == other[name], (row["epoch"], name)
    whole_model, cut_model = (
        load_model(tmp_path / name / "model.npz").model.arrays() for name in ("whole", "cut")
    )
    for name, value in whole_model.items():
        np.testing.assert_array_equal(value, cut_model[name], err_msg=name)


@pytest.mark.usefixtures("unmeasured")
def test_resume_for_more_epochs_and_only_that(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    for name in ("model.npz", "state.npz"):
        (folder / name).write_bytes((digits_run / name).read_bytes())
    assert train.main(["--resume", str(folder), "--epochs", "21"]) == 0
    assert len(read_csv(folder / "history.csv")) == 21
    for flag in ("--K 3", "--seed 3", "--fit pad", "--lr 1", "--image_size 9 9"):
        assert train.main(["--resume", str(folder), *flag.split()]) == 2
        assert f"{flag.split()[0]} cannot change" in capsys.readouterr().err


def path_without_compiler(folder: Path) -> str:
    """A folder of links to every program on PATH but g++."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).iterdir() if Path(place).is_dir() else []:
            link = folder / program.name
            if program.name != "g++" and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


# As train.py, but what was trained is not measured, which takes longest.
TRAIN_ALONE = """
import sys
from mlx_gmvae.cli import train
train.evaluate = lambda run: None
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "environment",
    [{"MLX_GMVAE_BLAS": "none"}, {"PATH": "no g++"}, {"MLX_DISABLE_COMPILE": "1"}],
    ids=["no-openblas", "no-compiler", "eager"],
)
def test_training_without_blas_or_compiler(tmp_path: Path, environment: dict[str, str]) -> None:
    np.save(tmp_path / "noise.npy", np.full((40, 8, 8), 9, np.uint8))
    options = f"--dataset {tmp_path}/noise.npy --model vae --epochs 1 --batchsize 16 --cpu"
    options += f" --arch mlp --hidden_dims 16 --outdir {tmp_path}/run"
    if "PATH" in environment:
        environment = {"PATH": path_without_compiler(tmp_path / "bin")}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_ALONE, *options.split()],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    device = next(line for line in done.stdout.splitlines() if line.startswith("device: cpu"))
    if sys.platform == "linux" and "MLX_GMVAE_BLAS" in environment:
        assert "reference BLAS (slow: MLX_GMVAE_BLAS is none)" in device
    if "PATH" in environment:
        assert "install g++" in device
    if "MLX_DISABLE_COMPILE" in environment:
        assert "eager, somewhat slower (MLX_DISABLE_COMPILE is set)" in device


def test_training_on_real_mnist(data_dir: str, tmp_path: Path) -> None:
    """An epoch on 24,754 images: the loss falls by more than half of the untrained one."""
    started = time.process_time()
    options = f"--dataset mnist --data_dir {data_dir} --model vae --arch mlp --latent_dims 8"
    options += " --hidden_dims 128 --lr 5e-3 --classes 0 1 2 3"
    options += f" --epochs 1 --outdir {tmp_path}/run"
    assert train.main(options.split()) == 0
    history = read_csv(tmp_path / "run/history.csv")
    untrained = 784 * np.log(2)  # a decoder that answers 1/2 for every pixel
    assert float(history[-1]["loss"]) < untrained / 2
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["images"] == 4157
    assert -metrics["generative"]["elbo"] < untrained / 2
    assert metrics["generative"]["ssim"] > 0.3
    assert time.process_time() - started < 300
