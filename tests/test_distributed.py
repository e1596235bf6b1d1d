"""Two real processes on this machine train the model that one would."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.device import distributed
from mlx_gmvae.errors import InputError
from train import main

import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT

LAUNCH = shutil.which("mlx.launch") or shutil.which("mlx.launch", path=Path(sys.executable).parent)
needs_launch = pytest.mark.skipif(LAUNCH is None, reason="mlx.launch is not installed")
needs_mpi = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no Open MPI")
# A port for each worker, since all that mlx.launch starts at one time would talk to each other.
PORT = 42000 + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
LAUNCHED = [str(LAUNCH), "-n", "2", "--starting-port", str(PORT), "--"]
# A terminal at which nobody types: mlx.launch reads an empty file again and again, and hardly
# hears Ctrl-C for it.
SILENCE, _open_end = os.pipe()
in_two_processes = pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(LAUNCHED, marks=needs_launch, id="mlx.launch"),
        pytest.param(["mpirun", "-n", "2", "--oversubscribe"], marks=needs_mpi, id="mpirun"),
    ],
)
# As root, as in containers, mpirun wants to be told twice.
ENVIRONMENT = {
    **os.environ,
    "OPENBLAS_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def on_one_core() -> None:
    """On one core processes take turns; on two, each computes in vain until the other is there."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])


SMALL = [
    *["--cpu", "--latent_dims", "2", "--arch", "mlp", "--hidden_dims", "32"],
    *["--save_every", "100", "--batchsize", "128"],
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a small VAE of zeros, ones and twos: three steps an epoch."""
    path = tmp_path_factory.mktemp("few") / "few.npz"
    few = load_dataset("digits", classes=["0", "1", "2"])
    np.savez(path, images=few.train.images, test_images=few.test.images)
    return [*SMALL, "--model", "vae", "--dataset", str(path)]


@pytest.fixture
def options(plain: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a small GMVAE of the same images, which this process trains without measuring it."""
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)
    return [*plain, "--model", "gmvae", "--K", "3", "--heads", "2"]


def history(folder: Path) -> list[float]:
    lines = (folder / "history.csv").read_text().splitlines()
    column = lines[0].split(",").index("loss")
    return [float(line.split(",")[column]) for line in lines[1:]]


