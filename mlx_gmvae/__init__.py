"""Gaussian-mixture variational autoencoders for Apple silicon, native in MLX.

Public names are imported on first use, so that a script imports only what it needs.
"""

from .system import startup_signals

is_script = startup_signals.guard_imports()  # before the imports that take time

import sys  # noqa: E402
from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from .device import backend  # noqa: E402
from .device.installed import backend_problem  # noqa: E402

if problem := backend_problem():
    if is_script:
        sys.exit(startup_signals.refuse(problem))
    raise ImportError(problem)
backend.load_fast_blas()  # before anything imports mlx.core
if sys.platform == "linux":  # on a Mac it is done only if the CPU is requested
    backend.interleave_streams()
if is_script:  # the process is ours; its allocator is configured before memory is allocated
    backend.keep_freed_memory()

if TYPE_CHECKING:  # the names that `__getattr__` imports
    from .config import ModelConfig as ModelConfig
    from .config import TrainConfig as TrainConfig
    from .data.datasets import load_dataset as load_dataset
    from .encoders.encode import encode_images as encode_images
    from .errors import InputError as InputError
    from .estimator import GMVAEClusterer as GMVAEClusterer
    from .models.gmvae import GMVAE as GMVAE
    from .models.vae import VAE as VAE
    from .runs.build_and_load import build_model as build_model
    from .runs.build_and_load import load as load
    from .runs.build_and_load import save_model as save_model
    from .runs.checked_model import Model as Model
    from .runs.checkpoint import load_model as load_model
    from .runs.publish import push_to_hub as push_to_hub
    from .training.api import train as train

__version__ = "0.3.0"

_PUBLIC = {
    "GMVAE": "models.gmvae",
    "GMVAEClusterer": "estimator",
    "InputError": "errors",
    "Model": "runs.checked_model",
    "ModelConfig": "config",
    "TrainConfig": "config",
    "VAE": "models.vae",
    "build_model": "runs.build_and_load",
    "encode_images": "encoders.encode",
    "load": "runs.build_and_load",
    "load_dataset": "data.datasets",
    "load_model": "runs.checkpoint",
    "push_to_hub": "runs.publish",
    "save_model": "runs.build_and_load",
    "train": "training.api",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    backend.fast_blas().require_usable()
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
