"""The package as pip installs it: a wheel, a command, outside the repository."""

import os
import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from importlib.metadata import distributions
from pathlib import Path

from mlx_gmvae import __main__, __version__
from mlx_gmvae.device import installed
from mlx_gmvae.device.installed import BACKENDS

import numpy as np
import pytest
from conftest import ROOT

SMALL = "--model vae --dataset few.npy --arch mlp --hidden_dims 8 --latent_dims 2 --epochs 1 --cpu"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows, so that no build folder appears in the tree."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("mlx_gmvae", "pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(place)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (found,) = place.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mlx_gmvae").rglob("*")
        if path.suffix in (".py", ".html", ".typed")
    }
    assert {name for name in names if ".dist-info/" not in name} == files
    assert "License-Expression: MIT" in lines and "Requires-Python: >=3.10" in lines
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")}
    assert extras == {
        "summary",
        "heic",
        "hub",
        "completion",
        "cpu",
        "cuda12",
        "cuda13",
        "dev",
        "docs",
    }


def test_the_command_does_what_the_scripts_do(wheel: Path, tmp_path: Path) -> None:
    """In another folder, from the unpacked wheel alone."""
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)

    np.save(tmp_path / "few.npy", np.zeros((40, 8, 8), np.uint8))
    code = f"""
import sys
from mlx_gmvae.__main__ import main
from mlx_gmvae.report import plots
def save(path, *_, **__): path.touch()
plots.save_figure = plots.save_curves = plots.save_latent_plane = save  # Matplotlib takes longest
for words in ("train {SMALL} --outdir run", "cluster --model run/model.npz --explorer"):
    sys.argv = ["mlx-gmvae", *words.split()]
    assert not main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "next: mlx-gmvae cluster --model run/model.npz" in done.stdout
    assert {"run", "clusters"} <= {path.name for path in tmp_path.iterdir()}
    for name in ("run", "clusters"):
        assert "<h2>" in (tmp_path / name / "summary.html").read_text()  # templates are there too


def test_words_after_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def called(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlx-gmvae", *words])
        try:
            status: object = __main__.main()
        except SystemExit as end:
            status = end.code
        return (status, *capsys.readouterr())

    status, out, error = called("train", "--resume", str(tmp_path))
    assert (status, out) == (2, "") and error.startswith("mlx-gmvae train: ")
    status, out, error = called("generate", "--help")
    assert (status, error) == (0, "") and "usage: mlx-gmvae generate" in out
    assert called("--version") == (0, f"mlx_gmvae {__version__}\n", "")
    status, out, error = called("paint")
    assert (status, out) == (2, "") and "there is no command 'paint'" in error
    status, out, error = called("tarin")
    assert (status, out) == (2, "") and error.count("\n") == 1
    assert "there is no command 'tarin'; did you mean train?" in error
    assert called()[1].startswith("usage: mlx-gmvae COMMAND")


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "mlx_gmvae", "--help"], cwd=ROOT, stdout=writer,
        stderr=subprocess.PIPE, text=True, timeout=300, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mlx-gmvae cl", {"cluster"}),
        ("mlx-gmvae cluster --anom", {"--anomalies", "--anomaly_score"}),
        ("mlx-gmvae train --model va", {"vade", "vae", "vae-gmm"}),
    ],
)
def test_a_shell_is_told_what_may_come_next(line: str, expected: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete", reason="completion needs it")
    asked = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
        "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
    }  # fmt: skip
    command = [sys.executable, "-m", "mlx_gmvae"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **asked}, check=True, timeout=300)
    assert set((tmp_path / "answer").read_text().split()) == expected


def test_requirements_are_said_twice_alike_and_name_one_backend() -> None:
    tomllib = pytest.importorskip("tomllib", reason="came with Python 3.11")
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = written["optional-dependencies"]
    needed = (ROOT / "requirements.txt").read_text().splitlines()
    # An extra that a person adds must be the only one to bring a backend.
    assert [line.replace("mlx[cpu]", "mlx") for line in needed] == written["dependencies"]
    assert [line for line in needed if line.startswith("mlx[")] == extras["cpu"]
    assert {name for name, lines in extras.items() if any("mlx[" in line for line in lines)} == set(
        BACKENDS.values()
    )
    lines = (ROOT / "requirements-dev.txt").read_text().split("\n")
    assert extras["dev"] == [line for line in lines[1:] if line]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has one backend")
def test_two_backends_are_refused_in_one_line(tmp_path: Path) -> None:
    other = next(name for name in BACKENDS if name not in installed_packages())
    folder = tmp_path / f"{other.replace('-', '_')}-0.32.4.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other}\nVersion: 0.32.4\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def called(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    script = called("train.py", "--help")
    assert script.returncode == 2 and script.stdout == "" and script.stderr.count("\n") == 1
    assert script.stderr.startswith("train.py: ") and other in script.stderr
    assert "pip uninstall -y mlx " in script.stderr
    imported = called("-c", "import mlx_gmvae")
    assert imported.returncode == 1 and "ImportError: " in imported.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has one backend")
def test_no_backend_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlx").mkdir()
    monkeypatch.setattr(installed, "_is_installed", lambda package: False)
    spec = ModuleSpec("mlx", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "mlx")]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert installed.backend_problem() == (
        "MLX is installed without a backend; run: pip install 'mlx[cpu]' (or 'mlx[cuda13]')"
    )
    (tmp_path / "mlx" / "lib").mkdir()
    (tmp_path / "mlx" / "lib" / "libmlx.so").touch()  # as where somebody has built it
    assert installed.backend_problem() is None


def installed_packages() -> set[str]:
    return {name.lower() for each in distributions() if (name := each.metadata["Name"])}
