"""A fast BLAS for MLX's Linux wheel, whose reference BLAS is 30 times slower.

MLX is linked to its BLAS when it is imported, so `load` must run before `mlx.core` is imported.
On macOS MLX uses Accelerate, and nothing here is needed.

Almost every machine has an OpenBLAS: scipy's wheel contains one, with the prefix `scipy_` on each
of its symbols. MLX gets its own copy without that prefix, in the user's cache folder. The loader
finds the copy under the file names that MLX's wheel asks for, and under no others, so the numbers
of threads in other packages do not change.
"""

import contextlib
import ctypes
import importlib.util
import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..system.cache import cache_dir, private_dir
from ..system.files import commit, remove_stale, temporary
from ..system.processors import available_processors

VARIABLE = "MLX_GMVAE_BLAS"
PREFIX = "scipy_"
PLACE = "blas"  # in the cache folder
INSTALL = "pip install lief scipy, or apt install libopenblas0-pthread"
WRITABLE = "set XDG_CACHE_HOME to a folder that can be written"
RTLD_DI_LINKMAP = 2  # of glibc's dlinfo


@dataclass(frozen=True)
class Blas:
    """The BLAS that was found: its name and number of threads, or the problem if there is none.

    `threads` is 0 if the library does not tell it. `refused` means that the user named a library
    that cannot be used, which is an error without a fallback. `is_late` means that MLX was
    imported before and keeps the reference BLAS.
    """

    name: str = ""
    threads: int = 0
    problem: str = ""
    refused: bool = False
    is_late: bool = False
    handle: ctypes.CDLL | None = None

    def use_threads(self, num: int) -> None:
        """Set the number of threads of matrix products, if the library supports that."""
        if self.threads and self.handle:
            self.handle.openblas_set_num_threads(num)

    def threads_in_use(self) -> int:
        """Return the current number of threads of matrix products, or 0 if unknown."""
        return int(self.handle.openblas_get_num_threads()) if self.threads and self.handle else 0

    def require_usable(self) -> None:
        """Raise InputError if the library that the user named cannot be used."""
        if self.refused:
            raise InputError(self.problem)


def load() -> Blas:
    """Load a fast BLAS in place of MLX's own.

    Tried in order: the environment variable MLX_GMVAE_BLAS (the path of a library, "scipy" or
    "none"); the OpenBLAS of the system, up to 5 % faster than scipy's where they were compared;
    that of the active conda environment; that of scipy.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "none":
        return Blas(problem=f"{VARIABLE} is none")
    if "mlx.core" in sys.modules:
        # It is not late if another BLAS is preloaded for the whole process.
        is_late = not hasattr(ctypes.CDLL(None), "cblas_sgemm")
        return Blas(problem="import mlx_gmvae before mlx", is_late=is_late)
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
    except Exception as error:  # disks and libraries of other machines fail in many ways
        problem = " ".join(str(error).split())
        remedy = WRITABLE if isinstance(error, _NoPlace) else INSTALL
        return Blas(problem=f"{problem}; {remedy}", refused=bool(chosen))


def _loaded(path: str) -> Blas:
    """Load a library for MLX. Raises OSError if it cannot be loaded or is not a BLAS."""
    library = ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL)
    if not hasattr(library, "cblas_sgemm"):
        raise OSError(f"{path} has no cblas_sgemm")
    if hasattr(library, "openblas_set_num_threads"):
        # If the copy fails, use the library itself, which all packages then share.
        with contextlib.suppress(Exception):
            original = _file_of(library)
            status = original.stat()
            return _copied(original, original.stem, status.st_size, status.st_mtime_ns)
    return _opened(path, for_everyone=True)


def _file_of(library: ctypes.CDLL) -> Path:
    """Return the path of a loaded library."""

    class LinkMap(ctypes.Structure):
        _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]

    found = ctypes.POINTER(LinkMap)()
    handle = ctypes.c_void_p(library._handle)
    if ctypes.CDLL(None).dlinfo(handle, RTLD_DI_LINKMAP, ctypes.byref(found)):
        raise OSError("the loader does not say where the library is")
    return Path(os.fsdecode(found.contents.name)).resolve()


def _opened(path: str, for_everyone: bool) -> Blas:
    """Load a BLAS, in the global symbol scope or only under its own file names."""
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL if for_everyone else ctypes.RTLD_LOCAL)
    try:
        threads = min(int(library.openblas_get_num_threads()), available_processors())
    except AttributeError:
        threads = 0
    found = Blas(_name_of(library, path), threads, handle=library)
    found.use_threads(1)  # `parallel` distributes the cores
    return found


def _name_of(library: ctypes.CDLL, path: str) -> str:
    """Return the version and the kernels in use, such as "OpenBLAS 0.3.30 SkylakeX"."""
    try:
        config, core = library.openblas_get_config, library.openblas_get_corename
    except AttributeError:
        return f"BLAS from {path}"
    config.restype = core.restype = ctypes.c_char_p
    return " ".join([*config().decode().split()[:2], core().decode()])


def _loaded_from_scipy() -> Blas:
    """Load a copy of the OpenBLAS in scipy's wheel, whose symbols have their usual names."""
    original = _scipys_library()
    # The name contains the hash that the wheel gives the library, so a new release has a new copy.
    return _copied(original, original.stem.replace("libscipy_openblas", "libopenblas"))


