"""Where the arithmetic runs: a fast BLAS on Linux, the device, and one line that says so.

`load_fast_blas` must run before `mlx.core` is first imported, so this module imports MLX only
inside functions and `mlx_gmvae/__init__.py` calls it first.
"""

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

BLAS_VARIABLE = "MLX_GMVAE_BLAS"
WIDTH_VARIABLE = "MLX_BFS_MAX_WIDTH"
ARENA_MAX, MMAP_MAX, TOP_PAD, TRIM_THRESHOLD = -8, -4, -2, -1  # of glibc's mallopt
_blas_name: str | None = None
_blas_threads = 0
_too_late = False


def load_fast_blas() -> None:
    """Put OpenBLAS ahead of the reference BLAS in MLX's Linux wheel (35 times faster).

    MLX binds `cblas_sgemm` by name when it is imported, so a library already in the global
    symbol scope wins. Tried in order: the file named by the environment variable
    MLX_GMVAE_BLAS ("none" tries nothing), the system's OpenBLAS, the active conda
    environment's. On macOS MLX uses Accelerate already, and this does nothing.
    """
    global _blas_name, _blas_threads, _too_late
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
            _blas_threads = _take_threads(library)
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


def _take_threads(library: ctypes.CDLL) -> int:
    """How many threads OpenBLAS would use; from now on it uses one, and `parallel` the cores."""
    try:
        threads = int(library.openblas_get_num_threads())
        library.openblas_set_num_threads(1)
    except AttributeError:
        return 0
    return threads


def keep_freed_memory() -> None:
    """Let glibc keep memory that MLX frees, for the next step to use.

    MLX's CPU allocator is malloc. By default large arrays are given back to the system when freed
    and fetched again page by page, which costs more than most of the arithmetic on them.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(ARENA_MAX, 1)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TOP_PAD, 64 << 20)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def interleave_streams() -> None:
    """Let MLX hand out operations of several streams in turns, so that they run at the same time.

    It goes through a graph by breadth, but by depth where more than so many arrays are open, as
    in a step with all its gradients; then one stream waits for another. Read at the first
    evaluation.
    """
    if platform.system() == "Linux":
        os.environ.setdefault(WIDTH_VARIABLE, "100")


def cores() -> int:
    """How many CPU cores to use: OpenBLAS's number of threads where it is loaded.

    So OPENBLAS_NUM_THREADS and OMP_NUM_THREADS limit everything. One where the BLAS brings threads
    of its own, as on macOS.
    """
    if _blas_name:
        return max(1, _blas_threads)
    return len(os.sched_getaffinity(0)) if platform.system() == "Linux" else 1


def _blas_version(library: ctypes.CDLL) -> str:
    try:
        describe = library.openblas_get_config
    except AttributeError:
        return "BLAS from " + os.environ.get(BLAS_VARIABLE, "the system")
    describe.restype = ctypes.c_char_p
    # The version, and the processor whose kernels are in use, as "OpenBLAS 0.3.21 Haswell".
    return " ".join([*describe().decode().split()[:2], _kernels(library)]).strip()


def _kernels(library: ctypes.CDLL) -> str:
    try:
        name = library.openblas_get_corename
    except AttributeError:
        return ""
    name.restype = ctypes.c_char_p
    return str(name().decode())


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
    return mx.default_device().type != mx.cpu or _has_compiler()


@functools.cache
def _has_compiler() -> bool:
    """Whether there is a g++ that compiles: without Apple's tools macOS has one that only asks."""
    if shutil.which("g++") is None:
        return False
    if platform.system() != "Darwin":
        return True
    return subprocess.run(["xcode-select", "-p"], capture_output=True, check=False).returncode == 0


def describe() -> str:
    """One line: device, chip, BLAS, compiled or eager, and the remedy for what is slow."""
    import mlx.core as mx

    remedy = "xcode-select --install" if platform.system() == "Darwin" else "install g++"
    mode = "compiled" if compiles() else f"eager ({remedy} to compile)"
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
