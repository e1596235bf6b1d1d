"""The BLAS that MLX is given on Linux: scipy's under ordinary names, the system's, or one named."""

import ctypes.util
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mlx_gmvae.device import backend, blas
from mlx_gmvae.system.processors import available_processors

import numpy as np
import pytest
from conftest import ROOT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate"),
    pytest.mark.skipif(backend.has_gpu(), reason="the device line is of the GPU here"),
]
SHOW = "from mlx_gmvae.device import backend; print(backend.describe())"


def python(code: str, **environment: str) -> str:
    """What a fresh process prints, in an environment of nothing but `environment`."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MLX_GMVAE_BLAS": "scipy", **environment},
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout.strip()  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder in which a first process has made the copy; skips where none can be."""
    folder = tmp_path_factory.mktemp("cache")
    python(SHOW, XDG_CACHE_HOME=str(folder))
    if not list(folder.glob("mlx_gmvae/blas/*/*.so")):  # as in conda
        pytest.skip("this scipy brings no OpenBLAS of its own")
    yield folder


def copies(cache: Path) -> list[Path]:
    return [path for path in cache.glob("mlx_gmvae/blas/*/*") if not path.is_symlink()]


def test_scipys_openblas_is_used_and_kept_under_a_name_with_its_hash(cache: Path) -> None:
    scipy = importlib.util.find_spec("scipy")
    assert scipy is not None and scipy.origin is not None
    (original,) = Path(scipy.origin).parents[1].glob("scipy.libs/libscipy_openblas-*.so")
    (copy,) = copies(cache)
    assert copy.name == f"{copy.parent.name}-{copy.stat().st_size}.so"
    assert copy.name.startswith(original.stem.replace("libscipy_openblas", "libopenblas"))
    before = copy.stat().st_mtime_ns
    assert "OpenBLAS 0." in python(SHOW, XDG_CACHE_HOME=str(cache))
    assert copies(cache) == [copy] and copy.stat().st_mtime_ns == before  # it is made once


# For each line, so many processes with an environment make and load the copy of a small library.
# Each starts when the one before has written its copy, and none puts its own in place before all
# have. Printed are their statuses and the copies that they use. To import lief takes a second, so
# that all are forks of this one.
KEEPER = """
import ctypes, json, os, select, signal, sys
import lief
from mlx_gmvae.device import blas
small, commit = blas._file_of(ctypes.CDLL("libm.so.6")), blas.commit
for line in sys.stdin:
    num, environment = json.loads(line)
    (written, writes), (waits, go), (found, finds) = os.pipe(), os.pipe(), os.pipe()
    def together(*paths):
        os.write(writes, b".")
        os.read(waits, 1)
        commit(*paths)
    blas.commit = together
    children = []
    for _ in range(num):
        children.append(os.fork())
        if not children[-1]:
            signal.alarm(30)
            os.environ.update(environment)
            copy = blas._file_of(blas._copied(small, "libm").handle)
            os.write(finds, f"{copy}\\n".encode())
            os._exit(0)
        if select.select([written], [], [], 10)[0]:
            os.read(written, 1)
    os.write(go, b"." * num)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    os.close(finds)
    print(json.dumps([statuses, os.read(found, 10_000).decode().split()]), flush=True)
    for end in (written, writes, waits, go, found):
        os.close(end)
"""
Keeper = Callable[..., list[Path]]


