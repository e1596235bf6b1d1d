"""Which build of MLX is installed: on Linux one of several packages brings the library itself.

All of them bring the same file, `mlx/lib/libmlx.so`, so where two are installed the last one
unpacked is used, whichever that was. Nothing here imports MLX, which fails where there is none.
"""

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BACKENDS = {"mlx-cpu": "cpu", "mlx-cuda-12": "cuda12", "mlx-cuda-13": "cuda13"}  # and their extras


def backend_problem() -> str | None:
    """Return what is wrong with the installed builds of MLX, and the remedy, in one line."""
    if sys.platform != "linux":  # macOS has one
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
    """Whether MLX was built with a library of its own; True too if there is no MLX at all."""
    found = importlib.util.find_spec("mlx")
    if found is None or found.submodule_search_locations is None:
        return True  # importing it says the rest
    return any(
        (Path(place) / "lib" / "libmlx.so").exists() for place in found.submodule_search_locations
    )
