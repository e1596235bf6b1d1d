"""The device line, and BLAS loaded before MLX."""

import os
import platform
import subprocess
import sys

from mlx_gmvae import backend

import mlx.core as mx
import pytest
from conftest import ROOT

linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="macOS has Accelerate")


def python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def test_describe_is_one_line_with_device_and_version() -> None:
    line = backend.describe()
    assert line.startswith("device: ") and "\n" not in line and "mlx 0." in line


def test_select_cpu() -> None:
    before = mx.default_device()
    try:
        backend.select_device(cpu=True)
        assert mx.default_device() == mx.Device(mx.cpu)
        assert "device: cpu" in backend.describe()
    finally:
        mx.set_default_device(before)


@linux_only
def test_blas_can_be_turned_off_named_or_come_too_late() -> None:
    show = "from mlx_gmvae import backend; print(backend.describe())"
    assert "reference BLAS" in python(show, MLX_GMVAE_BLAS="none")
    assert "reference BLAS" in python(show, MLX_GMVAE_BLAS="/nonexistent.so")
    assert "import mlx_gmvae before mlx" in python(f"import mlx.core; {show}")


@linux_only
@pytest.mark.parametrize("script", ["train", "reconstruct", "generate", "cluster"])
def test_every_script_loads_blas_before_mlx(script: str) -> None:
    code = f"import {script}; from mlx_gmvae import backend; print(backend._too_late)"
    assert python(code) == "False"


@linux_only
def test_openblas_is_used_and_gives_the_same_numbers() -> None:
    code = (
        "import mlx_gmvae, mlx.core as mx; from mlx_gmvae import backend; mx.random.seed(0);"
        "a = mx.random.normal((200, 300)); print(backend._blas_name);"
        "print(float((a @ a.T).sum()))"
    )
    fast, slow = (python(code, MLX_GMVAE_BLAS=blas).split("\n") for blas in ("", "none"))
    if fast[0] == "None":
        pytest.skip("no OpenBLAS on this machine")
    assert slow[0] == "None"
    assert float(fast[1]) == pytest.approx(float(slow[1]), rel=1e-4)


@linux_only
def test_cores_follow_the_threads_that_openblas_may_use() -> None:
    show = "from mlx_gmvae import backend; print(backend._blas_name, backend.cores())"
    name, cores = python(show, OPENBLAS_NUM_THREADS="1").rsplit(" ", 1)
    if name == "None":
        pytest.skip("no OpenBLAS on this machine")
    assert cores == "1"
    assert int(python(show).rsplit(" ", 1)[1]) == len(os.sched_getaffinity(0))


@linux_only
def test_the_device_line_names_the_kernels_in_use() -> None:
    code = "from mlx_gmvae import backend; print(backend.describe())"
    if platform.machine() != "x86_64" or "OpenBLAS" not in python(code):
        pytest.skip("no OpenBLAS for x86-64")
    assert " Prescott," in python(code, OPENBLAS_CORETYPE="Prescott")


@linux_only
def test_streams_are_served_in_turns_unless_the_width_is_given() -> None:
    code = "import os, mlx_gmvae; print(os.environ['MLX_BFS_MAX_WIDTH'])"
    assert python(code) == "100"
    assert python(code, MLX_BFS_MAX_WIDTH="7") == "7"


def test_the_stub_that_macs_have_for_a_compiler_is_not_taken_for_one(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """/usr/bin/g++ is always there; whether it works, xcode-select says, which is asked once."""
    answers = iter([0, 2])

    def asked(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        code = next(answers) if command == ["xcode-select", "-p"] else 0
        return subprocess.CompletedProcess(command, code, "Apple", "")

    (tmp_path / "g++").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MLX_DISABLE_COMPILE", raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", asked)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    for expected in (True, False):
        backend._has_compiler.cache_clear()
        assert backend.compiles() == backend.compiles() == expected
    assert "eager (xcode-select --install to compile)" in backend.describe()
    backend._has_compiler.cache_clear()
