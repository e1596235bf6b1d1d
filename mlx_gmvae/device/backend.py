"""Device and BLAS selection, and a line that describes them.

`load_fast_blas` must run before `mlx.core` is first imported, so this module imports MLX only
inside functions and `mlx_gmvae/__init__.py` calls it first.
"""

import ctypes
import functools
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path

from ..errors import InputError
from ..system.cache import cache_dir
from ..system.processors import available_processors
from . import blas, forks
from .blas import Blas

STREAMS_VARIABLE = "MLX_GMVAE_STREAMS"
MOST_STREAMS = 4  # unless the user asks for more
WIDTH_VARIABLE = "MLX_BFS_MAX_WIDTH"
FUSE_VARIABLE = "MLX_GMVAE_FUSE"
KERNELS_VARIABLE = "MLX_PTX_CACHE_DIR"  # where MLX keeps compiled kernels on CUDA
GRAPHS_VARIABLE = "MLX_USE_CUDA_GRAPHS"
ARENA_MAX, MMAP_MAX, TOP_PAD, TRIM_THRESHOLD = -8, -4, -2, -1  # of glibc's mallopt
SET_COMPILE_MODE = "_ZN3mlx4core16set_compile_modeENS0_11CompileModeE"  # of MLX's C++ interface
NO_FUSE, FUSE = 2, 3
_loaded = Blas()
_as_on_gpu = ContextVar("_as_on_gpu", default=False)


def load_fast_blas() -> None:
    """Load a fast BLAS in place of the reference BLAS in MLX's Linux wheel; see `blas`.

    Warns if MLX was imported before, which is too late. The package's `__init__` calls this, and
    the warning points at the code that imports the package.
    """
    global _loaded
    if platform.system() == "Linux" and not _loaded.name:
        _loaded = blas.load()
        if _loaded.is_late and not has_gpu():
            warnings.warn(f"MLX works on a slow BLAS: {_loaded.problem}", RuntimeWarning, 3)


def fast_blas() -> Blas:
    """Return the BLAS that `load_fast_blas` found."""
    return _loaded


def keep_freed_memory() -> None:
    """Let glibc keep the memory that MLX frees, for the next step.

    MLX's CPU allocator is malloc. By default it returns large arrays to the system when they are
    freed, and gets them back page by page, which takes longer than most arithmetic on them.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(ARENA_MAX, 1)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TOP_PAD, 64 << 20)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def interleave_streams() -> None:
    """Let MLX dispatch the operations of several streams in turn, so that they run in parallel.

    MLX traverses a graph breadth-first, but depth-first if more arrays are open than this
    variable says, as in a step with all its gradients. Then one stream waits for another. MLX
    reads the variable at its first evaluation.
    """
    os.environ.setdefault(WIDTH_VARIABLE, "500")


def cores() -> int:
    """Return the number of CPU streams to use.

    It is MLX_GMVAE_STREAMS if that is set. Otherwise it is OpenBLAS's number of threads if
    OpenBLAS is loaded, so that OPENBLAS_NUM_THREADS and OMP_NUM_THREADS limit everything. On
    macOS there is one stream per performance core, at most MOST_STREAMS.
    """
    asked = os.environ.get(STREAMS_VARIABLE)
    if asked is not None:
        if not (asked.isdecimal() and int(asked)):
            raise InputError(
                f"{STREAMS_VARIABLE} is {asked!r}; it must be a whole number of at least 1"
            )
        return int(asked)
    if _loaded.name:
        return max(1, _loaded.threads)
    return available_processors() if platform.system() == "Linux" else _fast_cores()


@functools.cache
def _fast_cores() -> int:
    """Return the number of performance cores of an Apple processor, at most 4; 1 if unknown.

    Accelerate's matrix products run on units that the cores of a cluster share, so they gain
    little from streams. Everything else in a step uses one thread per stream: copies of windows,
    element-wise arithmetic, sums, Adam. Efficiency cores would make the others wait, and each
    part of a batch adds a gradient to be summed.
    """
    query = ["sysctl", "-n", "hw.perflevel0.physicalcpu"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return 1
    return min(MOST_STREAMS, int(answer)) if answer.isdecimal() and int(answer) else 1


def memory_bytes() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def select_device(cpu: bool = False) -> None:
    """Select MLX's default device (the GPU if there is one), or the CPU with `cpu`.

    Raises InputError if MLX_GMVAE_BLAS names a library that cannot be used, if MLX_GMVAE_STREAMS
    or MLX_GMVAE_FUSE is invalid, or if the process was forked after MLX had been used.
    """
    import mlx.core as mx

    forks.require_usable()
    _loaded.require_usable()
    if cpu:
        mx.set_default_device(mx.Device(mx.cpu))
    fuses()  # raises InputError if MLX_GMVAE_FUSE is invalid
    set_up_cuda()
    if not on_gpu():
        if STREAMS_VARIABLE in os.environ:  # each stream gets a share of BLAS's threads
            _loaded.use_threads(max(1, _loaded.threads // cores()))
        if cores() > 1:
            interleave_streams()


def on_gpu() -> bool:
    """Return whether operations run on a GPU."""
    import mlx.core as mx

    return _as_on_gpu.get() or bool(mx.default_device().type != mx.cpu)


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Use the code paths for a GPU on any device within this context, to test or count them."""
    before = _as_on_gpu.set(True)
    try:
        yield
    finally:
        _as_on_gpu.reset(before)


