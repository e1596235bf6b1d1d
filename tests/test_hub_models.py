"""Models to and from a server on loopback that speaks the Hub's protocol."""

import csv
import getpass
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cluster
import generate
import mlx_gmvae as mg
import train
from mlx_gmvae.hub import pretrained
from mlx_gmvae.hub.download import sha256_of

import numpy as np
import pytest
from conftest import ROOT, without_drawing
from hub_server import COMMIT, READER, WRITER, Hub, serving

TINY = "--arch mlp --hidden_dims 8 --latent_dims 2 --K 2 --epochs 1 --balance uniform"
NAME = "someone/digits"
PRETRAINED = "vae_mnist_filters_0064_dims_0008"  # the smallest


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an owner whose name nobody else may learn."""
    path = tmp_path_factory.mktemp("owner") / "few.npz"
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 256, (40, 8, 8), np.uint8), labels=np.arange(40) % 2)
    return path


@pytest.fixture(scope="module")
def finished(few: Path) -> Path:
    folder = few.parent / "run"
    with without_drawing():
        assert train.main(f"--dataset {few} {TINY} --outdir {folder}".split()) == 0
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """org/name has a model, and the token may write."""
    (tmp_path / "served").mkdir()
    model = mg.build_model(image_size=(8, 8), K=2, arch="mlp", hidden_dims=8, latent_dims=2)
    mg.save_model(tmp_path / "served" / "model.safetensors", model)
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, tmp_path / "served", monkeypatch) as served:
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield served


def weights(model: mg.Model) -> dict[str, list[float]]:
    return {name: np.array(value).tolist() for name, value in model.network.arrays().items()}


def test_a_run_goes_to_the_hub_and_comes_back(
    hub: Hub, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with without_drawing():
        options = f"--dataset {few} {TINY} --outdir {tmp_path}/run --push_to_hub {NAME}"
        assert train.main(options.split()) == 0
    assert "uploaded to http://127.0.0.1:" in capsys.readouterr().out
    [commit] = hub.repositories[NAME].commits  # one commit
    there = hub.repositories[NAME].commits[commit]
    assert {path.name for path in there.iterdir()} == {
        "README.md", "model.safetensors", "model.npz", "config.json", "metrics.json",
        "history.csv", "samples.png", "latent.png", "curves.png",
    }  # fmt: skip
    assert (there / "README.md").read_bytes() == (tmp_path / "run/README.md").read_bytes()
    for path in there.iterdir():
        content = path.read_bytes()
        for private in (str(tmp_path), str(few.parent), few.parent.name, str(Path.home()) + "/"):
            assert private.encode() not in content, path.name
        assert f"/{getpass.getuser()}/".encode() not in content
    [session] = json.loads((there / "metrics.json").read_text())["made_with"]["sessions"]
    assert session["command"].endswith(f"--outdir run --push_to_hub {NAME}")
    model = mg.load(NAME)
    assert f"downloading {NAME}: 0.0 MB into {tmp_path}/cache" in capsys.readouterr().err
    assert weights(model) == weights(mg.load(tmp_path / "run/model.npz"))
    assert mg.load(there / "model.npz").data == model.data
    assert (model.data["dataset"], model.data["path"]) == ("few.npz", None)
    with without_drawing():
        assert cluster.main(f"--model {NAME} --dataset {few} --split all --outdir far".split()) == 0
    q = mg.load(tmp_path / "run/model.npz").responsibilities(np.load(few)["images"])
    with open("far/assignments.csv") as file:
        rows = [(row["cluster"], row["confidence"]) for row in csv.DictReader(file)]
    assert rows == [(f"{row.argmax()}", f"{row.max():.6f}") for row in q]


def test_a_finished_run_is_only_uploaded(hub: Hub, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    options = f"--resume {finished} --push_to_hub {NAME} --private"
    assert train.main(options.split()) == 0 and train.main(options.split()) == 0
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
    assert hub.repositories[NAME].private and len(hub.repositories[NAME].commits) == 1
    assert mg.push_to_hub(finished, "someone/other").endswith("/someone/other")
    assert not hub.repositories["someone/other"].private
    with pytest.raises(mg.InputError, match="someone/other exists and is public"):
        mg.push_to_hub(finished, "someone/other", private=True)
    assert len(hub.repositories["someone/other"].commits) == 1
    with pytest.raises(mg.InputError, match=r"holds no finished run of train\.py"):
        mg.push_to_hub(finished.parent, NAME)


@pytest.mark.parametrize(
    ("token", "options", "message"),
    [
        ("", f"--push_to_hub {NAME}", "needs a token of the Hugging Face Hub; run: hf auth login"),
        ("wrong", f"--push_to_hub {NAME}", r"refuses the token \(HTTP 401\); run: hf auth login"),
        (
            WRITER,
            "--push_to_hub digits",
            "'digits' is not the name of a repository; it must be ORG",
        ),
        (WRITER, "--push_to_hub a/b@main", "must be ORG/NAME"),
        (WRITER, "--push_to_hub someone/a--b", "must be ORG/NAME"),
        (WRITER, "--private", "--private has no effect without --push_to_hub"),
    ],
)
def test_what_cannot_be_uploaded_is_said_before_the_training(
    hub: Hub, few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    token: str, options: str, message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", token)
    assert train.main(f"--dataset {few} --outdir run {options}".split()) == 2
    assert not Path("run").exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error), error


@pytest.mark.parametrize(
    ("token", "refused", "message"),
    [
        (READER, {}, f"the token may not write to {NAME} (HTTP 403); check the name, or set HF_"),
        (WRITER, {"commit": 404}, f"the token may not write to {NAME} (HTTP 404)"),
        (WRITER, {"create": 401}, "the Hugging Face Hub refuses the token (HTTP 401)"),
        (WRITER, {"commit": 500}, f"{NAME} is not uploaded (HTTP 500)"),
        (WRITER, {"lfs": 503}, f"{NAME} is not uploaded (HTTP 503)"),
    ],
)
def test_a_refused_upload_leaves_the_run_and_says_how_to_repeat_it(
    hub: Hub, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    token: str, refused: dict[str, int], message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", token)
    hub.refused = refused
    command = f"--resume {finished} --push_to_hub {NAME}"
    assert train.main(command.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert f"the run is saved in {finished}; upload it with: python train.py {command}" in error
    hub.refused = {}
    monkeypatch.setenv("HF_TOKEN", WRITER)
    assert train.main(command.split()) == 0
    assert hub.repositories[NAME].commits


def test_an_upload_without_a_network_says_so(
    hub: Hub, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(mg.InputError, match=r"HF_HUB_OFFLINE is set, so nothing .* unset it"):
        mg.push_to_hub(finished, NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(mg.InputError, match="the Hub cannot be reached; call push_to_hub again"):
        mg.push_to_hub(finished, NAME)


def test_revisions_updates_and_the_cache(
    hub: Hub, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mg.push_to_hub(finished, "org/name")  # a second commit
    first, second = mg.load(f"org/name@{COMMIT}"), mg.load("org/name")
    assert weights(second) == weights(mg.load(finished / "model.npz")) != weights(first)
    assert capsys.readouterr().err.count("downloading org/name: ") == 2
    assert weights(mg.load("org/name")) == weights(second)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert weights(mg.load("org/name")) == weights(second)
    assert weights(mg.load(f"org/name@{COMMIT}")) == weights(first)
    with pytest.raises(mg.InputError, match=r"no file org/else; org/else is not in .* HF_"):
        mg.load("org/else")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.status, hub.code = 500, "Other"
    assert weights(mg.load("org/name")) == weights(second)
    hub.status = 200
    with pytest.raises(mg.InputError, match="org/name has no revision v9; see"):
        mg.load("org/name@v9")


def test_a_model_to_start_from_is_recorded_with_its_commit(hub: Hub, few: Path) -> None:
    with without_drawing():
        options = f"--dataset {few} --init org/name --epochs 1 --outdir run"
        assert train.main(options.split()) == 0
    made = json.loads(Path("run/metrics.json").read_text())["made_with"]
    assert made["init"]["name"] == f"org/name@{COMMIT}"
    assert f"--init org/name@{COMMIT}" in Path("run/README.md").read_text()


def test_a_local_file_has_priority_and_npz_is_read(hub: Hub) -> None:
    model = mg.build_model(image_size=(8, 8), K=3, arch="mlp", hidden_dims=8, latent_dims=2)
    shutil.rmtree(hub.folder)
    hub.folder.mkdir()
    mg.save_model(hub.folder / "model.npz", model)
    assert weights(mg.load("org/name")) == weights(model)
    hub.requests.clear()
    mg.save_model("org/name", mg.build_model(image_size=(8, 8), K=4, arch="mlp", hidden_dims=8))
    assert mg.load("org/name").config.K == 4 and not hub.requests
    with pytest.raises(mg.InputError, match=r"cannot read org/other\.npz: No such file"):
        mg.load("org/other.npz")
    assert not hub.requests


def test_the_images_of_a_published_model_must_be_given(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    model = mg.build_model(image_size=(8, 8), K=2, arch="mlp", hidden_dims=8)
    data = {"dataset": "birds", "path": None, "image_size": [8, 8]}
    mg.save_model(hub.folder / "model.safetensors", model, data=data)
    assert cluster.main(["--model", "org/name"]) == 2
    error = capsys.readouterr().err
    assert "birds, on which org/name was trained, no longer exists; give the new place" in error


def test_a_cut_download_goes_on_and_a_wrong_one_is_not_kept(hub: Hub) -> None:
    hub.digest = "00" * 32
    with pytest.raises(mg.InputError, match=r"model\.safetensors is damaged \(wrong SHA-256\)"):
        mg.load("org/name")
    hub.digest, hub.cuts = "", 2
    assert mg.load("org/name").config.K == 2
    assert hub.requests.count("GET model.safetensors") == 4


def test_nothing_on_the_hub_is_unpickled(hub: Hub) -> None:
    shutil.rmtree(hub.folder)
    hub.folder.mkdir()
    mg.save_model(hub.folder / "model.npz", mg.build_model(image_size=(8, 8), arch="mlp"))
    with np.load(hub.folder / "model.npz") as file:
        arrays = dict(file)
    name = next(iter(arrays))
    arrays[name] = np.full(arrays[name].shape, print, dtype=object)
    np.savez(hub.folder / "model.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(mg.InputError, match=r"does not fit its configuration: .* of type \|O"):
        mg.load("org/name")
    (hub.folder / "model.npz").rename(hub.folder / "pytorch_model.bin")
    with pytest.raises(
        mg.InputError, match=r"has neither model\.safetensors nor model\.npz; choose"
    ):
        mg.load("org/name")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "GatedRepo", "the terms of org/name must be accepted first"),
        (404, "RepoNotFound", "there is no file org/name; there is no repository org/name on the "),
        (403, "Other", "refuses org/name (HTTP 403); run: hf auth login"),
        (500, "Other", "cannot download org/name (HTTP 500); run the command again"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_remedy(
    hub: Hub, capsys: pytest.CaptureFixture[str], status: int, code: str, message: str
) -> None:
    hub.status, hub.code = status, code
    assert generate.main(["--model", "org/name", "--num", "1"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_checksums_are_those_of_the_pretrained_models() -> None:
    files = (ROOT / "pretrained").glob("*.npz")
    assert {path.stem: sha256_of([path]) for path in files} == pretrained.PRETRAINED


def test_a_pretrained_model_is_loaded_by_its_name(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mg.load(PRETRAINED).config.latent_dims == 8
    assert generate.main(f"--model {PRETRAINED} --num 1 --outfile one.png".split()) == 0
    monkeypatch.setattr(pretrained, "CLONE", Path("nowhere"))
    with pytest.raises(mg.InputError, match="is not installed with the package; run the command"):
        mg.load(PRETRAINED)
    with pytest.raises(
        mg.InputError, match=f"no file {PRETRAINED[:-1]}; did you mean {PRETRAINED}"
    ):
        mg.load(PRETRAINED[:-1])
    monkeypatch.setenv(pretrained.VARIABLE, "org/name")
    with pytest.raises(mg.InputError, match=f"org/name has no {PRETRAINED}.npz; set MLX_GMVAE_PRE"):
        mg.load(PRETRAINED)
    right, served = ROOT / f"pretrained/{PRETRAINED}.npz", hub.folder / f"{PRETRAINED}.npz"
    mg.save_model(served, mg.build_model(image_size=(8, 8)))  # another model of that name
    with pytest.raises(mg.InputError, match=r"is damaged \(wrong SHA-256\)"):
        mg.load(PRETRAINED)
    shutil.copyfile(right, served)
    assert weights(mg.load(PRETRAINED)) == weights(mg.load(right))
    Path("pretrained").mkdir()
    Path(f"pretrained/{PRETRAINED}.npz").write_bytes(b"another file")
    with pytest.raises(mg.InputError, match=r"is not the pretrained model of that name .* restore"):
        mg.load(PRETRAINED)
    monkeypatch.setenv(pretrained.VARIABLE, "nonsense")
    shutil.rmtree("pretrained")
    with pytest.raises(mg.InputError, match="MLX_GMVAE_PRETRAINED is 'nonsense'; it must be ORG"):
        mg.load(PRETRAINED)
