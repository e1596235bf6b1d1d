"""Ctrl-C at every phase of real processes: one line, status 130, nothing damaged, no traceback."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import train
from mlx_gmvae.clustering import neighbours
from mlx_gmvae.config import ModelConfig
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.checkpoint import load_arrays, save_model
from mlx_gmvae.runs.run_folder import RunFolder
from mlx_gmvae.system import interrupts, startup_signals

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

DENSE = "--cpu --arch mlp --hidden_dims 16 --latent_dims 2"
# Neither neighbours nor labels, for which scikit-learn would be imported: two seconds of a process.
PLAIN = f"{DENSE} --model vae"
SECONDS = 120
rng = np.random.default_rng(0)


@pytest.fixture
def noise(tmp_path: Path) -> str:
    """A flag that names four hundred images of noise."""
    np.save(tmp_path / "noise.npy", rng.integers(0, 256, (400, 8, 8), dtype=np.uint8))
    return f"--dataset {tmp_path}/noise.npy"


def in_own_group(*words: str) -> subprocess.Popen[str]:
    """A Python process in a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def started(script: str, options: str, *python: str) -> subprocess.Popen[str]:
    return in_own_group(*python, str(ROOT / f"{script}.py"), *shlex.split(options))


def interrupted(
    process: subprocess.Popen[str], signum: signal.Signals = signal.SIGINT, times: int = 1
) -> tuple[str, str]:
    """Signal the group, as Ctrl-C does; the rest of stdout, whose last line is returned too."""
    for _ in range(times):
        os.killpg(process.pid, signum)
        time.sleep(0.01)
    out, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == interrupts.STATUS, (out, errors)
    assert "Traceback" not in errors and "ignored" not in errors, errors
    last = out.splitlines()[-1]
    assert last.startswith("interrupted; ") and out.count("interrupted") == 1, out
    return last, errors


def wait_for(process: subprocess.Popen[str], happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)


def wait_for_line(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return
    raise AssertionError(process.communicate())


def resumed(line: str) -> None:
    """Type the command that a line names."""
    words = shlex.split(line.partition(": ")[2])
    assert words[:3] == ["python", "train.py", "--resume"]
    assert train.main(words[2:]) == 0


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("train", "mlx_gmvae.device.backend"),
        ("train", "mlx_gmvae.models"),
        ("cluster", "mlx.core"),
    ],
)
def test_while_modules_are_imported(script: str, module: str) -> None:
    with started(script, "--help", "-X", "importtime") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith(f" {module}\n"):
                break
        line, _ = interrupted(process)
    assert line == f"interrupted; {interrupts.NOTHING_YET}"


def test_importing_the_package_elsewhere_handles_no_signal() -> None:
    code = "import mlx_gmvae, signal; print(signal.getsignal(signal.SIGINT).__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "default_int_handler\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_while_images_are_decoded(tmp_path: Path, signum: signal.Signals) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "0.png", compress_level=1)
    for number in range(1, 400):
        os.link(photos / "0.png", photos / f"{number}.png")
    options = f"{PLAIN} --dataset {photos} --image_size 64 64 --data_dir {tmp_path}/kept"
    with started("train", f"{options} --outdir {tmp_path}/run") as process:
        wait_for(process, lambda: list((tmp_path / "kept").glob("*/.saving-*")))
        line, _ = interrupted(process, signum)
    assert line == f"interrupted; {interrupts.NOTHING_YET}"
    assert not (tmp_path / "run").exists() and not list((tmp_path / "kept").glob("*/*"))


def test_while_neighbours_are_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=rng.integers(0, 256, (5000, 20, 20), dtype=np.uint8))
    run = tmp_path / "run"
    # So that the first neighbours are those of the run, not those that decide what it learns from.
    options = f"{DENSE} --K 3 --descriptor pixels --augment none --neighbours 5"
    with started("train", f"{options} --dataset {tmp_path}/a.npz --outdir {run}") as process:
        wait_for(process, run.is_dir)
        line, _ = interrupted(process)
    assert line == f"interrupted; {interrupts.NOTHING_YET}"
    assert not run.exists()


