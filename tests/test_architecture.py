"""The rooms of the house and the arrows between them are those drawn in CONTRIBUTING.md."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "mlx_gmvae"
SCRIPTS = {"train", "reconstruct", "generate", "cluster"}
MOST_ENTRIES = 14


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


def imports(path: Path, known: set[str]) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    inside = path.is_relative_to(PACKAGE)
    package = list(path.relative_to(PACKAGE).parts[:-1]) if inside else []
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


def modules_graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(path, set(known)) - {name} for name, path in known.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def rooms_graph() -> dict[str, set[str]]:
    """Arrows between rooms; the four scripts are one."""
    known = set(modules())
    graph: dict[str, set[str]] = {
        "scripts": {room(used) for name in SCRIPTS for used in imports(ROOT / f"{name}.py", known)}
    }
    for module, uses in modules_graph().items():
        own = room(module)
        graph.setdefault(own, set()).update(room(used) for used in uses if room(used) != own)
    return graph


def drawn_graph() -> dict[str, set[str]]:
    """Lines `room -> room room` of the drawing in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    lines = re.findall(r"^(\w+) +-> *(.*)$", text, flags=re.MULTILINE)
    return {name: set(uses.split()) for name, uses in lines}


def test_the_drawing_is_true() -> None:
    assert drawn_graph() == rooms_graph()


def test_rooms_and_files_have_no_circle() -> None:
    for graph in (rooms_graph(), modules_graph()):
        list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_drawing_runs_downwards() -> None:
    floors = list(drawn_graph())
    for name, uses in drawn_graph().items():
        assert all(floors.index(used) > floors.index(name) for used in uses), name


def test_models_know_neither_training_nor_data() -> None:
    assert not rooms_graph()["models"] & {"data", "training", "clustering", "runs", "cli"}


def test_what_stands_at_the_door_can_be_taken_in_at_a_glance() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    # Python itself asks for these by name: the door, the command, the mark of types.
    assert len(entries - {"__init__.py", "__main__.py", "py.typed"}) <= MOST_ENTRIES


def test_the_fast_blas_is_loaded_before_anything_of_mlx() -> None:
    """What `mlx_gmvae/__init__.py` imports at once must not import MLX."""
    at_once = [*PACKAGE.glob("device/__init__.py"), *PACKAGE.glob("device/b*.py")]
    for path in [*at_once, PACKAGE / "__init__.py", PACKAGE / "errors.py"]:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            module = getattr(node, "module", "") or ""
            assert not [name for name in [module, *names] if name.startswith("mlx.")], path


def test_nothing_imports_the_scripts() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & SCRIPTS