@pytest.fixture(scope="module")
def keepers(cache: Path) -> Iterator[Keeper]:
    """A function of a number of processes, and of their environment, for the copies they use."""
    with subprocess.Popen(
        [sys.executable, "-c", KEEPER], cwd=ROOT, text=True,
        env={"PATH": "/usr/bin:/bin", "MLX_GMVAE_BLAS": "none"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip

        def found(num: int, **environment: str) -> list[Path]:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps([num, environment]) + "\n")
            process.stdin.flush()
            statuses, paths = json.loads(process.stdout.readline())
            assert statuses == [0] * num
            return [*map(Path, paths)]

        yield found


def test_processes_that_start_together_share_one_whole_copy(
    keepers: Keeper, tmp_path: Path
) -> None:
    ours, theirs = keepers(2, XDG_CACHE_HOME=str(tmp_path))
    assert copies(tmp_path) == [ours] == [theirs]
    assert ours.name == f"{ours.parent.name}-{ours.stat().st_size}.so"


@pytest.fixture(scope="module")
def lacking(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy as if made in an environment that is gone: nothing it needs is found."""
    (copy,) = copies(cache)
    folder = os.fsencode(blas._scipys_library().parent)
    content = copy.read_bytes()
    assert content.count(b":" + folder) == 1
    path = tmp_path_factory.mktemp("lacking") / "lacking.so"
    path.write_bytes(content.replace(b":" + folder, b":" + b"/" * len(folder)))
    return path


def test_a_copy_that_cannot_be_loaded_is_made_anew(
    keepers: Keeper, lacking: Path, tmp_path: Path
) -> None:
    (copy,) = keepers(1, XDG_CACHE_HOME=str(tmp_path))
    whole = copy.read_bytes()
    copy.write_bytes(whole[:100_000])
    assert keepers(1, XDG_CACHE_HOME=str(tmp_path)) == [copy]
    assert copy.read_bytes() == whole
    copy.unlink()
    lost = copy.with_name(f"{copy.parent.name}-{lacking.stat().st_size}.so")
    shutil.copy(lacking, lost)
    assert keepers(1, XDG_CACHE_HOME=str(tmp_path)) == [copy]
    assert copy.read_bytes() == whole


def test_without_a_cache_folder_the_copy_is_kept_in_a_temporary_one(
    keepers: Keeper, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    (copy,) = keepers(1, HOME=str(tmp_path / "file"), TMPDIR=str(tmp_path))
    assert [*tmp_path.glob(f"mlx_gmvae-{os.getuid()}/blas/*/*.so")] == [copy]


def test_without_any_place_for_the_copy_the_line_names_the_remedy(
    cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    code = "import tempfile; tempfile.tempdir = 'file'; "
    code += f"import os; os.chdir({str(tmp_path)!r}); import sys; sys.path.insert(0, {str(ROOT)!r})"
    line = python(f"{code}\n{SHOW}", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert "reference BLAS (slow: " in line and "set XDG_CACHE_HOME to a folder" in line
    assert "Not a directory" in line and "pip install" not in line


def test_without_lief_the_line_names_it(cache: Path, tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['lief'] = None; "
    assert "pip install lief" in python(hidden + SHOW, XDG_CACHE_HOME=str(tmp_path))
    assert not list(tmp_path.rglob("*.so"))


def test_what_the_system_has_goes_first(cache: Path) -> None:
    line = python(SHOW, XDG_CACHE_HOME=str(cache), MLX_GMVAE_BLAS="")
    if ctypes.util.find_library("openblas") is None:
        assert "OpenBLAS 0." in line  # scipy's, without being asked for


def test_none_and_too_late_leave_mlx_its_own() -> None:
    assert "reference BLAS (slow: MLX_GMVAE_BLAS is none)" in python(SHOW, MLX_GMVAE_BLAS="none")
    late = f"import warnings; warnings.simplefilter('ignore'); import mlx.core; {SHOW}"
    assert "import mlx_gmvae before mlx" in python(late)


@pytest.mark.parametrize(("chosen", "warned"), [("scipy", True), ("none", False)])
def test_mlx_imported_first_is_said_once_where_it_costs(chosen: str, warned: bool) -> None:
    code = "import sys, warnings\nimport mlx.core\n"
    code += "with warnings.catch_warnings(record=True) as caught:\n"
    code += "    warnings.simplefilter('always')\n"
    code += "    import mlx_gmvae\n    import mlx_gmvae.errors\n    from mlx_gmvae import load\n"
    code += "print(*(f'{each.category.__name__} {each.message} {each.lineno}' for each in caught))"
    said = "RuntimeWarning MLX works on a slow BLAS: import mlx_gmvae before mlx 5"
    assert python(code, MLX_GMVAE_BLAS=chosen) == (said if warned else "")


def test_only_mlx_gets_the_copy_and_its_threads(cache: Path, tmp_path: Path) -> None:
    """Other packages on the same library keep their threads, and their symbols."""
    system = blas._write_copy(blas._scipys_library(), tmp_path / "system", names=[])
    code = f"""
import ctypes
system = ctypes.CDLL({str(system)!r})
system.openblas_set_num_threads(2)
from mlx_gmvae.device import backend
import mlx.core as mx
mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
in_use = {{line.split()[-1].rpartition("/")[2] for line in open("/proc/self/maps")}}
print(backend.describe())
print(system.openblas_get_num_threads(), backend.fast_blas().threads_in_use())
print(hasattr(ctypes.CDLL(None), "cblas_sgemm"))
print([name for name in sorted(in_use) if name.startswith(("libblas", "liblapack"))])
print(sum(name.startswith("system-") for name in in_use))
"""
    said = python(code, XDG_CACHE_HOME=str(tmp_path), MLX_GMVAE_BLAS=str(system))
    device, *others = said.splitlines()
    assert "OpenBLAS 0." in device  # which is named
    assert others == ["2 1", "False", "[]", "2"]


def test_unusable_libraries_are_refused_for_what_they_are(lacking: Path, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not a library" * 1000)
    unusable = {
        f"{tmp_path}/text.so": "invalid ELF header",
        str(lacking): "cannot open shared object file",  # its Fortran library
        "libm.so.6": "no cblas_sgemm",
    }
    code = f"""
import os
from mlx_gmvae.device import blas
for named in {[*unusable]}:
    os.environ["MLX_GMVAE_BLAS"] = named
    found = blas.load()
    print(found.refused, found.problem)
"""
    lines = python(code, MLX_GMVAE_BLAS="none").splitlines()
    for line, reason in zip(lines, unusable.values(), strict=True):
        assert line.startswith("True MLX_GMVAE_BLAS names ") and reason in line, line


def test_a_library_that_is_not_there_is_one_line_and_status_2(tmp_path: Path) -> None:
    model = ROOT / "pretrained" / "gmvae_digits_K10_dims_0008.npz"
    done = subprocess.run(
        [sys.executable, str(ROOT / "generate.py"), "--model", str(model)],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "MLX_GMVAE_BLAS": f"{tmp_path}/nowhere.so"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "No such file" in done.stderr, done.stderr
    assert "MLX_GMVAE_BLAS" in done.stderr and not (tmp_path / "samples.png").exists()


def test_the_library_interface_refuses_it_too() -> None:
    code = (
        "import mlx_gmvae\n"
        "try:\n    mlx_gmvae.load_model\n"
        "except ValueError as error:\n    print(error)"
    )
    assert "MLX_GMVAE_BLAS names" in python(code, MLX_GMVAE_BLAS="/nowhere.so")


def test_products_and_linear_algebra_agree_with_numpy(cache: Path) -> None:
    """LAPACK goes through the library as well as products do."""
    code = """
import mlx_gmvae, mlx.core as mx, numpy as np
from mlx_gmvae.device import backend
assert "OpenBLAS" in backend.describe()
mx.set_default_device(mx.cpu)
a = np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32)
s = a @ a.T + 60 * np.eye(60, dtype=np.float32)
x, y = mx.array(a), mx.array(s)
q, r = mx.linalg.qr(x)
u, d, v = mx.linalg.svd(x)
w, e = mx.linalg.eigh(y)
l = mx.linalg.cholesky(y)
for found, wanted in [
    (x @ x.T, a @ a.T), (mx.linalg.inv(y), np.linalg.inv(s)), (l, np.linalg.cholesky(s)),
    (d, np.linalg.svd(a)[1]), ((u * d) @ v, a), (q @ r, a), (q.T @ q, np.eye(60)),
    (w, np.linalg.eigvalsh(s)), ((e * w) @ e.T, s),
]:
    print(float(np.abs(np.array(found) - wanted).max() / np.abs(wanted).max()))
"""
    errors = python(code, XDG_CACHE_HOME=str(cache)).split()
    assert len(errors) == 9
    np.testing.assert_array_less(np.array(errors, float), 1e-5)


def test_openblas_gives_the_same_numbers_as_the_reference(cache: Path) -> None:
    code = (
        "import mlx_gmvae, mlx.core as mx; mx.random.seed(0);"
        "a = mx.random.normal((200, 300)); print(float((a @ a.T).sum()))"
    )
    fast = python(code, XDG_CACHE_HOME=str(cache))
    slow = python(code, MLX_GMVAE_BLAS="none")
    assert float(fast) == pytest.approx(float(slow), rel=1e-4)


def test_cores_follow_the_threads_that_openblas_may_use(cache: Path) -> None:
    show = "from mlx_gmvae.device import backend; print(backend.cores())"
    place = str(cache)
    assert python(show, XDG_CACHE_HOME=place, OPENBLAS_NUM_THREADS="1") == "1"
    assert int(python(show, XDG_CACHE_HOME=place)) == available_processors()


def test_the_device_line_names_the_kernels_in_use(cache: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("kernels of x86-64 are asked for")
    line = python(SHOW, XDG_CACHE_HOME=str(cache), OPENBLAS_CORETYPE="Haswell")
    assert " Haswell," in line
