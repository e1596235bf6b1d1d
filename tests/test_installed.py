"""The package as pip installs it: a wheel, a command, outside the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

SMALL = "--dataset digits --arch mlp --hidden_dims 8 --latent_dims 2 --epochs 1 --cpu"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows, so that no build folder appears in the tree."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("mlx_gmvae", "pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(place), str(source)], check=True)
    (found,) = place.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < 350_000
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
    assert extras == {"summary", "heic", "hub", "completion", "cuda12", "cuda13", "dev"}


def test_the_command_does_what_the_scripts_do(wheel: Path, tmp_path: Path) -> None:
    """In another folder, from the unpacked wheel alone."""
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)

    def called(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlx_gmvae", *words]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    trained = called("train", *SMALL.split(), "--outdir", "run")
    assert (trained.returncode, trained.stderr) == (0, ""), trained.stderr
    done = called("cluster", "--model", "run/model.npz")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert {"run", "clusters"} <= {path.name for path in tmp_path.iterdir()}
    finished = called("train", "--resume", "run")
    assert finished.returncode == 2 and finished.stderr.startswith("mlx-gmvae train: the run in")
    assert "usage: mlx-gmvae generate" in called("generate", "--help").stdout
    assert called("--version").stdout.startswith("mlx_gmvae ")
    unknown = called("paint")
    assert unknown.returncode == 2 and "there is no command 'paint'" in unknown.stderr
    typed = called("tarin").stderr
    assert "there is no command 'tarin'; did you mean train?" in typed and typed.count("\n") == 1
    assert called().stdout.startswith("usage: mlx-gmvae COMMAND")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mlx-gmvae cl", {"cluster"}),
        ("mlx-gmvae cluster --anom", {"--anomalies", "--anomaly_score"}),
        ("mlx-gmvae train --model va", {"vade", "vae", "vae-gmm"}),
    ],
)
def test_a_shell_is_told_what_may_come_next(line: str, expected: set[str], tmp_path: Path) -> None:
    asked = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
        "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
    }  # fmt: skip
    command = [sys.executable, "-m", "mlx_gmvae"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **asked}, check=True, timeout=60)
    assert set((tmp_path / "answer").read_text().split()) == expected


def test_what_development_needs_is_said_once_more_where_pip_looks() -> None:
    tomllib = pytest.importorskip("tomllib", reason="came with Python 3.11")
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements-dev.txt").read_text().split("\n")
    assert written["optional-dependencies"]["dev"] == [line for line in lines[1:] if line]