def test_while_neighbours_are_found_for_several_seeds(
    noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(neighbours, "nearest", interrupt)
    options = f"{DENSE} --K 3 {noise} --seeds 2 --outdir {tmp_path}/run"
    assert train.main(options.split()) == interrupts.STATUS
    assert capsys.readouterr().out.endswith(f"interrupted; {interrupts.NOTHING_YET}\n")
    assert not (tmp_path / "run").exists()


def test_at_the_moment_the_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def interrupted_then(path: Path, **options: bool) -> None:
        make(path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted_then)
    with (
        pytest.raises(KeyboardInterrupt),
        RunFolder.create(str(tmp_path / "run"), "", False, ExitStack()),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_while_the_first_step_is_compiled(noise: str, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    options = f"{PLAIN} {noise} --epochs 2 --outdir {shlex.quote(str(run))}"
    with started("train", options) as process:
        wait_for_line(process, "compiling")
        line, _ = interrupted(process)
    assert line == f"interrupted; continue with: python train.py --resume '{run}' --cpu"
    resumed(line)
    assert (run / "metrics.json").is_file()


def test_twice_while_a_run_is_saved(noise: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = f"{PLAIN} {noise} --epochs 2000 --save_every 9999 --outdir {run}"
    with started("train", options) as process:
        wait_for_line(process, "Epoch    5")
        line, _ = interrupted(process, times=5)
    assert f"continue with: python train.py --resume {run} --save_every 9999 --cpu" in line
    assert load_arrays(run / "state.npz")
    assert not list(run.glob(".saving*"))


def test_while_the_trained_model_is_measured(noise: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = f"{PLAIN} {noise} --epochs 1 --outdir {run}"
    with started("train", options) as process:
        wait_for(process, (run / "history.csv").is_file)
        time.sleep(0.2)
        line, _ = interrupted(process)
    assert "the trained model is saved; measure it with: python" in line
    assert not (run / "metrics.json").exists()
    resumed(line)
    assert (run / "metrics.json").is_file()
    assert train.main(["--resume", str(run)]) == 2


# As cluster.py, but without the diagrams before the map, and with what the map needs imported.
MAP_ALONE = """
import sys
from mlx_gmvae.cli import cluster
from mlx_gmvae.report import plots
import sklearn.manifold
plots.save_latent_plane = lambda path, *_: path.touch()
sys.exit(cluster.main(sys.argv[1:]))
"""


def test_while_a_map_is_made_by_tsne(noise: str, tmp_path: Path) -> None:
    config = ModelConfig(model="vae", arch="mlp", hidden_dims=8, latent_dims=2, image_size=(8, 8))
    save_model(tmp_path / "model.npz", build_model(config))
    options = f"--cpu --model {tmp_path}/model.npz {noise} --tsne --outdir {tmp_path}/c"
    with in_own_group("-c", MAP_ALONE, *shlex.split(options)) as process:
        wait_for_line(process, "t-SNE of 400 latents")
        time.sleep(0.2)
        line, _ = interrupted(process)
    assert line == (
        f"interrupted; files in {tmp_path}/c may be incomplete; run the same command again"
    )


def test_a_background_job_goes_on(tmp_path: Path) -> None:
    """A shell lets its background jobs ignore Ctrl-C, from their first import to their end."""
    model = ROOT / "pretrained/gmvae_digits_K10_dims_0008.npz"
    options = f"--model {model} --num 2 --outfile {tmp_path}/s.png"
    command = shlex.join([sys.executable, str(ROOT / "generate.py"), *shlex.split(options)])
    with subprocess.Popen(
        ["sh", "-c", f"trap '' INT; echo ignored; exec {command}"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_line(process, "ignored")
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
    assert process.returncode == 0 and (tmp_path / "s.png").is_file()


def test_where_python_cannot_raise_the_interrupt_comes_a_moment_later() -> None:
    class Destroyed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt), interrupts.as_exceptions():
        Destroyed()
        time.sleep(10)


def test_while_something_other_than_python_runs_for_long() -> None:
    """As kernels are compiled: Python would come to the signal only after that."""
    code = (
        "import ctypes, signal\n"
        "from mlx_gmvae.system import interrupts\n"
        "signal.alarm(60)  # which nothing handles\n"
        "system, held = ctypes.CDLL(None), ctypes.create_string_buffer(256)\n"
        "system.pthread_mutex_init(held, None)\n"
        "system.pthread_mutex_lock(held)\n"
        "with interrupts.as_exceptions(), interrupts.ends_if_blocked(0.2):\n"
        "    print('begun', flush=True)\n"
        "    system.pthread_mutex_lock(held)  # waits for ever, whatever the signal\n"
    )
    with in_own_group("-c", code) as process:
        wait_for_line(process, "begun")
        time.sleep(0.3)
        signalled = time.monotonic()
        line, _ = interrupted(process, signal.SIGTERM)
    assert time.monotonic() - signalled < 5
    assert line == f"interrupted; {interrupts.NOTHING_YET}"


def test_a_signal_that_python_handles_is_left_to_it() -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    for _ in range(2):
        with interrupts.noticed() as stopped, interrupts.ends_if_blocked(0.2):
            assert not stopped()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
            assert stopped()
    assert signal.set_wakeup_fd(before) == before


@pytest.mark.parametrize("is_script", [True, False])
def test_a_script_that_has_finished_ignores_ctrl_c_whatever_handles_it(
    is_script: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C leaves Python's own handler; a program that imports us keeps its handler."""
    monkeypatch.setattr(startup_signals, "is_script", is_script)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupts.finished()
        expected = signal.SIG_IGN if is_script else signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is expected
    finally:
        signal.signal(signal.SIGINT, before)
