"""README.md and docs/: commands run as they are typed, tables are those of the results."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cluster
import generate
import mlx_gmvae as mg
import reconstruct
import train
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
MAIN = {f"{script.__name__}.py": script.main for script in (train, reconstruct, generate, cluster)}
QUICK = [command for command in COMMANDS if "pretrained/" in command]


def test_the_two_commands_are_there() -> None:
    commands = commands_in(README)
    assert any(line.endswith("python train.py --latent_dims 8 --K 10") for line in commands)
    assert "make check" in commands


def test_there_is_a_command_for_each_script() -> None:
    for script in ("train.py", "reconstruct.py", "generate.py", "cluster.py"):
        assert any(f"python {script}" in command for command in commands_in(README)), script


PYTHON_PAGES = [path for path, text in TEXTS.items() if "```python\n" in text]


@pytest.mark.parametrize("path", PYTHON_PAGES, ids=lambda path: path.stem)
def test_python_runs_as_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Splits
) -> None:
    """On a hundred of the digits, for as few steps as can be."""
    blocks = re.findall(r"```python\n(.*?)```", TEXTS[path], flags=re.DOTALL)
    few = Splits(digits.train.take(np.arange(100)), digits.test.take(np.arange(20)))
    monkeypatch.setattr(mg, "load_dataset", lambda name: few)
    for name in ("FEWEST_STEPS", "FEWEST_SMALL_STEPS"):
        monkeypatch.setattr(defaults, name, 1)
    monkeypatch.chdir(tmp_path)
    Path("pretrained").symlink_to(ROOT / "pretrained")
    trained = Path("results/gmvae_digits_K10_dims_0008/model.npz")  # of an earlier step
    trained.parent.mkdir(parents=True)
    mg.save_model(trained, mg.build_model(image_size=(8, 8)))
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert len(names["clusterer"].labels_ if "clusterer" in names else few.train) == 100


def test_python_is_shown() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in PYTHON_PAGES}
    assert {"README.md", "docs/howto/python.md", "docs/howto/scikit_learn.md"} <= names


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_results(path: Path) -> None:
    """If not, `python benchmarks/pages.py` brings them up to date."""
    assert pages.updated(TEXTS[path]) == TEXTS[path]


def test_every_table_is_shown_on_one_page() -> None:
    marked = [name for text in TEXTS.values() for name in re.findall(r"<!-- (\w+) -->", text)]
    assert sorted(marked) == sorted(pages.TABLES)


# What pages show of the output of single commands, by command.
SHOWN: dict[str, list[str]] = {}
for text in TEXTS.values():
    for shown in re.findall(r"```bash\n([^\n]+)\n```\n\n```text\n(.*?)```", text, re.DOTALL):
        SHOWN.setdefault(shown[0].split("  #")[0].strip(), []).extend(shown[1].splitlines())


def without_numbers(line: str) -> str:
    return re.sub(r"-?\d[\d,.]*", "#", line.strip())


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("command", QUICK)
def test_command_on_pretrained_models_runs_as_typed(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pretrained").symlink_to(ROOT / "pretrained")
    assert MAIN[command.split()[1]](command.split()[2:]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    printed = set(map(without_numbers, out.splitlines()))
    for line in SHOWN.get(command, []):  # figures differ between machines
        assert line == "..." or without_numbers(line) in printed


def test_pages_show_what_commands_print() -> None:
    assert len(SHOWN.keys() & set(QUICK)) >= 4


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[1].endswith(".py")])
def test_every_flag_that_is_shown_exists(command: str) -> None:
    script, *rest = command.split()[1:]
    with pytest.raises(SystemExit), redirect_stdout(io.StringIO()) as shown:
        MAIN[script](["--help_all"])
    flags = set(re.findall(r"--\w+", shown.getvalue()))
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in flags


LINKED = [
    *pages.pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "pretrained/README.md",
]  # fmt: skip


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "code", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S))


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page: of its headings, as GitHub makes them, and its own."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain} | set(re.findall(r'<a id="(.+?)"', text))


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    text = without_code(path.read_text())
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    for link in links:
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{path.name}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{path.name}: {link}"


def test_the_reference_lists_every_public_name() -> None:
    listed = re.findall(r"^\.\. auto\w+:: (\w+)$", TEXTS[ROOT / "docs/reference/api.md"], re.M)
    assert sorted([*listed, "__version__"]) == mg.__all__


def test_pages_lead_to_all_pages() -> None:
    """From docs/index.md, through the lists of its sections."""
    found, new = set[Path](), [ROOT / "docs/index.md"]
    while new:
        page = new.pop()
        found.add(page)
        for block in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), flags=re.S):
            for line in filter(None, block.splitlines()):
                name = re.sub(r".*<(.+)>", r"\1", line)
                target = (page.parent / f"{name}.md").resolve()
                if not name.startswith(":") and target not in found:
                    new.append(target)
    assert found >= {*TEXTS, *LINKED} - {ROOT / "README.md"}
