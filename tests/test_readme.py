"""The README's commands run as they are typed."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("python ") and "DIR" not in line
]
QUICK = [command for command in COMMANDS if "pretrained/" in command]


def test_the_two_commands_are_there() -> None:
    commands = [line for block in BLOCKS for line in block.splitlines()]
    assert any(line.endswith("python train.py --latent_dims 8 --K 10") for line in commands)
    assert "make check" in commands


def test_there_is_a_command_for_each_script() -> None:
    for script in ("train.py", "reconstruct.py", "generate.py", "cluster.py"):
        assert any(f"python {script}" in command for command in COMMANDS), script


@pytest.mark.parametrize("command", QUICK)
def test_command_on_pretrained_models_runs_as_typed(command: str, tmp_path: Path) -> None:
    for name in ("train.py", "reconstruct.py", "generate.py", "cluster.py", "pretrained"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "mlx_gmvae").symlink_to(ROOT / "mlx_gmvae")
    done = subprocess.run(
        [sys.executable, *command.split()[1:]], cwd=tmp_path, env=os.environ,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[1].endswith(".py")])
def test_every_flag_in_the_readme_exists(command: str) -> None:
    script, *rest = command.split()[1:]
    text = help_of(script)
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in text


@functools.cache
def help_of(script: str) -> str:
    return subprocess.run(
        [sys.executable, script, "--help_all"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
