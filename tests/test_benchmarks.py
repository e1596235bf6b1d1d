"""The benchmarks run; what they measure is not judged here."""

import subprocess
import sys

from conftest import ROOT


def test_throughput_quick() -> None:
    command = [sys.executable, "benchmarks/throughput.py", "--quick", "--rows", "plain"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for row in ("VAE conv, 64x64x1", "ours", "plain MLX, OpenBLAS", "plain MLX, wheel BLAS"):
        assert row in done.stdout
    assert len(done.stdout.strip().splitlines()) >= 9