def test_alone_everything_is_a_no_op() -> None:
    assert (distributed.size(), distributed.rank(), distributed.is_first()) == (1, 0, True)
    assert distributed.shared_batchsize(7) == 7
    rows = np.arange(5)
    np.testing.assert_array_equal(distributed.shard(rows), rows)
    tree = {"a": mx.ones(2)}
    assert distributed.average(tree) is tree
    assert distributed.any_process(True) and not distributed.any_process(False)
    key = distributed.random_keys()
    distributed.separate_noise()
    np.testing.assert_array_equal(distributed.random_keys(), key)
    mx.eval(mx.random.normal((2,)))
    assert not mx.array_equal(distributed.random_keys(), key)
    distributed.set_random_keys(key)
    np.testing.assert_array_equal(distributed.random_keys(), key)


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As if nothing were known yet of other processes; `init` must not be called."""

    def init() -> None:
        raise AssertionError("MLX was asked for other processes")

    monkeypatch.setattr(mx.distributed, "init", init)
    for name in (distributed.MLX_LAUNCH, distributed.OPEN_MPI, distributed.OTHER_MPI):
        monkeypatch.delenv(name, raising=False)
    distributed._group.cache_clear()
    yield monkeypatch
    distributed._group.cache_clear()


def test_an_ordinary_run_never_looks_for_other_processes(
    no_launcher: pytest.MonkeyPatch, options: list[str], tmp_path: Path
) -> None:
    folder = str(tmp_path / "run")
    assert main([*options, "--epochs", "1", "--outdir", folder]) == 0
    assert main(["--cpu", "--resume", folder, "--epochs", "2"]) == 0


@pytest.mark.parametrize("variable", [distributed.MLX_LAUNCH, distributed.OPEN_MPI])
def test_under_a_launcher_they_are_looked_for(
    no_launcher: pytest.MonkeyPatch, variable: str
) -> None:
    no_launcher.setenv("MLX_MPI_LIBNAME", "libmpi.so")
    no_launcher.setenv(variable, "2")
    with pytest.raises(AssertionError, match="other processes"):
        distributed.size()


def test_another_mpi_than_open_mpi_is_named(no_launcher: pytest.MonkeyPatch) -> None:
    no_launcher.setenv(distributed.OTHER_MPI, "2")
    with pytest.raises(InputError, match="install Open MPI"):
        distributed.size()


def test_a_launchers_variable_that_is_no_number_means_nothing(
    no_launcher: pytest.MonkeyPatch,
) -> None:
    for name in (distributed.OPEN_MPI, distributed.OTHER_MPI):
        no_launcher.setenv(name, "many")
    assert distributed.size() == 1


@pytest.mark.parametrize(
    ("system", "files", "taken"),
    [
        ("Darwin", ["libmpi.dylib"], "libmpi.dylib"),  # Homebrew
        ("Linux", ["libmpi.so", "libmpi.so.40"], "libmpi.so.40"),  # pip
        ("Linux", ["libmpi.so"], "libmpi.so"),
    ],
)
def test_the_library_of_open_mpi_lies_beside_its_mpirun(
    system: str, files: list[str], taken: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(distributed.platform, "system", lambda: system)
    monkeypatch.setattr(distributed, "find_library", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert distributed._mpi_library() == files[0]
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "bin/mpirun").touch(mode=0o755)
    for name in files:
        (tmp_path / "lib" / name).touch()
    assert distributed._mpi_library() == str(tmp_path / "lib" / taken)


@in_two_processes
def test_two_processes_are_interrupted_together_and_one_goes_on(
    launcher: list[str], plain: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = [*plain, "--epochs", "5000", "--outdir"]
    with subprocess.Popen(
        [*launcher, sys.executable, str(ROOT / "train.py"), *options, str(folder)],
        cwd=ROOT, env=ENVIRONMENT, start_new_session=True, stdin=SILENCE, preexec_fn=on_one_core,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert any("Epoch    3 |" in line for line in running.stdout)
        out, is_first = interrupted(running)
    if launcher[0] == LAUNCH and is_first:
        assert all(f"rank {rank} exited with code 130" in out for rank in (0, 1))
    done = len(history(folder))
    assert 3 <= done < 5000
    assert not (folder / "metrics.json").exists()
    assert main(["--cpu", "--resume", str(folder), "--epochs", str(done + 2)]) == 0
    losses = history(folder)
    assert len(losses) == done + 2 and losses[-1] < losses[0]
    assert (folder / "model.npz").is_file() and json.loads((folder / "metrics.json").read_text())


def interrupted(running: subprocess.Popen[str]) -> tuple[str, bool]:
    """What is printed after Ctrl-C in a terminal, and whether once was enough.

    mlx.launch now and then waits for ever after the first, when its processes have long ended.
    """
    for is_first in (True, False):
        os.killpg(running.pid, signal.SIGINT)
        try:
            return running.communicate(timeout=10)[0], is_first
        except subprocess.TimeoutExpired:
            pass
    os.killpg(running.pid, signal.SIGKILL)
    raise AssertionError("it does not end")


CONFIGURATIONS = ["vae conv", "gmvae-patches conv", "gmvae-bayes mlp", "vade mlp", "vae-gmm mlp"]
# Prints what two processes say if one of them, the other, or none says yes. Then prints, for each
# configuration, how many processes there are, the largest difference between their arrays, and
# whether they drew any noise in common.
TRAIN_ALL = """
import sys
import mlx_gmvae
from mlx_gmvae.clustering import codebook
from mlx_gmvae.device import distributed
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.models import visual_words
from mlx_gmvae.training.defaults import for_model
from mlx_gmvae.models import build_model
from mlx_gmvae.training.resolve import resolve_training
from mlx_gmvae.training.trainer import Trainer
import mlx.core as mx, numpy as np
codebook.WORDS = visual_words.WORDS = 40  # whose k-means would take longest
images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), dtype=np.uint8)
votes = [distributed.any_process(mx.distributed.init().rank() == voter) for voter in (0, 1, 2)]
print(votes, flush=True)
for configuration in sys.argv[1:]:
    model, arch = configuration.split()
    config = ModelConfig(
        model=model.removesuffix("-bayes").removesuffix("-patches"), arch=arch,
        classifier="patches" if model.endswith("-patches") else "conv",
        posterior="bayes" if model.endswith("-bayes") else "amortised",
        K=3, latent_dims=2, w_dims=2, image_size=(8, 8), hidden_dims=16, max_filters=16)
    training = for_model(TrainConfig(epochs=2, batchsize=16, heads=3), config, set())
    mx.random.seed(0)
    training, _ = resolve_training(training, config, images)
    trainer = Trainer(build_model(config), images, training)
    for _ in trainer.run(): pass
    flat = mx.concatenate([v.flatten().astype(mx.float32) for v in trainer.state()[0].values()
                           if v.dtype != mx.uint32])
    other = mx.distributed.all_gather(flat[None], stream=mx.cpu)
    noise = mx.distributed.all_gather(mx.random.normal((1, 4)), stream=mx.cpu)
    mx.eval(other, noise)
    if distributed.is_first():
        difference = float(mx.abs(other[0] - other[1]).max())
        shared = bool((noise[0] == noise[1]).any())
        print("trained", configuration, len(other), difference, shared, flush=True)
"""


def in_a_ring(
    words: list[str], folder: Path, first_port: int, num: int = 2, **environment: str
) -> list[subprocess.Popen[str]]:
    """Processes with what mlx.launch gives them; itself it keeps half a core busy."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{first_port + rank}"] for rank in range(num)]))
    ring = ENVIRONMENT | environment | {"MLX_HOSTFILE": str(hosts)}
    return [
        subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=ring | {"MLX_RANK": str(rank)}, text=True,
            stdin=SILENCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=on_one_core,
        )
        for rank in range(num)
    ]  # fmt: skip


