"""Where the arithmetic runs: a fast BLAS on Linux, the device, and one line that says so.

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
MOST_STREAMS = 4  # unless asked for
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
    """Put a fast BLAS ahead of the reference BLAS in MLX's Linux wheel; see `blas`.

    Warns where it is too late for that: called by the package's `__init__`, on behalf of whoever
    imports it.
    """
    global _loaded
    if platform.system() == "Linux" and not _loaded.name:
        _loaded = blas.load()
        if _loaded.is_late and not has_gpu():
            warnings.warn(f"MLX works on a slow BLAS: {_loaded.problem}", RuntimeWarning, 3)


def fast_blas() -> Blas:
    """What `load_fast_blas` found."""
    return _loaded


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
    os.environ.setdefault(WIDTH_VARIABLE, "500")


def cores() -> int:
    """On how many streams to work on the CPU.

    As many as MLX_GMVAE_STREAMS says; or else OpenBLAS's number of threads where it is loaded, so
    that OPENBLAS_NUM_THREADS and OMP_NUM_THREADS limit everything; on macOS a fast core each.
    """
    asked = os.environ.get(STREAMS_VARIABLE)
    if asked is not None:
        if not (asked.isdecimal() and int(asked)):
            raise InputError(f"{STREAMS_VARIABLE} is {asked!r}; it must be a number from 1 on")
        return int(asked)
    if _loaded.name:
        return max(1, _loaded.threads)
    return available_processors() if platform.system() == "Linux" else _fast_cores()


@functools.cache
def _fast_cores() -> int:
    """Of an Apple processor at most four; 1 where that cannot be asked.

    Accelerate's products run on units that the cores of a cluster share, and so gain little from
    streams. All else that MLX does in a step is one thread's work for each stream: copies of
    windows, element by element arithmetic, sums, Adam. Slow cores would make the others wait, and
    every part of a batch has a gradient to be added.
    """
    query = ["sysctl", "-n", "hw.perflevel0.physicalcpu"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return 1
    return min(MOST_STREAMS, int(answer)) if answer.isdecimal() and int(answer) else 1


def memory_bytes() -> int:
    """How much memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def select_device(cpu: bool = False) -> None:
    """Use MLX's default device (the GPU where there is one), or the CPU if asked.

    Raises InputError if MLX_GMVAE_BLAS names a library that cannot be used, or MLX_GMVAE_STREAMS
    or MLX_GMVAE_FUSE is no number; or if the process was forked after MLX had been used.
    """
    import mlx.core as mx

    forks.require_usable()
    _loaded.require_usable()
    if cpu:
        mx.set_default_device(mx.Device(mx.cpu))
    fuses()  # complains
    set_up_cuda()
    if not on_gpu():
        if STREAMS_VARIABLE in os.environ:  # threads that no stream takes are for the products
            _loaded.use_threads(max(1, _loaded.threads // cores()))
        if cores() > 1:
            interleave_streams()


def on_gpu() -> bool:
    """Whether operations run on a GPU."""
    import mlx.core as mx

    return _as_on_gpu.get() or bool(mx.default_device().type != mx.cpu)


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Within, everything is written as for a GPU, wherever it runs: to count or to test that."""
    before = _as_on_gpu.set(True)
    try:
        yield
    finally:
        _as_on_gpu.reset(before)


def choose_fusing() -> None:
    """Let `mx.compile` fuse operations where that pays, see `fuses`.

    What tracing and simplifying a step saves, it saves without. Call this before a compiled
    function is first called.
    """
    import mlx.core as mx

    if not compiles():
        return  # as somebody wanted it
    set_up_cuda()
    library = next((Path(mx.__file__).parent / "lib").glob("libmlx.*"), None)
    set_mode = getattr(ctypes.CDLL(str(library)), SET_COMPILE_MODE, None) if library else None
    if set_mode:
        set_mode(FUSE if fuses() else NO_FUSE)
    elif not fuses():  # Python has only all or nothing
        mx.disable_compile()


def fuses() -> bool:
    """Return whether `mx.compile` is to fuse operations: by MLX_GMVAE_FUSE, else on Metal alone.

    On Metal a fused kernel compiles in milliseconds. On CUDA each takes a second and more, the
    hundred of a training step minutes, and on the CPU each goes through g++, a minute for a step
    that then gains 4 %. Raises InputError.
    """
    import mlx.core as mx

    wanted = os.environ.get(FUSE_VARIABLE)
    if wanted is None:
        return on_gpu() and mx.metal.is_available()
    if wanted not in ("0", "1"):
        raise InputError(f"{FUSE_VARIABLE} is {wanted!r}; it must be 0 or 1")
    return wanted == "1"


def compiles_for_minutes() -> bool:
    """Return whether steps are fused on an NVIDIA GPU, which only MLX_GMVAE_FUSE=1 asks for."""
    import mlx.core as mx

    return on_gpu() and fuses() and not mx.metal.is_available()


def set_up_cuda() -> None:
    """Set what MLX reads of the environment when it first uses an NVIDIA GPU, unless it is set.

    Compiled kernels are kept beside what else is kept: by itself MLX keeps them among the temporary
    files, where they are lost with a restart. No CUDA graphs: finding, comparing and updating one
    for each hundred kernels costs more here than to launch them (`benchmarks/gpu.py`).
    """
    import mlx.core as mx

    if on_gpu() and not mx.metal.is_available():
        kernels = str(cache_dir() / "kernels" / version("mlx"))
        os.environ.setdefault(KERNELS_VARIABLE, kernels)
        os.environ.setdefault(GRAPHS_VARIABLE, "0")


def has_gpu() -> bool:
    """Whether this build of MLX can run on a GPU here."""
    import mlx.core as mx

    return mx.is_available(mx.Device(mx.gpu))


def gpu_memory() -> int | None:
    """Bytes of the GPU in use, on a Mac those of the machine; None where the CPU is in use."""
    import mlx.core as mx

    if not on_gpu():
        return None
    info = mx.device_info()
    return int(info.get("memory_size") or info.get("total_memory") or 0)


def compiles() -> bool:
    """Whether `mx.compile` traces a function once here, or runs it as Python each time.

    It does the latter where it is disabled, and on the CPU where `g++ --version` fails.
    """
    import mlx.core as mx

    calls = 0

    @mx.compile
    def counted(x: mx.array) -> mx.array:
        nonlocal calls
        calls += 1
        return mx.abs(x)

    for _ in range(3):  # a process's very first call is traced twice
        counted(mx.array(0))
    return calls < 3


def _why_eager() -> str:
    if os.environ.get("MLX_DISABLE_COMPILE"):
        return "MLX_DISABLE_COMPILE is set"
    # What macOS has for a g++ without Apple's tools only asks for them.
    return "xcode-select --install" if platform.system() == "Darwin" else "install g++"


def describe() -> str:
    """One line: device, chip, BLAS, compiled or eager, MLX, and the remedy for what is slow."""
    return f"device: {describe_device()}, mlx {version('mlx')}"


def describe_device() -> str:
    """Device, chip, BLAS, compiled or eager."""
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
