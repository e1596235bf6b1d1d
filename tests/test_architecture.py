"""The packages and the arrows between them are those drawn in CONTRIBUTING.md."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "mlx_gmvae"
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


@cache
def import_nodes(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a file, anywhere in it."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(path: Path, known: set[str]) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    inside = path.is_relative_to(PACKAGE)
    package = list(path.relative_to(PACKAGE).parts[:-1]) if inside else []
    found: set[str | None] = set()
    for node in import_nodes(path):
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


def modules_graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(path, set(known)) - {name} for name, path in known.items()}


def package(module: str) -> str:
    return module.partition(".")[0]


def packages_graph() -> dict[str, set[str]]:
    """Arrows between packages; the four scripts are one."""
    known = set(modules())
    graph: dict[str, set[str]] = {
        "scripts": {
            package(used) for name in SCRIPTS for used in imports(ROOT / f"{name}.py", known)
        }
    }
    for module, uses in modules_graph().items():
        own = package(module)
        graph.setdefault(own, set()).update(package(used) for used in uses if package(used) != own)
    return graph


def drawn_graph() -> dict[str, set[str]]:
    """Lines `package -> package package` of the drawing in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    lines = re.findall(r"^(\w+) +-> *(.*)$", text, flags=re.MULTILINE)
    return {name: set(uses.split()) for name, uses in lines}


def test_the_drawing_is_true() -> None:
    assert drawn_graph() == packages_graph()


def test_packages_and_files_have_no_circle() -> None:
    for graph in (packages_graph(), modules_graph()):
        list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_drawing_runs_downwards() -> None:
    floors = list(drawn_graph())
    for name, uses in drawn_graph().items():
        assert all(floors.index(used) > floors.index(name) for used in uses), name


def test_models_know_neither_training_nor_data() -> None:
    assert not packages_graph()["models"] & {"data", "training", "clustering", "runs", "cli"}


def test_no_two_modules_have_one_name() -> None:
    """But for `__init__` and the scripts' own: a name alone says which file is meant."""
    names = [path.stem for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]
    assert len(names) == len(set(names))


def test_the_fast_blas_is_loaded_before_anything_of_mlx() -> None:
    """What `mlx_gmvae/__init__.py` imports at once must not import MLX."""
    at_once = [*PACKAGE.glob("device/__init__.py"), *PACKAGE.glob("device/b*.py")]
    at_once += PACKAGE.glob("system/*.py")
    for path in [*at_once, PACKAGE / "__init__.py", PACKAGE / "errors.py"]:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            module = getattr(node, "module", "") or ""
            assert not [name for name in [module, *names] if name.startswith("mlx.")], path


def test_nothing_imports_the_scripts() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in import_nodes(path):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & SCRIPTS
