"""The table of features: every command is one, every test it names exists.

`benchmarks/features.py` types them all, one after the other.
"""

import re
import shlex

from mlx_gmvae.cli import cluster, generate, reconstruct, train

import pytest
from conftest import ROOT

SCRIPTS = {"train": train, "reconstruct": reconstruct, "generate": generate, "cluster": cluster}
TEXT = (ROOT / "docs/FEATURES.md").read_text()
ROWS = re.findall(r"^\| (.+) \| `python (\w+)\.py (.+)` \| (\S+) \|$", TEXT, flags=re.MULTILINE)


def test_every_row_with_a_command_is_tried_below() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("| ") and "`python " in line]
    assert len(lines) == len(ROWS)
    assert {script for _, script, _, _ in ROWS} == set(SCRIPTS)


@pytest.mark.parametrize(("what", "script", "options", "test"), ROWS, ids=[row[0] for row in ROWS])
def test_row(what: str, script: str, options: str, test: str) -> None:
    args = SCRIPTS[script].parse_arguments(shlex.split(options))
    given = [word.removeprefix("--") for word in options.split() if word.startswith("--")]
    assert all(getattr(args, name, True) not in (None, False) for name in given)
    file, name = test.split("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()
