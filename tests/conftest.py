"""Shared data: bundled digits, and real MNIST where an environment variable says it lies."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads that wait for each other would cost more than they bring,
    # and so do threads that move from one core to the other (a fifth of the time).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if hasattr(os, "sched_setaffinity"):
        _cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {_cores[int(os.environ["PYTEST_XDIST_WORKER"][2:]) % len(_cores)]})

# On CUDA products round to ten bits otherwise, and tests are about formulas.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import train
from mlx_gmvae.cli import merges, profiling, reconstruct
from mlx_gmvae.clustering import codebook
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.device import backend
from mlx_gmvae.models import visual_words
from mlx_gmvae.report import cluster_sheets, figures, plots
from mlx_gmvae.report.sheets import Section
from mlx_gmvae.report.sheets import save_sheet as write_sheet
from mlx_gmvae.system.files import atomic_write
from mlx_gmvae.training import memory

import mlx.core as mx
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from sklearn.utils import Bunch

DATA_VARIABLE = "MLX_GMVAE_TEST_DATA"
ROOT = Path(__file__).resolve().parent.parent


def run(script: str, options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / f"{script}.py"), *options.split()],
        capture_output=True, text=True, env={**os.environ, **environment}, timeout=300,
    )  # fmt: skip


def pytest_configure() -> None:
    # A background job ignores Ctrl-C, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return backend.describe()


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[None]:
    """The machine's own device, but the CPU for what is marked `on_cpu`."""
    before = mx.default_device()
    if request.node.get_closest_marker("on_cpu"):
        mx.set_default_device(mx.Device(mx.cpu))
    yield
    mx.set_default_device(before)


@pytest.fixture(scope="session")
def data_dir() -> str:
    """The folder with mnist/ that MLX_GMVAE_TEST_DATA names."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip(f"set {DATA_VARIABLE} to a folder that holds mnist/ to run this test")
    return folder


@pytest.fixture(scope="session")
def digits() -> Splits:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GMVAE trained for 20 epochs on the digits by train.py itself, at their own 8x8 pixels.

    By the first worker that needs it, for all of them.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "digits_run"
    folder, done = place / "run", place / "done"
    try:
        place.mkdir()
    except FileExistsError:
        started = time.monotonic()
        while not done.exists():
            assert time.monotonic() - started < 600, "the worker that trains it has failed"
            time.sleep(0.2)
        return folder
    options = "--dataset digits --epochs 20 --latent_dims 4 --K 10 --save_every 10 --lr 3e-3"
    options += " --batchsize 128 --arch mlp --hidden_dims 128"
    options += " --heads 5 --balance uniform --augment affine --outdir"
    with without_drawing():
        assert train.main([*options.split(), str(folder)]) == 0
    done.touch()
    return folder


@pytest.fixture(scope="session")
def small_images() -> np.ndarray:
    """64 random uint8 images of 9x6 pixels and 3 channels."""
    images = np.random.default_rng(0).integers(0, 256, (64, 9, 6, 3), dtype=np.uint8)
    images.setflags(write=False)
    return images


def save_empty(path: Path) -> None:
    with atomic_write(path) as written:
        Image.new("RGB", (8, 8), "white").save(written)


@pytest.fixture
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The diagrams that a test has saved: matplotlib's figures by the names of their files.

    The files themselves are empty pictures, unless the test is marked `draws`.
    """
    saved: dict[str, Any] = {}
    save_figure = plots.save_figure

    def save(figure: Any, path: Path) -> None:
        saved[path.name] = figure
        if request.node.get_closest_marker("draws"):
            save_figure(figure, path)
        else:
            save_empty(path)

    monkeypatch.setattr(plots, "save_figure", save)
    return saved


@contextmanager
def without_drawing() -> Iterator[None]:
    """Within, files of diagrams and frames of progress.gif get an empty picture.

    For tests of something else: Matplotlib takes two thirds of the time of a small training.
    """

    def save(path: Path, *_: object, **__: object) -> None:
        save_empty(path)

    with (
        patch.object(plots, "save_figure", lambda figure, path: save(path)),
        patch.object(plots, "save_curves", save),
        patch.object(plots, "save_panels", save),
        patch.object(plots, "save_map", save),
        patch.object(plots, "save_latent_plane", save),
        patch.object(merges, "save_dendrogram", save),
        patch.object(figures, "save_progress_frame", save),
    ):
        yield


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """No diagrams, but in tests that look at them: with `drawn`, or marked `draws`."""
    if "drawn" in request.fixturenames or request.node.get_closest_marker("draws"):
        yield
        return
    with without_drawing():
        yield


@pytest.fixture(autouse=True)
def untimed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No steps to estimate the duration of a training, but in tests marked `times`."""
    if not request.node.get_closest_marker("times"):
        monkeypatch.setattr(profiling, "seconds_per_step", lambda trainer: 0.001)


@contextmanager
def only_few_digits() -> Iterator[None]:
    """Within, `--dataset digits` means 240 training and 60 test images.

    For tests of what a script does, not of how well: descriptors and neighbours take most of the
    time of a small training.
    """
    digits = sklearn.datasets.load_digits()
    few = Bunch(images=digits.images[:300], target=digits.target[:300])
    with patch.object(sklearn.datasets, "load_digits", lambda: few):
        yield


@pytest.fixture
def few_digits() -> Iterator[None]:
    with only_few_digits():
        yield


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the visual words, whose k-means takes most of a small training in colour."""
    for module in (codebook, memory, visual_words):
        monkeypatch.setattr(module, "WORDS", 40)


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, list[Section]]]:
    """The sheets that a test has saved: titles and sections by the names of their files."""
    saved: dict[str, tuple[str, list[Section]]] = {}

    def save_sheet(path: Path, title: str, sections: list[Section]) -> None:
        saved[path.name] = (title, sections)
        write_sheet(path, title, sections)

    for place in (cluster_sheets, reconstruct):
        monkeypatch.setattr(place, "save_sheet", save_sheet)
    return saved


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real HTTP server on loopback and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.endswith("broken"):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"short")
            else:
                super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", folder
        httpd.shutdown()
        thread.join()


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Within, no file may become larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
