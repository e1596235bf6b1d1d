"""Where the arithmetic runs: a fast BLAS on Linux, the device, and one line that says so.

`load_fast_blas` must run before `mlx.core` is first imported, so this module imports MLX only
inside functions and `mlx_gmvae/__init__.py` calls it first.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

BLAS_VARIABLE = "MLX_GMVAE_BLAS"
_blas_name: str | None = None
_too_late = False


def load_fast_blas() -> None:
    """Put OpenBLAS ahead of the reference BLAS in MLX's Linux wheel (35 times faster).

    MLX binds `cblas_sgemm` by name when it is imported, so a library already in the global
    symbol scope wins. Tried in order: the file named by the environment variable
    MLX_GMVAE_BLAS ("none" tries nothing), the system's OpenBLAS, the active conda
    environment's. On macOS MLX uses Accelerate already, and this does nothing.
    """
    global _blas_name, _too_late
    if platform.system() != "Linux" or _blas_name:
        return
    _too_late = "mlx.core" in sys.modules
    if _too_late:
        return
    for candidate in _blas_candidates():
        try:
            library = ctypes.CDLL(candidate, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        if hasattr(library, "cblas_sgemm"):
            _blas_name = _blas_version(library)
            return


def _blas_candidates() -> list[str]:
    chosen = os.environ.get(BLAS_VARIABLE)
    if chosen:
        return [] if chosen.lower() == "none" else [chosen]
    candidates = ["libopenblas.so.0"]
    conda = os.environ.get("CONDA_PREFIX")
    if conda:
        candidates.append(str(Path(conda) / "lib" / "libopenblas.so.0"))
    return candidates


def _blas_version(library: ctypes.CDLL) -> str:
    try:
        describe = library.openblas_get_config
    except AttributeError:
        return "BLAS from " + os.environ.get(BLAS_VARIABLE, "the system")
    describe.restype = ctypes.c_char_p
    return " ".join(describe().decode().split()[:2])


def select_device(cpu: bool = False) -> None:
    """Use MLX's default device (the GPU where there is one), or the CPU if asked."""
    import mlx.core as mx

    if cpu:
        mx.set_default_device(mx.Device(mx.cpu))


def has_gpu() -> bool:
    """Whether this build of MLX can run on a GPU here."""
    import mlx.core as mx

    return mx.is_available(mx.Device(mx.gpu))


def compiles() -> bool:
    """Whether `mx.compile` fuses kernels on the current device, or runs eagerly instead."""
    import mlx.core as mx

    if os.environ.get("MLX_DISABLE_COMPILE"):
        return False
    on_cpu = mx.default_device().type == mx.cpu
    return not on_cpu or shutil.which("g++") is not None


def describe() -> str:
    """One line: device, chip, BLAS, compiled or eager, and the remedy for what is slow."""
    import mlx.core as mx

    mode = "compiled" if compiles() else "eager (install g++ to compile)"
    if os.environ.get("MLX_DISABLE_COMPILE"):
        mode = "eager (MLX_DISABLE_COMPILE is set)"
    if mx.default_device().type != mx.cpu:
        chip = mx.device_info().get("device_name", "GPU")
        return f"device: gpu, {chip}, {mode}, mlx {version('mlx')}"
    return (
        f"device: cpu, {_processor()}, {os.cpu_count()} cores, {_blas()}, {mode}, "
        f"mlx {version('mlx')}"
    )


def _blas() -> str:
    if platform.system() != "Linux":
        return "Accelerate"
    if _blas_name:
        return _blas_name
    if _too_late:
        return "reference BLAS (slow: import mlx_gmvae before mlx)"
    return "reference BLAS (slow: apt install libopenblas0-pthread)"


def _processor() -> str:
    if platform.system() == "Darwin":
        query = ["sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        return answer.stdout.strip() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
