"""The device line, and what is set up before MLX is imported."""

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
@pytest.mark.parametrize("script", ["train", "reconstruct", "generate", "cluster"])
def test_every_script_loads_blas_before_mlx(script: str) -> None:
    code = f"import {script}; from mlx_gmvae import backend; print(backend.describe())"
    assert "import mlx_gmvae before mlx" not in python(code)


@linux_only
def test_streams_are_served_in_turns_unless_the_width_is_given() -> None:
    code = "import os, mlx_gmvae; print(os.environ['MLX_BFS_MAX_WIDTH'])"
    assert python(code) == "100"
    assert python(code, MLX_BFS_MAX_WIDTH="7") == "7"
