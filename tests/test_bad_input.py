"""Bad input of every kind is one line that names the problem, and status 2; --help is there."""

import gzip
from pathlib import Path

import cluster
import generate
import reconstruct
import train
from mlx_gmvae.config import ModelConfig
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.checkpoint import save_model

import numpy as np
import pytest
from conftest import run

Captured = pytest.CaptureFixture[str]
SCRIPTS = {"train": train, "reconstruct": reconstruct, "generate": generate, "cluster": cluster}


def wrong_files(folder: Path) -> None:
    """Files to trip over, named in the table below."""
    (folder / "empty").mkdir()
    (folder / "truncated").mkdir()
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (10, 5, 5))
    (folder / "truncated/train-images-idx3-ubyte").write_bytes(header + bytes(99))
    (folder / "magic").mkdir()
    (folder / "magic/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"PNG" * 100))
    (folder / "notgzip").mkdir()
    (folder / "notgzip/train-images-idx3-ubyte.gz").write_bytes(header)
    (folder / "text.npz").write_text("not a zip")
    (folder / "file").write_text("not a folder")
    np.savez(folder / "theirs.npz", weight=np.zeros(3))
    np.savez(folder / "big.npz", images=np.zeros((9, 12, 11), np.uint8))
    np.savez(folder / "single.npz", images=np.zeros((1, 12, 11), np.uint8))
    save_model(folder / "vae.npz", build_model(ModelConfig(model="vae", image_size=(8, 8))))
    save_model(folder / "gmvae.npz", build_model(ModelConfig(image_size=(8, 8))))


WRONG = [
    ("train", "--dataset minst", "an .npy or .npz file; did you mean mnist?"),
    ("train", "--lattent_dims 8", "unrecognized arguments: --lattent_dims; did you mean --latent_"),
    ("train", "--lattent-dims=8", "unrecognized arguments: --lattent_dims; did you mean --latent_"),
    ("train", "--model gmave", "; did you mean gmvae?"),
    (
        "cluster",
        "--modle {}/vae.npz",
        "unrecognized arguments: --modle; did you mean --model? (see",
    ),
    ("train", "--dataset {}/none", "no dataset or path"),
    ("train", "--dataset {}/none.npz", "cannot read"),
    ("train", "--dataset {}/truncated", "truncated"),
    ("train", "--dataset {}/magic", "wrong magic number"),
    ("train", "--dataset {}/notgzip", "not gzip"),
    ("train", "--dataset {}/empty", "holds no IDX"),
    ("train", "--dataset {}/text.npz", "not a readable"),
    ("train", "--dataset digits --K 0", "K is 0"),
    ("train", "--dataset digits --K many", "'many' is neither a number nor auto"),
    ("train", "--dataset digits --latent_dims 0", "latent_dims is 0"),
    ("train", "--dataset digits --latent_dims -3", "latent_dims is -3"),
    ("train", "--dataset digits --model vae --K 3", "K has no effect with model vae"),
    ("train", "--dataset digits --sigma 0.2", "sigma has no effect with likelihood bernoulli"),
    (
        "train",
        "--dataset digits --hidden_dims 9",
        "hidden_dims has no effect with arch conv; it "
        "is for mlp, or classifier patches and arch conv and posterior amortised",
    ),
    (
        "train",
        "--dataset digits --classifier patches --posterior bayes",
        "no effect with posterior",
    ),
    ("train", "--dataset digits --arch mlp --max_filters 9", "max_filters has no effect"),
    ("train", "--dataset digits --epochs 0", "epochs is 0"),
    ("train", "--dataset digits --save_every 0", "--save_every is 0"),
    ("train", "--dataset digits --image_size 0 5", "image_size"),
    ("train", "--dataset digits --classes x", "no class x"),
    ("train", "--dataset digits --outdir {}/file/run", "cannot use"),
    ("train", "--dataset digits --nonsense", "unrecognized arguments"),
    ("train", "--resume {}/empty", "no state.npz"),
    ("cluster", "--model {}/none.npz", "cannot read"),
    ("cluster", "--model {}/empty", "is a folder; give the model.npz in it"),
    ("cluster", "--model {}/text.npz", "damaged or not an .npz"),
    ("cluster", "--model {}/theirs.npz", "not an mlx_gmvae model"),
    ("cluster", "--model {}/vae.npz --dataset digits", "needs a model with components"),
    ("cluster", "--model {}/gmvae.npz", "does not name its training images"),
    (
        "cluster",
        "--model {}/gmvae.npz --dataset {}/big.npz --image_size 9 8",
        "leave out --image_size",
    ),
    ("reconstruct", "--model {}/vae.npz --dataset {}/single.npz --split train", "use --split all"),
    ("reconstruct", "--model {}/vae.npz --dataset digits --num 0", "--num is 0"),
    ("reconstruct", "--model {}/vae.npz --latent_dims 3", "--latent_dims is 3, but"),
    ("reconstruct", "--model {}/vae.npz --K 3", "K has no effect"),
    ("reconstruct", "--model {}/vae.npz --config {}/file", "is not JSON"),
    ("generate", "", "required: --model"),
    ("generate", "--model {}/gmvae.npz --max_filters 5", "has 64"),
    ("generate", "--model {}/gmvae.npz --nimg_channels 3", "has 1"),
    ("generate", "--model {}/gmvae.npz --cluster 10", "choose one of 0 to 9"),
    ("generate", "--model {}/vae.npz --cluster 0", "needs a model with components"),
    ("generate", "--model {}/vae.npz --interpolate 0 1000", "no sample 1000"),
    ("generate", "--model {}/gmvae.npz --interpolate 0 10", "no component 10"),
    ("generate", "--model {}/vae.npz --manifold", "latent_dims 2"),
    ("generate", "--model {}/vae.npz --outfile samples", "must end in .png"),
    ("generate", "--model {}/vae.npz --seed -1", "seed is -1"),
    ("train", "--dataset digits --profile --seeds 2", "no effect with --profile"),
    ("train", "--resume {}/empty --overwrite", "no effect with --resume"),
    ("generate", "--model {}/vae.npz --manifold --cluster 1", "not allowed with"),
    ("generate", "--model {}/gmvae.npz --outfile {}/file/s.png", "cannot use"),
]
TEXTS = {  # flags whose value may be any text
    "train": "dataset data_dir classes init outdir resume features balance augment",
    "cluster": "model config dataset data_dir classes outdir sort_into",
    "reconstruct": "model config dataset data_dir classes outdir",
    "generate": "model config outfile outdir",
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    wrong_files(folder)
    return folder


@pytest.mark.parametrize(("script", "options", "message"), WRONG)
def test_bad_input_is_one_line_and_status_2(
    wrong: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    options: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert SCRIPTS[script].main(options.replace("{}", str(wrong)).split()) == 2
    error = capsys.readouterr().err
    # Below what there is to say about the images.
    *notes, line = error.splitlines()
    assert message in line and all(" images of " in note for note in notes), error


@pytest.mark.parametrize(
    ("script", "flag"), [(script, flag) for script in TEXTS for flag in TEXTS[script].split()]
)
def test_an_empty_value_is_not_taken_for_a_flag_that_is_absent(
    script: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    model = [] if script == "train" or flag == "model" else ["--model", "m.npz"]
    for value in ("", " "):
        assert SCRIPTS[script].main([*model, f"--{flag}", value]) == 2
        assert f"--{flag} is empty; give it a value" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


def test_bad_input_from_the_shell(tmp_path: Path) -> None:
    done = run("generate", f"--model {tmp_path}/none.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"generate.py: cannot read {tmp_path}/none.npz: No such file or directory\n"
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_fits_two_screens_and_there_is_more(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(flag: str) -> list[str]:
        with pytest.raises(SystemExit) as stop:
            SCRIPTS[script].main([flag])
        assert stop.value.code == 0
        return capsys.readouterr().out.splitlines()

    short, whole = shown("--help"), shown("--help_all")
    assert len(short) <= 80 and max(map(len, whole)) <= 100
    assert any(line.startswith("  --cpu") for line in short)
    assert not any(line.startswith("  --json") for line in short)
    assert any(line.startswith("  --json") for line in whole)
    for lines in (short, whole):  # the last that is said
        assert all(" --" in line for line in lines[lines.index("examples:") + 1 :])
