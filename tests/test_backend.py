"""The device line, and what is set up before MLX is imported."""

import ast
import os
import platform
import subprocess
import sys
from pathlib import Path

from mlx_gmvae.device import backend
from mlx_gmvae.errors import InputError

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
def test_every_script_loads_blas_before_mlx() -> None:
    code = "import train; from mlx_gmvae.device import backend; print(backend.describe())"
    assert "import mlx_gmvae before mlx" not in python(code)
    for script in ("reconstruct", "generate", "cluster"):  # as train.py, from this package alone
        tree = ast.parse((ROOT / f"{script}.py").read_text())
        imports = [each for each in tree.body if isinstance(each, (ast.Import, ast.ImportFrom))]
        assert [ast.unparse(each) for each in imports] == [
            "import sys", f"from mlx_gmvae.cli.{script} import main",
        ]  # fmt: skip


@linux_only
def test_streams_are_served_in_turns_unless_the_width_is_given() -> None:
    code = "import os, mlx_gmvae; print(os.environ['MLX_BFS_MAX_WIDTH'])"
    assert python(code) == "500"
    assert python(code, MLX_BFS_MAX_WIDTH="7") == "7"


def stub_for_a_compiler(folder: Path, status: int) -> str:
    """A PATH whose g++ says its version, or fails to, and notes whatever else it is asked."""
    (folder / "bin").mkdir()
    stub = folder / "bin/g++"
    stub.write_text(f'#!/bin/sh\n[ "$1" = --version ] || touch {folder}/started\nexit {status}\n')
    stub.chmod(0o755)
    return f"{folder}/bin:/usr/bin:/bin"


def test_a_g_plus_plus_that_only_asks_for_apples_tools_is_none(tmp_path: Path) -> None:
    path = stub_for_a_compiler(tmp_path, status=1)
    code = (
        "from mlx_gmvae.device import backend; backend.select_device(cpu=True);"
        "import platform; platform.system = lambda: 'Darwin'; backend._processor = lambda: 'Apple';"
        "print(backend.describe())"
    )
    assert "eager, somewhat slower (xcode-select --install)" in python(code, PATH=path)


def test_a_step_on_the_cpu_starts_no_compiler(tmp_path: Path) -> None:
    """A fresh machine does not wait for g++."""
    path = stub_for_a_compiler(tmp_path, status=0)
    code = """
import mlx_gmvae, numpy as np, mlx.core as mx
from mlx_gmvae.device.backend import compiles, select_device
select_device(cpu=True)
images = np.zeros((8, 8, 8, 1), np.uint8)
model = mlx_gmvae.build_model(mlx_gmvae.ModelConfig(image_size=(8, 8), K=2, max_filters=8))
config = mlx_gmvae.TrainConfig(epochs=1, batchsize=4, neighbours=2, heads=2)
mlx_gmvae.train(model, images, config, verbose=False)
print(compiles())
"""
    assert python(code, PATH=path, TMPDIR=str(tmp_path)) == "True"
    assert not (tmp_path / "started").exists()


def test_steps_are_fused_on_metal_alone_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA each fused kernel compiles for a second and more, and a step has a hundred."""
    monkeypatch.delenv(backend.FUSE_VARIABLE, raising=False)
    assert not backend.fuses()
    with backend.as_on_gpu():
        monkeypatch.setattr(mx.metal, "is_available", lambda: False)
        assert not backend.fuses()
        monkeypatch.setattr(mx.metal, "is_available", lambda: True)
        assert backend.fuses()
        monkeypatch.setenv(backend.FUSE_VARIABLE, "0")
        assert not backend.fuses()
    monkeypatch.setenv(backend.FUSE_VARIABLE, "1")
    assert backend.fuses()
    monkeypatch.setenv(backend.FUSE_VARIABLE, "yes")
    with pytest.raises(InputError, match="MLX_GMVAE_FUSE is 'yes'; it must be 0 or 1"):
        backend.select_device()


def test_cuda_keeps_kernels_beyond_a_restart_and_makes_no_graphs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in (backend.KERNELS_VARIABLE, backend.GRAPHS_VARIABLE):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    backend.set_up_cuda()
    assert backend.KERNELS_VARIABLE not in os.environ  # the CPU has none
    with backend.as_on_gpu():
        backend.set_up_cuda()
        assert os.environ[backend.KERNELS_VARIABLE].startswith(f"{tmp_path}/mlx_gmvae/kernels/")
        assert os.environ[backend.GRAPHS_VARIABLE] == "0"
        monkeypatch.setenv(backend.KERNELS_VARIABLE, "elsewhere")  # as somebody wants it
        monkeypatch.setenv(backend.GRAPHS_VARIABLE, "1")
        backend.set_up_cuda()
    assert os.environ[backend.KERNELS_VARIABLE] == "elsewhere"
    assert os.environ[backend.GRAPHS_VARIABLE] == "1"