def test_if_one_of_two_is_killed_the_other_ends_in_one_line(
    options: list[str], tmp_path: Path
) -> None:
    victim = 0  # the one that knows most; `benchmarks/soak.py partners` kills either
    folder = tmp_path / "run"
    assert main([*options, "--epochs", "1", "--outdir", str(folder)]) == 0
    words = [str(ROOT / "train.py"), "--cpu", "--resume", str(folder), "--epochs", "5000"]
    processes = in_a_ring(words, tmp_path, PORT + 7)
    try:
        first = processes[0].stdout
        assert first is not None
        before = next(line for line in first if "Epoch    3 |" in line or "train.py:" in line)
        processes[victim].kill()
        out, _ = processes[1 - victim].communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert "Epoch" in before
    assert processes[1 - victim].returncode == 2 and "Traceback" not in out
    *_, last = out.splitlines()
    assert last.startswith("train.py: another process of this training has stopped")
    assert f"--resume {folder}" in last
    assert main(["--cpu", "--resume", str(folder), "--epochs", "4"]) == 0


def test_every_model_stays_the_same_in_all_processes(tmp_path: Path) -> None:
    words = ["-c", TRAIN_ALL, *CONFIGURATIONS]
    # To build the kernels of all these models takes minutes.
    processes = in_a_ring(words, tmp_path, PORT + 5, MLX_DISABLE_COMPILE="1")
    printed = [process.communicate(timeout=300)[0] for process in processes]
    votes = "[True, True, False]"
    trained = [f"trained {configuration} 2 0.0 False" for configuration in CONFIGURATIONS]
    assert [each.splitlines() for each in printed] == [[votes, *trained], [votes]]


# Prints the loss of pairs and the length of its gradient, of a batch that processes share: of
# competing heads and sub-clusters, and of a classifier that learns from those.
PAIR_LOSSES = """
import mlx_gmvae
from mlx_gmvae.clustering.pair_objective import Weights
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.device import distributed
from mlx_gmvae.models import build_model
from mlx_gmvae.training.trainer import Trainer
import mlx.core as mx, mlx.nn as nn, numpy as np
from mlx.utils import tree_flatten
images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
mx.random.seed(0)
model = build_model(ModelConfig(K=3, image_size=(8, 8), arch="mlp", hidden_dims=16))
config = TrainConfig(batchsize=32, heads=4, augment="none", descriptor="pixels")
trainer = Trainer(model, images, config, images[:, 0])
trainer.trained.eval()  # batch normalisation by its running statistics
pairs = trainer.objective.pairs
for layer in (pairs.heads, pairs.sub_clusters, model.classifier.out):
    layer.weight = 40 * layer.weight  # so that images are in clusters
trainer.objective.sub_clusters.sizes = mx.array([0.5, 0.3, 0.2])
share = distributed.shard(np.arange(32))
x, partners = mx.array(images[share] / 255), mx.array(images[32 + share] / 255)
both, weights = mx.concatenate([x, partners]), Weights(*map(mx.array, (1.0, 2.0, 0.7)))
for phase in ("overcluster", "distil"):
    def loss(): return pairs.loss[phase](pairs.augmented(phase, both), weights)[0]
    value, gradients = distributed.average(nn.value_and_grad(trainer.trained, loss)())
    length = mx.sqrt(sum(mx.square(each).sum() for _, each in tree_flatten(gradients)))
    print("loss", value.item(), length.item(), flush=True)
"""


def test_a_shared_batch_has_the_loss_and_the_gradient_of_a_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes = in_a_ring(["-c", PAIR_LOSSES], tmp_path, PORT + 3)
    exec(PAIR_LOSSES, {})
    lines = [process.communicate(timeout=60)[0] for process in processes]
    assert len(set(lines)) == 1, lines
    found = [capsys.readouterr().out, lines[0]]
    losses = [[float(word) for word in each.split() if word != "loss"] for each in found]
    assert np.shape(losses) == (2, 4)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_a_batch_that_cannot_be_divided_is_refused(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(distributed, "size", lambda: 2)
    assert main([*options, "--batchsize", "33", "--outdir", f"{tmp_path}/r"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("use --batchsize 32\n") and error.count("\n") == 1


def test_processes_of_mpirun_without_its_library_are_told_so(
    options: list[str], tmp_path: Path
) -> None:
    started = {"OMPI_COMM_WORLD_SIZE": "2", "MLX_MPI_LIBNAME": "libnowhere.so"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *options, "--outdir", str(tmp_path / "r")],
        cwd=ROOT, env=ENVIRONMENT | started, stdin=SILENCE, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "set MLX_MPI_LIBNAME" in done.stderr
