"""README.md and docs/: commands run as they are typed, tables are those of the results."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx_gmvae as mg
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.training import defaults

import numpy as np
import pages
import pytest
from conftest import ROOT

TEXTS = {path: path.read_text() for path in pages.pages()}
README = TEXTS[ROOT / "README.md"]


def commands_in(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


COMMANDS = sorted(
    {
        command
        for text in TEXTS.values()
        for command in commands_in(text)
        if command.startswith("python ") and "DIR" not in command
    }
)
QUICK = [command for command in COMMANDS if "pretrained/" in command]


def test_the_two_commands_are_there() -> None:
    commands = commands_in(README)
    assert any(line.endswith("python train.py --latent_dims 8 --K 10") for line in commands)
    assert "make check" in commands


def test_there_is_a_command_for_each_script() -> None:
    for script in ("train.py", "reconstruct.py", "generate.py", "cluster.py"):
        assert any(f"python {script}" in command for command in commands_in(README)), script


@pytest.mark.parametrize("page", ["README.md", "docs/PYTHON.md"])
def test_python_runs_as_written(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Splits
) -> None:
    """On a hundred of the digits, for as few steps as can be."""
    blocks = re.findall(r"```python\n(.*?)```", TEXTS[ROOT / page], flags=re.DOTALL)
    few = Splits(digits.train.take(np.arange(100)), digits.test.take(np.arange(20)))
    monkeypatch.setattr(mg, "load_dataset", lambda name: few)
    for name in ("FEWEST_STEPS", "FEWEST_SMALL_STEPS"):
        monkeypatch.setattr(defaults, name, 1)
    monkeypatch.chdir(tmp_path)
    Path("pretrained").symlink_to(ROOT / "pretrained")
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert blocks and len(names["clusterer"].labels_) == 100


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_results(path: Path) -> None:
    """If not, `python benchmarks/pages.py` brings them up to date."""
    assert pages.updated(TEXTS[path]) == TEXTS[path]


def test_every_table_is_shown_on_one_page() -> None:
    marked = [name for text in TEXTS.values() for name in re.findall(r"<!-- (\w+) -->", text)]
    assert sorted(marked) == sorted(pages.TABLES)


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
def test_every_flag_that_is_shown_exists(command: str) -> None:
    script, *rest = command.split()[1:]
    flags = set(re.findall(r"--\w+", help_of(script)))
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in flags


@functools.cache
def help_of(script: str) -> str:
    return subprocess.run(
        [sys.executable, script, "--help_all"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_every_linked_file_exists() -> None:
    for path, text in TEXTS.items():
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
        for link in links:
            if not link.startswith("http"):
                assert (path.parent / link).exists(), f"{path.name}: {link}"
