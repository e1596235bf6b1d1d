"""The import graph is the one drawn in CONTRIBUTING.md, and has no cycle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "mlx_gmvae"
LEAVES = {"errors", "metrics", "randomness", "figures"}
SCRIPTS = {"train", "reconstruct", "generate", "cluster"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    return {module_name(path): path for path in PACKAGE.rglob("*.py") if module_name(path)}


def resolve(name: str, known: set[str]) -> str | None:
    """The module of ours that a dotted name below mlx_gmvae means: itself or its parent."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def imports(path: Path, package: list[str], known: set[str]) -> set[str]:
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = package[: len(package) - node.level + 1]
            base = [*base, *(node.module.split(".") if node.module else [])]
        elif node.module and node.module.split(".")[0] == "mlx_gmvae":
            base = node.module.split(".")[1:]
        else:
            continue
        for alias in node.names:
            found.add(resolve(".".join([*base, alias.name]), known))
    return {name for name in found if name}


def measured_graph() -> dict[str, set[str]]:
    known = modules()
    graph = {}
    for name, path in known.items():
        package = list(path.relative_to(PACKAGE).parts[:-1])
        graph[name] = imports(path, package, set(known)) - {name, "data"}
    return {name: uses for name, uses in graph.items() if name != "data"}


def drawn_graph() -> dict[str, set[str]]:
    """Lines `module -> module module` of the drawing in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    graph = {}
    for name, uses in re.findall(r"^([\w.]+) +-> *(.*)$", text, flags=re.MULTILINE):
        graph[name] = set(uses.split())
    return graph


def test_the_drawing_is_true() -> None:
    assert drawn_graph() == measured_graph()


def test_there_is_no_cycle() -> None:
    list(TopologicalSorter(measured_graph()).static_order())  # raises CycleError


def test_leaves_import_nothing_of_ours() -> None:
    graph = measured_graph()
    for leaf in LEAVES:
        assert graph[leaf] == set(), leaf


def test_models_know_neither_training_nor_data() -> None:
    graph = measured_graph()
    reached, todo = set(), [name for name in graph if name.startswith("models")]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += graph.get(name, set()) - reached
    assert not {name for name in reached if name.startswith(("data", "training"))}


def test_nothing_imports_the_scripts() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & SCRIPTS
