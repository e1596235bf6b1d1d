"""Check of the installed build of MLX; on Linux one of several packages contains the library.

All of them install the same file, `mlx/lib/libmlx.so`. If two are installed, the one that was
unpacked last is used. Nothing here imports MLX, which fails without a backend.
"""

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BACKENDS = {"mlx-cpu": "cpu", "mlx-cuda-12": "cuda12", "mlx-cuda-13": "cuda13"}  # their extras


def backend_problem() -> str | None:
    """Return a problem of the installed builds of MLX and its remedy in one line, or None."""
    if sys.platform != "linux":  # macOS has only one build
        return None
    installed = [package for package in BACKENDS if _is_installed(package)]
    if len(installed) > 1:
        packages = " ".join(["mlx", *installed])
        choices = " or ".join(f"pip install 'mlx[{BACKENDS[package]}]'" for package in installed)
        return (
            f"{' and '.join(installed)} are both installed, and replace each other's files; run: "
            f"pip uninstall -y {packages}, then {choices}"
        )
    if not installed and not _has_library():
        return "MLX is installed without a backend; run: pip install 'mlx[cpu]' (or 'mlx[cuda13]')"
    return None


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _has_library() -> bool:
    """Return whether MLX has its library; also True if MLX is not installed at all."""
    found = importlib.util.find_spec("mlx")
    if found is None or found.submodule_search_locations is None:
        return True  # importing it raises the error
    return any(
        (Path(place) / "lib" / "libmlx.so").exists() for place in found.submodule_search_locations
    )
