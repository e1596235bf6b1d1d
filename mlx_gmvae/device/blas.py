"""A fast BLAS for MLX's Linux wheel, which brings a reference one that is 30 times slower.

MLX binds `cblas_sgemm` by name when it is imported, so a library that is in the global symbol
scope by then wins: `load` must run before `mlx.core` is first imported. On macOS MLX uses
Accelerate, and nothing here is needed.

Almost every machine has an OpenBLAS already: scipy's wheel carries one, with `scipy_` before each
of its symbols. A copy without the prefix is kept in the user's cache folder.
"""

import ctypes
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .cache import cache_dir
from .files import put, remove_stale, temporary

VARIABLE = "MLX_GMVAE_BLAS"
PREFIX = "scipy_"
PLACE = "blas"  # in the cache folder
INSTALL = "pip install lief scipy, or apt install libopenblas0-pthread"


@dataclass(frozen=True)
class Blas:
    """What was found: its name for people, and the threads it would use; or why nothing was.

    `threads` is 0 where the library does not say. `refused` means that the person named a library
    that cannot be used, which is an error and not something to fall back from.
    """

    name: str = ""
    threads: int = 0
    problem: str = ""
    refused: bool = False
    handle: ctypes.CDLL | None = None

    def use_threads(self, num: int) -> None:
        """Let the library's products take `num` threads, if it can be told so."""
        if self.threads and self.handle:
            self.handle.openblas_set_num_threads(num)

    def threads_in_use(self) -> int:
        """How many threads its products take now; 0 where it does not say."""
        return int(self.handle.openblas_get_num_threads()) if self.threads and self.handle else 0

    def require_usable(self) -> None:
        """Raise InputError if the library that was asked for cannot be used."""
        if self.refused:
            raise InputError(self.problem)


def load() -> Blas:
    """Put a fast BLAS ahead of MLX's own.

    Tried in order: what the environment variable MLX_GMVAE_BLAS says (a library's file, "scipy",
    or "none"); the system's OpenBLAS, up to 5 % faster than scipy's where they were compared; the
    active conda environment's; scipy's.
    """
    chosen = os.environ.get(VARIABLE, "")
    if "mlx.core" in sys.modules:
        return Blas(problem="import mlx_gmvae before mlx")
    if chosen == "none":
        return Blas(problem=f"{VARIABLE} is none")
    if chosen and chosen != "scipy":
        try:
            return _loaded(chosen)
        except OSError as error:
            problem = f"{VARIABLE} names a library that cannot be used ({error}); unset it"
            return Blas(problem=problem, refused=True)
    conda = os.environ.get("CONDA_PREFIX")
    installed = ["libopenblas.so.0", *([f"{conda}/lib/libopenblas.so.0"] if conda else [])]
    for library in [] if chosen else installed:
        try:
            return _loaded(library)
        except OSError:
            continue
    try:
        return _loaded_from_scipy()
    except Exception as error:  # whatever a stranger's disk and libraries come up with
        problem = " ".join(str(error).split())
        return Blas(problem=f"{problem}; {INSTALL}", refused=bool(chosen))


def _loaded(path: str) -> Blas:
    """Load a library for everyone. Raises OSError if it cannot be, or is no BLAS."""
    # Looked at first, then shown to everyone: what turns out to be no BLAS stays out of the way.
    library = ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL)
    if not hasattr(library, "cblas_sgemm"):
        raise OSError(f"{path} has no cblas_sgemm")
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    try:
        threads = int(library.openblas_get_num_threads())
    except AttributeError:
        threads = 0
    found = Blas(_name_of(library, path), threads, handle=library)
    found.use_threads(1)  # `parallel` shares the cores
    return found


def _name_of(library: ctypes.CDLL, path: str) -> str:
    """The version, and the processor whose kernels are in use, as "OpenBLAS 0.3.30 SkylakeX"."""
    try:
        config, core = library.openblas_get_config, library.openblas_get_corename
    except AttributeError:
        return f"BLAS from {path}"
    config.restype = core.restype = ctypes.c_char_p
    return " ".join([*config().decode().split()[:2], core().decode()])


def _loaded_from_scipy() -> Blas:
    """The OpenBLAS in scipy's wheel, by a copy whose symbols have their ordinary names."""
    original = _scipys_library()
    # The name carries the hash that the wheel gives the library, so a new release has a new copy;
    # and the size, since the loader crashes on a file that was cut.
    name = original.stem.replace("libscipy_openblas", "libopenblas")
    for copy in (cache_dir() / PLACE).glob(f"{name}-*.so"):
        if copy.stem == f"{name}-{copy.stat().st_size}":
            try:
                return _loaded(str(copy))
            except OSError:
                continue  # made in an environment that is gone
    return _loaded(str(_write_unprefixed(original, name)))


def _scipys_library() -> Path:
    scipy = importlib.util.find_spec("scipy")  # without importing it
    if scipy is None or scipy.origin is None:
        raise OSError("scipy is not installed")
    folder = Path(scipy.origin).parent.with_name("scipy.libs")
    found = sorted(folder.glob("libscipy_openblas-*.so"))
    if not found:
        raise OSError("this scipy brings no OpenBLAS")
    return found[0].resolve()


def _write_unprefixed(original: Path, name: str) -> Path:
    """Copy a library without the prefix of its symbols, at once or not at all; returns the copy."""
    import lief

    library = lief.ELF.parse(str(original))
    if library is None:
        raise OSError(f"{original} cannot be read")
    for symbol in library.dynamic_symbols:
        symbol.name = str(symbol.name).removeprefix(PREFIX)
    tags = lief.ELF.DynamicEntry.TAG
    for tag in (tags.RPATH, tags.RUNPATH):  # relative to the library's own folder
        while library.has(tag):
            library.remove(tag)
    # The Fortran library that it needs stays where it is.
    library.add(lief.ELF.DynamicEntryRunPath(str(original.parent)))
    # A name of its own, or the loader would take scipy's for it, or it for scipy's.
    for entry in library.dynamic_entries:
        if isinstance(entry, lief.ELF.DynamicSharedObject):
            entry.name = f"{name}.so"
    remove_stale(cache_dir() / PLACE)
    with temporary(cache_dir() / PLACE / f"{name}.so") as written:
        library.write(str(written))
        copy = written.with_name(f"{name}-{written.stat().st_size}.so")
        put(written, copy)
    return copy
