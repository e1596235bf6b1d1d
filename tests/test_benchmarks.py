"""The benchmarks run; what they measure is not judged here."""

import os
import subprocess
import sys

from conftest import ROOT


def test_throughput_quick() -> None:
    command = [
        sys.executable,
        "benchmarks/throughput.py",
        "--quick",
        "--only",
        "64x64",
        "--rows",
        "plain",
    ]
    # Plain rows compile as MLX does by itself, for a minute where no kernels lie ready.
    eager = {**os.environ, "MLX_DISABLE_COMPILE": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=eager)
    assert done.returncode == 0, done.stderr
    for row in ("VAE conv, 64x64x1", "ours", "plain MLX, OpenBLAS", "plain MLX, wheel BLAS"):
        assert row in done.stdout
    assert len(done.stdout.strip().splitlines()) >= 5