def choose_fusing() -> None:
    """Let `mx.compile` fuse operations where that is faster, see `fuses`.

    Without fusing, `mx.compile` still traces and simplifies a step. Call this before the first
    call of a compiled function.
    """
    import mlx.core as mx

    if not compiles():
        return  # compilation is disabled
    set_up_cuda()
    library = next((Path(mx.__file__).parent / "lib").glob("libmlx.*"), None)
    set_mode = getattr(ctypes.CDLL(str(library)), SET_COMPILE_MODE, None) if library else None
    if set_mode:
        set_mode(FUSE if fuses() else NO_FUSE)
    elif not fuses():  # from Python, compilation can only be disabled as a whole
        mx.disable_compile()


def fuses() -> bool:
    """Return whether `mx.compile` fuses operations: by MLX_GMVAE_FUSE, or else only on Metal.

    On Metal a fused kernel compiles in milliseconds. On CUDA each takes a second or more, and the
    hundred kernels of a training step take minutes. On the CPU each is compiled by g++, which
    takes a minute for a step that is then 4 % faster. Raises InputError.
    """
    import mlx.core as mx

    wanted = os.environ.get(FUSE_VARIABLE)
    if wanted is None:
        return on_gpu() and mx.metal.is_available()
    if wanted not in ("0", "1"):
        raise InputError(f"{FUSE_VARIABLE} is {wanted!r}; it must be 0 or 1")
    return wanted == "1"


def compiles_for_minutes() -> bool:
    """Return whether operations are fused on an NVIDIA GPU, as only with MLX_GMVAE_FUSE=1."""
    import mlx.core as mx

    return on_gpu() and fuses() and not mx.metal.is_available()


def set_up_cuda() -> None:
    """Set defaults of environment variables that MLX reads when it first uses an NVIDIA GPU.

    Compiled kernels are kept in the cache folder. MLX's default is a temporary folder, which is
    lost at a restart. CUDA graphs are disabled: to find, compare and update a graph for each
    hundred kernels takes longer here than to launch the kernels (`benchmarks/gpu.py`).
    """
    import mlx.core as mx

    if on_gpu() and not mx.metal.is_available():
        kernels = str(cache_dir() / "kernels" / version("mlx"))
        os.environ.setdefault(KERNELS_VARIABLE, kernels)
        os.environ.setdefault(GRAPHS_VARIABLE, "0")


def has_gpu() -> bool:
    """Return whether this build of MLX can use a GPU on this machine."""
    import mlx.core as mx

    return mx.is_available(mx.Device(mx.gpu))


def gpu_memory() -> int | None:
    """Return the memory of the GPU in bytes (on a Mac, of the machine), or None on the CPU."""
    import mlx.core as mx

    if not on_gpu():
        return None
    info = mx.device_info()
    return int(info.get("memory_size") or info.get("total_memory") or 0)


def compiles() -> bool:
    """Return whether `mx.compile` traces functions once, rather than running them every time.

    It does not if compilation is disabled, or on the CPU if `g++ --version` fails.
    """
    import mlx.core as mx

    calls = 0

    @mx.compile
    def counted(x: mx.array) -> mx.array:
        nonlocal calls
        calls += 1
        return mx.abs(x)

    for _ in range(3):  # the first call in a process is traced twice
        counted(mx.array(0))
    return calls < 3


def _why_eager() -> str:
    if os.environ.get("MLX_DISABLE_COMPILE"):
        return "MLX_DISABLE_COMPILE is set"
    # Without Apple's tools, the g++ of macOS only asks to install them.
    return "xcode-select --install" if platform.system() == "Darwin" else "install g++"


def describe() -> str:
    """Return a line with device, chip, BLAS, compiled or eager, MLX, and remedies for slowness."""
    return f"device: {describe_device()}, mlx {version('mlx')}"


def describe_device() -> str:
    """Return the device, chip, BLAS, and compiled or eager."""
    import mlx.core as mx

    mode = "compiled"
    if not compiles():
        mode = f"eager, somewhat slower ({_why_eager()})"
    if mx.default_device().type != mx.cpu:
        chip = mx.device_info().get("device_name", "GPU")
        return f"gpu, {chip}, {mode}"
    return f"cpu, {_processor()}, {os.cpu_count()} cores, {_blas()}, {mode}"


def _blas() -> str:
    if platform.system() != "Linux":
        return "Accelerate"
    return _loaded.name or f"reference BLAS (slow: {_loaded.problem})"


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
