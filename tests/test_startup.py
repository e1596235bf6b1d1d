"""Start-up: nothing heavy is imported before it is needed."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

HEAVY = ("matplotlib", "scipy", "sklearn", "torch", "tensorboard")


def loaded_after(code: str) -> list[str]:
    code += f"\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return eval(done.stdout.strip().splitlines()[-1])


def test_importing_the_scripts_imports_nothing_heavy() -> None:
    assert loaded_after("import train, reconstruct, generate, cluster") == []


def test_generating_samples_needs_nothing_heavy(tmp_path: Path) -> None:
    model = "pretrained/gmvae_mnist_K10_dims_0008.npz"
    outfile = tmp_path / "samples.png"
    options = ["--model", model, "--outfile", str(outfile), "--num", "2"]
    assert loaded_after(f"import generate; generate.main({options!r})") == []
    assert outfile.is_file()