def _scipys_library() -> Path:
    scipy = importlib.util.find_spec("scipy")  # without importing it
    if scipy is None or scipy.origin is None:
        raise OSError("scipy is not installed")
    folder = Path(scipy.origin).parent.with_name("scipy.libs")
    found = sorted(folder.glob("libscipy_openblas-*.so"))
    if not found:
        raise OSError("this scipy contains no OpenBLAS")
    return found[0].resolve()


def _names_for_mlx() -> list[str]:
    """Return the file names of BLAS and LAPACK in MLX's wheel; empty for other builds of MLX."""
    mlx = importlib.util.find_spec("mlx")  # without importing it
    folders = [Path(place).parent for place in (mlx and mlx.submodule_search_locations) or []]
    found = (path for each in folders for path in each.glob("mlx_*.libs/lib*-*.so*"))
    return sorted({path.name for path in found if path.name.startswith(("libblas-", "liblapack-"))})


def _copied(original: Path, name: str, *version: int) -> Blas:
    """Load MLX's copy of an OpenBLAS, made on first use; `version` distinguishes equal names."""
    names = _names_for_mlx()
    name += f"-{zlib.crc32(repr([version, names]).encode()):08x}"
    problem = None
    for place in (cache_dir, private_dir):
        try:
            return _kept(original, place() / PLACE / name, names)
        except OSError as error:
            problem = error
    raise _NoPlace(str(problem))


class _NoPlace(OSError):
    """The copy cannot be written anywhere."""


def _kept(original: Path, folder: Path, names: list[str]) -> Blas:
    """Load the copy in `folder`, or make it. Raises OSError."""
    for copy in folder.glob("lib*-*.so"):
        # The name has the size of the file, because the loader crashes on a truncated file.
        if copy.stem == f"{folder.name}-{copy.stat().st_size}":
            try:
                return _opened(str(copy), for_everyone=not names)
            except OSError:
                continue  # made in an environment that no longer exists
    return _opened(str(_write_copy(original, folder, names)), for_everyone=not names)


def _write_copy(original: Path, folder: Path, names: list[str]) -> Path:
    """Copy a library in an atomic write, without the prefix of its symbols; return the copy.

    The copy depends on each of `names`, which are links to itself. So the loader registers it
    under these names, and uses it for every library that needs one of them later.
    """
    import lief

    library = lief.ELF.parse(str(original))
    if library is None:
        raise OSError(f"{original} cannot be read")
    for symbol in library.dynamic_symbols:
        symbol.name = str(symbol.name).removeprefix(PREFIX)
    tags = lief.ELF.DynamicEntry.TAG
    for tag in (tags.RPATH, tags.RUNPATH):  # relative to the folder of the library
        while library.has(tag):
            library.remove(tag)
    # The Fortran library that it needs stays in its own place.
    library.add(lief.ELF.DynamicEntryRunPath(f"$ORIGIN:{original.parent}"))
    # It needs a different name, or the loader would confuse it with the original.
    for entry in library.dynamic_entries:
        if isinstance(entry, lief.ELF.DynamicSharedObject):
            entry.name = f"{folder.name}.so"
    for name in names:
        library.add_library(name)
    remove_stale(folder)
    with temporary(folder / f"{folder.name}.so") as written:
        library.write(str(written))
        copy = written.with_name(f"{folder.name}-{written.stat().st_size}.so")
        for name in names:
            _link(folder / name, copy.name)
        commit(written, copy)
    return copy


def _link(link: Path, target: str) -> None:
    """Create or replace a symbolic link to a file in the same folder."""
    if not link.is_symlink() or os.readlink(link) != target:
        made = link.with_name(f"{link.name}-{os.getpid()}")
        os.symlink(target, made)
        os.replace(made, link)
